r"""Estimates through invertible maps, which carry data to where an estimator is accurate.

A bijection changes differential entropy by an amount that is known exactly,

.. math:: h(X) = h(f(X)) - E \ln |\det J_f(X)|,

and cross-entropy likewise, while mutual information does not change at all when each variable
goes through a map of its own. This holds for any bijection, however well or badly it was fitted,
as long as it is measured on samples that it was not fitted to.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.gaussian import Gaussian, refuse_redundant
from infoprobe.estimators.knn.knn import KNN
from infoprobe.estimators.knn.kozachenko_leonenko import refuse_atoms
from infoprobe.estimators.knn.surrogates import normal_scores
from infoprobe.findings import Finding

# Of the samples that are not measured, every so many-th tells when to stop fitting.
_STOP = 8
# From how many nats on what a map left, or made worse, is worth a finding.
_LEFT = 0.1
# A feature is discrete if so large a share of its values is one and the same.
_ATOM = 0.01
# Numbers that go through a map at a time.
_BLOCK = 1 << 20

_ARGUMENTS = {
    "entropy": ("x",),
    "cross_entropy": ("p", "q"),
    "kl_divergence": ("p", "q"),
    "mutual_information": ("x", "y"),
    "total_correlation": ("x",),
}

# What the residual estimator measures, if it is something else.
_OF_RESIDUAL = {"total_correlation": "entropy", "kl_divergence": "cross_entropy"}


class UpperBound(NamedTuple):
    """A bound from samples, 0-dim float64 tensors in nats.

    Attributes:
        value: In expectation not below the truth.
        stderr: Its standard error.
    """

    value: Tensor
    stderr: Tensor


@dataclass(frozen=True, eq=False)
class Transported:
    r"""A variable and the maps that carry it, each fitted without the samples that it measures.

    Attributes:
        maps: One for each fold: modules whose ``forward(x)`` gives :math:`z = f(x)`, (n, d), and
            :math:`\ln |\det J_f|`, (n,), and whose ``inverse(z)`` the same of the inverse.
        n_fit: How many samples each map was fitted to; the least of all folds.
        n_stop: How many told it when to stop; the least of all folds.
        n: How many were measured, in all folds.
        d: How many features they have.
        bound: The held-out negative log-likelihood :math:`-E \ln q(X)` of the density
            :math:`q(x) = \varphi(f(x))\, |\det J_f(x)|` that a map makes of a standard Gaussian
            one: an upper bound of h(X) in expectation.
        gain: By how many nats this bound is below the one that a Gaussian with the mean and
            covariance of the same samples gives.
        gain_stderr: The standard error of that.
        entropy: :math:`h(X)` itself, 0-dim float64. It is below the bound by what the residual
            estimator finds: by how much mean and covariance of f(X) are off, and its
        negentropy: How much less entropy f(X) has than a Gaussian with its covariance, in nats,
            as far as the residual estimator sees it. Near 0, nothing is left to find.
    """

    maps: tuple[nn.Module, ...]
    n_fit: int
    n_stop: int
    n: int
    d: int
    bound: UpperBound
    gain: float
    gain_stderr: float
    entropy: Tensor
    negentropy: float

    def findings(self, name: str) -> list[Finding]:
        """What stands in the way of trusting a number that was measured after this transport."""
        found = []
        if self.negentropy >= _LEFT + 2 * float(self.bound.stderr):
            found.append(
                Finding(
                    "warning",
                    f"{name}: {self.negentropy:.2f} nats of negentropy remain after transport",
                    self.negentropy,
                    "The residual estimator may have missed as much again: pass more samples, "
                    "or a map that can do more.",
                )
            )
        if self.gain <= -_LEFT - 2 * self.gain_stderr:
            found.append(
                Finding(
                    "warning",
                    f"{name}: the map did not help: on held-out samples a Gaussian fits better, "
                    f"by {-self.gain:.2f} nats",
                    self.gain,
                    "Pass more samples, or use ip.KNN(calibration='gaussian') without transport.",
                )
            )
        return found

    def __repr__(self) -> str:
        return (
            f"Transported({len(self.maps)} maps {type(self.maps[0]).__name__}, d={self.d:,}, "
            f"fitted to {self.n_fit:,} samples and stopped by {self.n_stop:,}, "
            f"measured on {self.n:,}: bound {float(self.bound.value):.4f} "
            f"± {float(self.bound.stderr):.4f}, gain {self.gain:+.4f} ± {self.gain_stderr:.4f}, "
            f"negentropy left {self.negentropy:+.4f})"
        )


@dataclass(frozen=True, eq=False)
class TransportReport:
    """An estimate and how it came about.

    Attributes:
        measure: The name of the method.
        value: What the method returns: a 0-dim float64 tensor in nats.
        transported: The variables that were carried, by the names of the arguments.
        findings: Reasons not to trust the value; empty where none was found.
    """

    measure: str
    value: Tensor
    transported: dict[str, Transported]
    findings: list[Finding]

    def __repr__(self) -> str:
        lines = [f"{self.measure}: {float(self.value):.4f} nats"]
        lines += [f"  {name}: {variable!r}" for name, variable in self.transported.items()]
        lines += [f"  {finding.what}. {finding.remedy}" for finding in self.findings]
        return "\n".join(lines)


class _Part(NamedTuple):
    """The samples of a fold.

    Attributes:
        z: Carried by a map, (n, d), in their own type.
        nll: The negative log-likelihood of each, (n,) float64.
        reference: The same of a Gaussian.
    """

    z: Tensor
    nll: Tensor
    reference: Tensor


class _Fold(NamedTuple):
    """Which samples a map is fitted to, which stop it, and which it measures."""

    fit: Tensor
    stop: Tensor
    measure: Tensor


@dataclass(frozen=True)
class Transport(ABC):
    """What all estimators through invertible maps share; see :class:`Flow` for the arguments."""

    _: KW_ONLY
    residual: Any = KNN(calibration="gaussian")
    folds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        checks.require_integer(self.folds, 2, None, "folds")
        checks.require_integer(self.seed, 0, 2**62, "seed")
        missing = [
            name for name in ("entropy",) if not callable(getattr(self.residual, name, None))
        ]
        if missing or isinstance(self.residual, type):
            raise ArgumentTypeError(
                "residual",
                "expected an estimator of continuous variables, such as "
                f"ip.KNN(calibration='gaussian'), got {self.residual!r}.",
            )

    @abstractmethod
    def _fit(self, x: Tensor, stop: Tensor, seed: int) -> nn.Module:
        """A map fitted to ``x`` (n, d), stopped by other samples; see :class:`Transported`."""

    def entropy(self, x: Any) -> Tensor:
        r"""Differential entropy :math:`h(X) = h(f(X)) - E \ln |\det J_f(X)|`.

        Arguments:
            x: Samples, (n, ...) with n of at least ``folds * (d + 3)``; whatever follows the
                first axis is flattened.

        Returns:
            A 0-dim float64 tensor in nats, on the device of ``x``, without gradient.

        Raises:
            TypeError: ``x`` does not hold floating-point numbers.
            ValueError: ``x`` is not finite, has too few samples, or constant or discrete
                features.
            FloatingPointError: The fit diverged.
        """
        return self.report("entropy", x).value

    def upper_bound(self, x: Any) -> UpperBound:
        r"""An upper bound of h(X): the negative log-likelihood of samples not fitted to.

        .. math:: -E \ln q(X) = h(X) + KL(P \| q) \ge h(X)

        in expectation, whatever the maps. No residual estimator is involved; the standard error
        is that over samples, given the maps. Arguments and errors as in :meth:`entropy`.
        """
        return self.report("entropy", x).transported["x"].bound

    def cross_entropy(self, p: Any, q: Any) -> Tensor:
        r"""Cross-entropy :math:`-\int p \ln q`, with a map f fitted to samples of q.

        .. math:: -\int p \ln q = -\int p_f \ln q_f - E_P \ln |\det J_f|

        where :math:`p_f` and :math:`q_f` are the densities of f(P) and f(Q).

        Arguments:
            p: Samples of the first distribution, as ``x`` in :meth:`entropy`.
            q: Samples of the second, with the same d features; their number may differ.

        Raises:
            TypeError, ValueError, FloatingPointError: As :meth:`entropy`; or p and q differ in d.
        """
        return self.report("cross_entropy", p, q).value

    def kl_divergence(self, p: Any, q: Any) -> Tensor:
        r"""Relative entropy :math:`KL(P \| Q)`, the cross-entropy less the entropy of P.

        Each comes with maps of its own, fitted to q and to p. One map for both would do, since KL
        divergence does not change under bijections, but is worse wherever it suits one of them
        only: fitted to both pooled, it missed 11 of 15.8 nats between a correlated and a standard
        Gaussian at d = 20, and fitted to p alone 0.25 of 2.1 nats between shifted Laplace data,
        where two maps missed 0.03. Arguments and errors as in :meth:`cross_entropy`.
        """
        return self.report("kl_divergence", p, q).value

    def mutual_information(self, x: Any, y: Any) -> Tensor:
        r"""Mutual information :math:`I(X;Y) = I(f(X); g(Y))`, with a map for each variable.

        Arguments:
            x: Samples, as in :meth:`entropy`, where d counts the features of both variables.
            y: Samples of the other variable, in pairs with those of ``x``.

        Raises:
            TypeError, ValueError, FloatingPointError: As :meth:`entropy`; or x and y differ in n.
        """
        return self.report("mutual_information", x, y).value

    def total_correlation(self, x: Any) -> Tensor:
        r"""Total correlation :math:`\sum_i h(X_i) - h(X)` of the d features of a sample.

        It does not change under increasing maps of single features, so they are made standard
        Gaussian by their ranks, before the entropy of all is taken. Arguments and errors as in
        :meth:`entropy`.
        """
        return self.report("total_correlation", x).value

    def report(self, measure: str, *tensors: Any) -> TransportReport:
        """An estimate together with the maps, the bound, what they left, and findings.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.

        Raises:
            TypeError, ValueError, FloatingPointError: As the method; or there is no such measure.
        """
        checks.require_one_of(measure, _ARGUMENTS, "measure")
        names = _ARGUMENTS[measure]
        if len(tensors) != len(names):
            raise ArgumentTypeError(
                "tensors",
                f"expected the arguments {', '.join(names)} of {measure!r}, got {len(tensors)}.",
            )
        self._require(_OF_RESIDUAL.get(measure, measure))
        with _by_itself():
            samples = self._prepare(measure, *tensors)
            report: TransportReport = getattr(self, f"_{measure}")(*samples)
        return report

    def _entropy(self, x: Tensor) -> TransportReport:
        carried, _ = self._carry(x, self._split(x))
        return _report("entropy", carried.entropy, x=carried)

    def _total_correlation(self, x: Tensor) -> TransportReport:
        of_all = self._entropy(normal_scores(x))
        value = x.shape[1] * math.log(2 * math.pi * math.e) / 2 - of_all.value
        return _report("total_correlation", value, **of_all.transported)

    def _mutual_information(self, x: Tensor, y: Tensor) -> TransportReport:
        folds = self._split(x)
        (x_carried, xs), (y_carried, ys) = self._carry(x, folds), self._carry(y, folds)
        values = [self.residual.mutual_information(a.z, b.z) for a, b in zip(xs, ys, strict=True)]
        value = _mean(values, [len(part.z) for part in xs])
        return _report("mutual_information", value, x=x_carried, y=y_carried)

    def _cross_entropy(self, p: Tensor, q: Tensor) -> TransportReport:
        carried, parts = self._carry(q, self._split(q))
        values, weights = [], []
        for fitted, fold, part in zip(carried.maps, self._split(p), parts, strict=True):
            z, log_det = _through(fitted, p[fold.measure])
            residual = self.residual.cross_entropy(z.to(p.dtype), part.z)
            values.append(residual - log_det.mean())
            weights.append(len(z))
        return _report("cross_entropy", _mean(values, weights), q=carried)

    def _kl_divergence(self, p: Tensor, q: Tensor) -> TransportReport:
        entropy, cross_entropy = self._entropy(p), self._cross_entropy(p, q)
        value = cross_entropy.value - entropy.value
        both = {"p": entropy.transported["x"], **cross_entropy.transported}
        return _report("kl_divergence", value, **both)

    def _carry(self, x: Tensor, folds: Sequence[_Fold]) -> tuple[Transported, list[_Part]]:
        """Every sample once, through the map of its fold."""
        maps, parts, entropies, negentropies = [], [], [], []
        for i, fold in enumerate(folds):
            fitted = self._fit(x[fold.fit], x[fold.stop], self.seed + i)
            z, log_det = _through(fitted, x[fold.measure])
            reference = _gaussian_nll(x[fold.measure], x[torch.cat([fold.fit, fold.stop])])
            part = _Part(z.to(x.dtype), _standard_nll(z) - log_det, reference)
            residual = self.residual.entropy(part.z)
            maps.append(fitted)
            parts.append(part)
            entropies.append(residual - log_det.mean())
            negentropies.append(Gaussian().entropy(part.z) - residual)
        nll = torch.cat([part.nll for part in parts])
        gain = _bound(torch.cat([part.reference for part in parts]) - nll)
        sizes = [len(part.z) for part in parts]
        transported = Transported(
            maps=tuple(maps),
            n_fit=min(len(fold.fit) for fold in folds),
            n_stop=min(len(fold.stop) for fold in folds),
            n=len(x),
            d=x.shape[1],
            bound=_bound(nll),
            gain=float(gain.value),
            gain_stderr=float(gain.stderr),
            entropy=_mean(entropies, sizes),
            negentropy=float(_mean(negentropies, sizes)),
        )
        return transported, parts

    def _split(self, x: Tensor) -> list[_Fold]:
        """Folds of a random order of the samples."""
        generator = torch.Generator("cpu").manual_seed(self.seed)
        order = torch.randperm(len(x), generator=generator, device="cpu").to(x.device)
        parts = order.tensor_split(self.folds)
        folds = []
        for i, part in enumerate(parts):
            others = torch.cat([*parts[:i], *parts[i + 1 :]])
            stop = len(others) // _STOP
            folds.append(_Fold(others[stop:], others[:stop], part))
        return folds

    def _require(self, method: str) -> None:
        if not callable(getattr(type(self.residual), method, None)):
            raise ArgumentTypeError(
                "residual",
                f"expected an estimator of continuous variables with {method}(), such "
                f"as ip.KNN(calibration='gaussian'), got {self.residual!r}.",
            )

    def _prepare(self, measure: str, *tensors: Any) -> list[Tensor]:
        names = _ARGUMENTS[measure]
        samples = {
            # A copy, since tensors made in inference mode cannot be trained with.
            name: checks.continuous(x, name).detach().clone()
            for name, x in zip(names, tensors, strict=True)
        }
        first = samples[names[0]]
        samples = {name: x.to(first.device) for name, x in samples.items()}
        if names == ("p", "q"):
            checks.require_same_width(**samples)
        else:
            checks.require_same_length(**samples)
        d = first.shape[1]
        if measure == "mutual_information":
            d = sum(x.shape[1] for x in samples.values())
        for name, x in samples.items():
            needed = self.folds * (d + 3)
            if len(x) < needed:
                raise ArgumentValueError(
                    name,
                    f"expected at least folds * (d + 3) = {needed:,} samples in d={d:,} "
                    f"dimensions, got {len(x):,}. Pass more samples, fewer features (such as "
                    "their principal components), or fewer folds.",
                )
            checks.require_spread(x, name)
            checks.require_varying(x, name)
            refuse_redundant(x, name)
            refuse_atoms(torch.split(x, 1, 1), max(3, int(_ATOM * len(x))), name)
        return list(samples.values())


def _through(fitted: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a map makes of samples (n, d), and its log-determinants (n,), both float64."""
    rows = max(1, _BLOCK // x.shape[1])
    blocks = [fitted(block.double()) for block in torch.split(x, rows)]
    z, log_det = (torch.cat(part).double() for part in zip(*blocks, strict=True))
    bad = int((~(z.isfinite().all(1) & log_det.isfinite())).sum())
    if bad:
        raise FloatingPointError(
            f"x: expected a map that carries all samples to finite values, got {bad:,} of "
            f"{len(x):,} that are not: the fit diverged, or samples lie far beyond those it was "
            "fitted to. Remove outliers, or rescale."
        )
    return z, log_det


def _standard_nll(z: Tensor) -> Tensor:
    """Of a standard Gaussian, of each sample, (n,)."""
    return (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


def _gaussian_nll(x: Tensor, known: Tensor) -> Tensor:
    """Of a Gaussian with the mean and covariance of known samples, of each of others."""
    x, known = x.double(), known.double()
    mean = known.mean(0)
    centred = known - mean
    factor = torch.linalg.cholesky(centred.T @ centred / len(known))
    z = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False).T
    nll: Tensor = _standard_nll(z) + factor.diagonal().log().sum()
    return nll


def _bound(values: Tensor) -> UpperBound:
    return UpperBound(values.mean(), values.std() / math.sqrt(len(values)))


@contextlib.contextmanager
def _by_itself() -> Iterator[None]:
    """Not in a graph of the caller's, in full precision, and where modules may be trained."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def _mean(values: Sequence[Tensor], weights: Sequence[int]) -> Tensor:
    shares = torch.tensor(weights, dtype=torch.float64, device=values[0].device) / sum(weights)
    return torch.stack(list(values)).double() @ shares


def _report(measure: str, value: Tensor, **transported: Transported) -> TransportReport:
    found = [f for name, variable in transported.items() for f in variable.findings(name)]
    return TransportReport(measure, value, transported, found)
