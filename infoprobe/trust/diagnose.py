"""What stands in the way of trusting an estimate."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError
from infoprobe.estimators import KNN, Critic, Gaussian, Histogram, MatrixRenyi
from infoprobe.estimators.histogram.corrections import OF_ENTROPY
from infoprobe.estimators.knn.kozachenko_leonenko import digamma, feature_entropies, tied
from infoprobe.estimators.transport.transport import Transport
from infoprobe.findings import Finding
from infoprobe.neighbors import nearest_neighbors

# From where on a figure is worth a finding: shares of samples, and nats.
_ATOM = 0.01
_BIAS = 0.1
_NEAR = 0.8
_SENSITIVE = 0.1
_NEGLIGIBLE = 0.01
_EXTREME = 0.95


def diagnose(x: Any, *others: Any, estimator: Any = None) -> list[Finding]:
    """Findings on data and an estimator: ``diagnose(x, estimator)`` or ``(x, y, estimator)``.

    Looks for constant features, atoms and ties, too many dimensions for nearest neighbours, too
    few samples for the bins, data that are not Gaussian, kernels that are too wide or too narrow;
    with two arguments also for mutual information and divergences near their ceilings, empty
    shared support and sensitivity to the bins. What concerns mutual information is looked at
    where the arguments have equally many samples, and what concerns divergences where they have
    equally many features.

    Arguments:
        x: Samples, (n, ...).
        others: Possibly y, the other variable or the other sample; then the estimator.
        estimator: The estimator, if not given last.

    Returns:
        Findings, the errors first; empty where nothing stands out. That is no proof: an estimate
        may be wrong for reasons that the data do not show.

    Raises:
        TypeError: There is no estimator, or it is of no known kind.
        ValueError: The samples are empty or not finite.

    Example:
        >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        >>> ip.diagnose(x, ip.KNN())
        []
        >>> for finding in ip.diagnose(x.relu(), ip.KNN()): print(finding.severity, finding.what)
        error x: 12.3% of the samples coincide with at least k=3 others
        warning x: 51.0% of the values of a feature are equal
    """
    *tensors, estimator = (x, *others) if estimator is None else (x, *others, estimator)
    kinds = (Histogram, KNN, Gaussian, MatrixRenyi, Critic, Transport)
    if not isinstance(estimator, kinds) or not 1 <= len(tensors) <= 2:
        raise ArgumentTypeError(
            "estimator",
            "expected one or two tensors and then an estimator such as ip.KNN(), got "
            f"{len(tensors)} and then an object of type {type(estimator).__name__}.",
        )
    named = {
        name: checks.samples(tensor, name) for name, tensor in zip("xy", tensors, strict=False)
    }
    labels = {
        name
        for name, tensor in zip("xy", tensors, strict=False)
        if len(tensors) == 2 and not checks.as_tensor(tensor, name).is_floating_point()
    }
    found: list[Finding] = []
    with torch.no_grad():
        for check in _checks(estimator, named, labels):
            # What a check needs of the estimator may be what it refuses: see below.
            with contextlib.suppress(ValueError):
                found.extend(check())
        if all(finding.severity == "warning" for finding in found):
            found.extend(_refusal(estimator, tensors, named))
    return sorted(found, key=lambda finding: finding.severity)


def _checks(
    estimator: Any, samples: dict[str, Tensor], labels: set[str]
) -> Iterator[Callable[[], Iterable[Finding]]]:
    of_one: dict[type, tuple[Callable[..., Iterable[Finding]], ...]] = {
        Histogram: (_of_bins,),
        MatrixRenyi: (_of_kernels,),
        Gaussian: (of_atoms, _of_gaussians),
        KNN: (_of_ties, of_atoms, _of_dimensions),
        Critic: (),
        Transport: (_of_transport,),
    }
    (checks_of_one,) = (found for kind, found in of_one.items() if isinstance(estimator, kind))
    for name, x in samples.items():
        if name not in labels:
            for check in checks_of_one:
                yield functools.partial(check, estimator, x, name)
    if len(samples) == 2:
        x, y = samples.values()
        if _are_pairs(estimator, x, y):
            yield functools.partial(_of_information, estimator, *_as_given(samples, labels))
        if x.shape[1] == y.shape[1] and not labels:
            if isinstance(estimator, Histogram):
                yield functools.partial(_of_divergence, estimator, x, y)
            elif isinstance(estimator, KNN):
                yield functools.partial(_of_twins, x, y)


def _are_pairs(estimator: Any, x: Tensor, y: Tensor) -> bool:
    pooled = isinstance(estimator, Histogram) and estimator.over != "samples"
    return x.shape == y.shape or (len(x) == len(y) and not pooled)


def _refusal(
    estimator: Any, tensors: Sequence[Any], samples: dict[str, Tensor]
) -> Iterator[Finding]:
    """That the estimator does not accept the data at all."""
    measure = "entropy"
    if len(tensors) == 2:
        pairs = _are_pairs(estimator, *samples.values())
        measure = "mutual_information" if pairs else "kl_divergence"
    if hasattr(estimator, measure):
        try:
            getattr(estimator, measure)(*tensors)
        except (TypeError, ValueError) as error:
            yield Finding("error", str(error), math.nan, "What the message says.")


def _as_given(samples: dict[str, Tensor], labels: set[str]) -> Iterator[Tensor]:
    for name, x in samples.items():
        yield x.squeeze(1).long() if name in labels and x.shape[1] == 1 else x


def _of_ties(estimator: KNN, x: Tensor, name: str) -> Iterator[Finding]:
    for k, severity in ((estimator.k, "error"), (1, "warning")):
        share = float(tied(x, k).double().mean())
        if share:
            yield Finding(
                cast("Literal['error', 'warning']", severity),
                f"{name}: {share:.1%} of the samples coincide with at least k={k} others",
                share,
                "Dequantise the data, remove duplicates, or use an estimator of discrete "
                "variables such as ip.Histogram.",
            )
            return


def of_atoms(_: Any, x: Tensor, name: str) -> Iterator[Finding]:
    """Constant features, and values that a feature takes often."""
    most_common = (x == x.mode(0).values).double().mean(0)
    constant = int((most_common == 1).sum())
    if constant:
        yield Finding(
            "error",
            f"{name}: {constant:,} of {x.shape[1]:,} features are constant",
            constant,
            "Drop them: x[:, x.std(0) > 0].",
        )
    share = float(most_common[most_common < 1].max()) if constant < x.shape[1] else 0.0
    if share >= max(_ATOM, 2 / len(x)):
        yield Finding(
            "warning",
            f"{name}: {share:.1%} of the values of a feature are equal",
            share,
            "Such atoms (after a ReLU, or of quantised data) have no density: dequantise, or use "
            "an estimator of discrete variables such as ip.Histogram.",
        )


def _of_dimensions(estimator: KNN, x: Tensor, name: str) -> Iterator[Finding]:
    n, d = x.shape
    if estimator.calibration is not None:
        return
    if n < d + 3:
        yield Finding(
            "warning",
            f"{name}: {n:,} samples are too few in {d:,} dimensions to tell how far the estimate "
            "is off",
            n / d,
            "Pass more samples or fewer features; do not trust the estimate.",
        )
        return
    calibrated = replace(estimator, calibration="gaussian", repeats=1)
    bias = float(calibrated.bias("entropy", x).value)
    if abs(bias) >= _BIAS:
        yield Finding(
            "warning",
            f"{name}: the entropy of Gaussian data like these (n={n:,}, d={d:,}) is missed by "
            f"{bias:+.2f} nats",
            bias,
            "Use KNN(calibration='gaussian') or 'copula'. More samples hardly help.",
        )


def _of_gaussians(estimator: Gaussian, x: Tensor, name: str) -> Iterator[Finding]:
    n, d = x.shape
    if n <= d and estimator.shrinkage is None:
        yield Finding(
            "error",
            f"{name}: {n:,} samples cannot tell the covariance of {d:,} features",
            n / d,
            "Pass more samples, fewer features, or shrinkage='ledoit-wolf'.",
        )
    alone = feature_entropies(x, 3)
    gaussian = (x.double().var(0) * 2 * math.pi * math.e).log() / 2
    excess = float((gaussian - alone)[alone.isfinite()].amax()) if alone.isfinite().any() else 0.0
    if excess >= _BIAS:
        yield Finding(
            "warning",
            f"{name}: a feature has {excess:.2f} nats less entropy than a Gaussian as wide",
            excess,
            "A Gaussian's entropy is then an upper bound, and information between features may "
            "be missed. Use ip.KNN(calibration='copula').",
        )


def _of_transport(estimator: Transport, x: Tensor, name: str) -> Iterator[Finding]:
    yield from estimator.report("entropy", x).transported["x"].findings(name)


def _of_kernels(estimator: MatrixRenyi, x: Tensor, name: str) -> Iterator[Finding]:
    share = float(estimator.entropy(x)) / math.log(len(x))
    if 1 - _EXTREME < share < _EXTREME:
        return
    narrow = share >= _EXTREME
    yield Finding(
        "warning",
        f"{name}: the entropy is {share:.1%} of ln n: the kernel takes "
        f"{'every sample for different' if narrow else 'all samples for equal'}",
        share,
        f"Use a {'larger' if narrow else 'smaller'} bandwidth than "
        f"{float(estimator.kernel_width(x)):.3g}, or bandwidth='median'.",
    )


def _of_bins(estimator: Histogram, x: Tensor, name: str) -> Iterator[Finding]:
    plain = replace(estimator, pseudocount=0.0, correction=None)
    entropy = plain.entropy(x)
    if estimator.over == "samples" and float(entropy) >= math.log(len(x)) * (1 - 1e-9):
        yield Finding(
            "warning",
            f"{name}: every sample is the only one of its kind: the entropy is ln n whatever the "
            "data",
            float(entropy),
            "Use fewer bins, more samples, or another random variable (over='units').",
        )
    elif estimator.correction is None:
        bias = float(replace(plain, correction="miller-madow").entropy(x) - entropy)
        if bias >= _BIAS:
            yield Finding(
                "warning",
                f"{name}: too few values for the bins: the entropy is too low by about "
                f"{bias:.2f} nats",
                bias,
                "Use fewer bins, more samples, or correction='grassberger'.",
            )


def _of_information(estimator: Any, x: Tensor, y: Tensor) -> Iterator[Finding]:
    yield from near_ceiling(estimator, x, y, float(estimator.mutual_information(x, y)))


def near_ceiling(estimator: Any, x: Tensor, y: Tensor, value: float) -> Iterator[Finding]:
    """That a mutual information is near the most that so many samples can show."""
    n = len(x)
    if isinstance(estimator, Transport):
        estimator, n = estimator.residual, n // estimator.folds
    if isinstance(estimator, Gaussian):
        return
    ceiling = math.log(n)
    if isinstance(estimator, KNN):
        ceiling = digamma(n) - digamma(estimator.k)
    elif isinstance(estimator, Critic):
        if estimator.bound != "infonce":
            return
        ceiling = float(estimator.ceiling(n))
    elif isinstance(estimator, Histogram):
        plain = replace(estimator, pseudocount=0.0, correction=None)
        ceiling = min(float(plain.entropy(x)), float(plain.entropy(y)))
        if estimator.over != "samples" or ceiling == 0:
            return
    if value >= _NEAR * ceiling:
        yield Finding(
            "warning",
            f"x, y: mutual information is {value:.2f} nats, near the {ceiling:.2f} that are the "
            f"most which {n:,} samples can show",
            value / ceiling,
            "Take it for a lower bound; more samples raise the ceiling by their logarithm only.",
        )


def _of_twins(p: Tensor, q: Tensor) -> Iterator[Finding]:
    share = float((nearest_neighbors(q, 1, p).distances == 0).double().mean())
    if share:
        yield Finding(
            "warning",
            f"x, y: {share:.1%} of the samples of x are samples of y, too",
            share,
            "A divergence needs samples that are independent: split the data first.",
        )


def _of_divergence(estimator: Histogram, p: Tensor, q: Tensor) -> Iterator[Finding]:
    if estimator.correction in OF_ENTROPY:
        return
    value = float(estimator.kl_divergence(p, q))
    uncovered = float(estimator.uncovered(p, q))
    if math.isinf(value) or uncovered >= _ATOM:
        yield Finding(
            "error" if math.isinf(value) else "warning",
            f"x, y: {uncovered:.1%} of x lies in bins where y has nothing"
            + (", so that the divergence is infinite" if math.isinf(value) else ""),
            uncovered,
            "Use fewer bins or a pseudocount, and quote the bins with the number; or use an "
            "estimator for densities such as ip.KNN.",
        )
    if math.isinf(value):
        return
    if estimator.pseudocount and estimator.over == "values":
        bins = estimator.bins
        if estimator.streams:
            bins = (estimator.count(p) + estimator.count(q)).grid.size
        ceiling = math.log(q.numel() / estimator.pseudocount + bins) - float(estimator.entropy(p))
        if value >= _NEAR * ceiling:
            yield Finding(
                "warning",
                f"x, y: the divergence is {value:.2f} nats, near the {ceiling:.2f} of no overlap "
                "at all",
                value / ceiling,
                "It measures the number of values and the pseudo-count. Use fewer bins.",
            )
    if estimator.bins >= 4:
        others = [
            float(replace(estimator, bins=bins).kl_divergence(p, q))
            for bins in (estimator.bins // 2, estimator.bins * 2)
        ]
        change = max(abs(other - value) for other in others)
        if change >= max(_SENSITIVE * abs(value), _NEGLIGIBLE):
            yield Finding(
                "warning",
                f"x, y: with half and twice the bins, the divergence is {others[0]:.3f} and "
                f"{others[1]:.3f} instead of {value:.3f} nats",
                change,
                "The bins decide the number. Quote them with it, or use an estimator for "
                "densities such as ip.KNN.",
            )
