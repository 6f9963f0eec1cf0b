r"""Estimates through invertible maps, which carry data to where an estimator is accurate.

A bijection changes differential entropy by an amount that is known exactly,

.. math:: h(X) = h(f(X)) - E \ln |\det J_f(X)|,

and it changes cross-entropy by the same term, while mutual information does not change at all when
each variable goes through a map of its own. This holds for any bijection, however well or badly it
was fitted, as long as it is measured on samples that it was not fitted to.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators import arguments
from infoprobe.estimators.arguments import Arguments, arguments_of
from infoprobe.estimators.ceilings import HasCeiling, near_ceiling
from infoprobe.estimators.gaussian import Gaussian, require_independent_features
from infoprobe.estimators.hermite import mean_of, moments
from infoprobe.estimators.knn.atoms import require_no_atoms
from infoprobe.estimators.knn.doubts import of_distance, of_near_copies
from infoprobe.estimators.knn.knn import KNN
from infoprobe.estimators.pairs import paired
from infoprobe.estimators.protocols import (
    EntropyEstimator,
    Estimate,
    offers,
)
from infoprobe.estimators.ranks import normal_scores
from infoprobe.estimators.samples_in_doubt import with_doubts
from infoprobe.estimators.transport.carried import (
    Carried,
    by_itself,
    cross_entropy_of,
    divergence_of,
    entropy_of,
    information_of,
    through,
)
from infoprobe.estimators.transport.folds import (
    Fold,
    bound_of,
    gaussian_nll,
    split,
    weighted_mean,
)
from infoprobe.estimators.transport.noise import noise_of
from infoprobe.estimators.transport.report import (
    Transported,
    TransportReport,
    UpperBound,
    bounded,
    curved_between,
    reported,
)
from infoprobe.progress import progress_bar

# What gives the standard error of a measure of carried samples, or ``None``.
_Noise: TypeAlias = Callable[..., "Tensor | None"]

# Which neighbours tell whether two samples lie far apart.
_NEAR = 3

# A feature counts as discrete if this share of its values is one and the same.
_ATOM = 0.01


@dataclass(frozen=True)
class Transport(ABC):
    """What all estimators through invertible maps share; see :class:`Flow` for the arguments."""

    _: KW_ONLY
    residual: EntropyEstimator = KNN(calibration="gaussian")
    folds: int = 3
    seed: int = 0

    kind: ClassVar[Literal["differential"]] = "differential"

    def __post_init__(self) -> None:
        checks.require_integer_field(self, "folds", 2)
        checks.require_integer_field(self, "seed", 0, 2**62)
        if not offers(self.residual, arguments.ENTROPY.measure):
            raise ArgumentTypeError(
                "residual",
                "expected an estimator of continuous variables, such as "
                f"ip.KNN(calibration='gaussian'), got {checks.shown(self.residual)}.",
            )

    @abstractmethod
    def fit_map(self, x: Tensor, stop: Tensor, seed: int) -> nn.Module:
        """A map fitted to ``x`` (n, d), stopped by other samples; see :class:`Transported`."""

    def entropy(self, x: ArrayLike) -> Tensor:
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
        return self._report("entropy", [x], with_error=False).value

    def upper_bound(self, x: ArrayLike) -> UpperBound:
        r"""An upper bound of h(X): the negative log-likelihood of samples not fitted to.

        .. math:: -E \ln q(X) = h(X) + KL(P \| q) \ge h(X)

        in expectation, whatever the maps. No residual estimator is involved; the standard error
        is over samples, given the maps. The arguments and errors are the same as in
        :meth:`entropy`.
        """
        return self._report("entropy", [x], with_error=False).transported["x"].bound

    def cross_entropy(self, p: ArrayLike, q: ArrayLike) -> Tensor:
        r"""Cross-entropy :math:`-\int p \ln q`, with a map f fitted to samples of q.

        .. math:: -\int p \ln q = -\int p_f \ln q_f - E_P \ln |\det J_f|

        where :math:`p_f` and :math:`q_f` are the densities of f(P) and f(Q).

        Arguments:
            p: Samples of the first distribution, as ``x`` in :meth:`entropy`.
            q: Samples of the second, with the same d features; their number may differ.

        Raises:
            TypeError, ValueError, FloatingPointError: :meth:`entropy` would raise it for p or q,
                or they differ in d.
        """
        return self._report("cross_entropy", [p, q], with_error=False).value

    def kl_divergence(self, p: ArrayLike, q: ArrayLike) -> Tensor:
        r"""Relative entropy :math:`KL(P \| Q)`, the cross-entropy less the entropy of P.

        Each comes with maps of its own, fitted to q and to p. One map for both would do, since KL
        divergence does not change under bijections, but is worse wherever it suits one of them
        only: fitted to both pooled, it missed 11 of 15.8 nats between a correlated and a standard
        Gaussian at d = 20, and fitted to p alone 0.25 of 2.1 nats between shifted Laplace data,
        where two maps missed 0.03. The arguments and errors are the same as in
        :meth:`cross_entropy`.
        """
        return self._report("kl_divergence", [p, q], with_error=False).value

    def mutual_information(self, x: ArrayLike, y: ArrayLike) -> Tensor:
        r"""Mutual information :math:`I(X;Y) = I(f(X); g(Y))`, with a map for each variable.

        Arguments:
            x: Samples as for :meth:`entropy`, but d counts the features of both variables.
            y: Samples of the other variable, in pairs with those of ``x``.

        Raises:
            TypeError, ValueError, FloatingPointError: :meth:`entropy` would raise it for x or y,
                or they differ in n.
        """
        return self._report("mutual_information", [x, y], with_error=False).value

    def total_correlation(self, x: ArrayLike) -> Tensor:
        r"""Total correlation :math:`\sum_i h(X_i) - h(X)` of the d features of a sample.

        It does not change under increasing maps of single features, so they are made standard
        Gaussian by their ranks, before the entropy of all is taken. The arguments and errors are
        the same as in :meth:`entropy`.
        """
        return self._report("total_correlation", [x], with_error=False).value

    def report(self, measure: str, *tensors: ArrayLike) -> TransportReport:
        """An estimate together with the maps, the bound, what they left, and findings.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.

        Raises:
            TypeError, ValueError, FloatingPointError: The method raises it, or there is no such
                measure.
        """
        return self._report(measure, tensors, with_error=True)

    def _report(
        self, measure: str, tensors: Sequence[ArrayLike], *, with_error: bool
    ) -> TransportReport:
        """The report; the standard error may take as long as the maps, and can be left out."""
        found = _MEASURES[arguments_of(measure, _MEASURES, tensors).measure]
        self.require_measure(measure)

        def noise(measure: Callable[..., Tensor], *samples: Sequence[Carried]) -> Tensor | None:
            return noise_of(self.residual, measure, *samples) if with_error else None

        with by_itself():
            return found.report(self, noise, *self._prepare(found.arguments, tensors))

    def require_measure(self, measure: str) -> None:
        """Raises a TypeError if the residual estimator lacks what the method needs of it.

        Arguments:
            measure: The name of the method.
        """
        needed = _MEASURES[measure].residual.measure
        if not offers(self.residual, needed):
            raise ArgumentTypeError(
                "residual",
                f"expected an estimator of continuous variables with {needed}(), such "
                f"as ip.KNN(calibration='gaussian'), got {self.residual!r}.",
            )

    def estimate(self, measure: str, *tensors: ArrayLike) -> Estimate:
        """The value of a measure, its standard error and findings on it, from one fit.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.

        Returns:
            The value in nats; its standard error, given the maps, from parts of the carried
            samples of each fold; and the findings of the :meth:`report`, or that mutual
            information is near its ceiling, or that samples depend on those before them or
            lie on a surface, or that those of a divergence belong in pairs or lie far apart.

        Raises:
            TypeError, ValueError, FloatingPointError: The method raises it, or there is no such
                measure.
        """
        report = self.report(measure, *tensors)
        findings = list(report.findings)
        if measure == arguments.MUTUAL_INFORMATION.measure:
            # Each fold is measured by itself.
            n = report.transported["x"].n // self.folds
            if isinstance(self.residual, HasCeiling):
                findings += near_ceiling(float(report.value), self.residual.ceiling(n), n)
        of = arguments.ARGUMENTS[measure]
        if of.independent:
            p, q = (checks.samples(x, name) for x, name in zip(tensors, "pq", strict=True))
            findings += [*paired(p, q), *of_distance(p, q, _NEAR, "euclidean")]
        samples = of.samples(tensors)
        given = list(samples.values())
        alone = {name: [x] for name, x in samples.items()}
        rows = {of.all_names: given} if of.of_pairs else alone
        for names, factors in rows.items():
            findings += of_near_copies(factors, names, "so that what is held out has been seen")
        found = with_doubts(findings, of, given, float(report.value), has_density=True)
        return Estimate(report.value, report.stderr, found)

    def _entropy(self, noise: _Noise, x: Tensor) -> TransportReport:
        variable, xs = self._carry(x, split([x], self.folds, self.seed))
        stderr = noise(entropy_of, xs)
        return bounded(reported("entropy", variable.entropy, stderr, x=variable), x)

    def _total_correlation(self, noise: _Noise, x: Tensor) -> TransportReport:
        of_all = self._entropy(noise, normal_scores(x))
        value = x.shape[1] * math.log(2 * math.pi * math.e) / 2 - of_all.value
        return replace(of_all, measure="total_correlation", value=value)

    def _mutual_information(self, noise: _Noise, x: Tensor, y: Tensor) -> TransportReport:
        folds = split([x, y], self.folds, self.seed)
        (of_x, xs), (of_y, ys) = self._carry(x, folds), self._carry(y, folds)
        value = self._mean(information_of, xs, ys)
        stderr = noise(information_of, xs, ys)
        report = reported("mutual_information", value, stderr, x=of_x, y=of_y)
        pairs = [torch.cat([a.z, b.z], 1) for a, b in zip(xs, ys, strict=True)]
        report.findings.extend(curved_between(mean_of(list(map(moments, pairs))).significant))
        return report

    def _cross_entropy(self, noise: _Noise, p: Tensor, q: Tensor) -> TransportReport:
        of_q, qs = self._carry(q, split([q], self.folds, self.seed))
        ps = self._carried_by(of_q, p)
        stderr = noise(cross_entropy_of, ps, qs)
        return reported("cross_entropy", self._mean(cross_entropy_of, ps, qs), stderr, q=of_q)

    def _kl_divergence(self, noise: _Noise, p: Tensor, q: Tensor) -> TransportReport:
        of_p, own = self._carry(p, split([p], self.folds, self.seed))
        of_q, qs = self._carry(q, split([q], self.folds, self.seed))
        ps = self._carried_by(of_q, p)
        value = self._mean(cross_entropy_of, ps, qs) - of_p.entropy
        stderr = noise(divergence_of, own, ps, qs)
        return reported("kl_divergence", value, stderr, p=of_p, q=of_q)

    def _mean(self, measure: Callable[..., Tensor], *samples: Sequence[Carried]) -> Tensor:
        """The mean over folds of a measure of the samples in each."""
        values = [measure(self.residual, *fold) for fold in zip(*samples, strict=True)]
        return weighted_mean(values, [len(fold) for fold in samples[0]])

    def _carry(self, x: Tensor, folds: Sequence[Fold]) -> tuple[Transported, list[Carried]]:
        """Every sample once, through the map of its fold."""
        maps, parts, entropies, negentropies, likelihoods, references = [], [], [], [], [], []
        with progress_bar(len(folds), type(self).__name__, unit="map") as bar:
            for i, fold in enumerate(folds):
                fitted = self.fit_map(x[fold.fit], x[fold.stop], self.seed + i)
                part = through(fitted, x[fold.measure])
                reference = gaussian_nll(x[fold.measure], x[torch.cat([fold.fit, fold.stop])])
                residual = self.residual.entropy(part.z)
                maps.append(fitted)
                parts.append(part)
                likelihoods.append(part.nll)
                references.append(reference)
                entropies.append(residual - part.log_det.mean())
                negentropies.append(Gaussian().entropy(part.z) - residual)
                bar.update()
        nll = torch.cat(likelihoods)
        gain = bound_of(torch.cat(references) - nll)
        sizes = [len(part) for part in parts]
        transported = Transported(
            maps=tuple(maps),
            n_fit=min(len(fold.fit) for fold in folds),
            n_stop=min(len(fold.stop) for fold in folds),
            n=len(x),
            d=x.shape[1],
            bound=bound_of(nll),
            gain=float(gain.value),
            gain_stderr=float(gain.stderr),
            entropy=weighted_mean(entropies, sizes),
            negentropy=float(weighted_mean(negentropies, sizes)),
            curvature=mean_of([moments(part.z) for part in parts]).significant,
        )
        return transported, parts

    def _carried_by(self, variable: Transported, x: Tensor) -> list[Carried]:
        """The samples of folds by the maps that were fitted to another variable."""
        folds = split([x], self.folds, self.seed)
        return [
            through(fitted, x[fold.measure])
            for fitted, fold in zip(variable.maps, folds, strict=True)
        ]

    def _prepare(self, of: Arguments, tensors: Sequence[Any]) -> list[Tensor]:
        # Copies, since tensors made in inference mode cannot be trained with.
        samples = {name: x.detach().clone() for name, x in of.samples(tensors).items()}
        widths = [x.shape[1] for x in samples.values()]
        d = sum(widths) if of.of_pairs else widths[0]
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
            require_independent_features(x, name)
            require_no_atoms(torch.split(x, 1, 1), max(3, int(_ATOM * len(x))), name)
        return list(samples.values())


class _Measure(NamedTuple):
    """How a measure is estimated.

    Attributes:
        arguments: Its arguments.
        report: The estimate, from the estimator, what gives its standard error, and the prepared
            samples (n, d).
        residual: The measure that the residual estimator takes for it.
    """

    arguments: Arguments
    report: Callable[..., TransportReport]
    residual: Arguments


_MEASURES = {
    measure.arguments.measure: measure
    for measure in (
        _Measure(arguments.ENTROPY, Transport._entropy, arguments.ENTROPY),
        _Measure(arguments.CROSS_ENTROPY, Transport._cross_entropy, arguments.CROSS_ENTROPY),
        _Measure(arguments.KL_DIVERGENCE, Transport._kl_divergence, arguments.CROSS_ENTROPY),
        _Measure(
            arguments.MUTUAL_INFORMATION,
            Transport._mutual_information,
            arguments.MUTUAL_INFORMATION,
        ),
        _Measure(arguments.TOTAL_CORRELATION, Transport._total_correlation, arguments.ENTROPY),
    )
}
