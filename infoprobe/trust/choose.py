"""Which estimator suits a measure of given data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.devices import ascending
from infoprobe.errors import ArgumentError, ArgumentTypeError
from infoprobe.estimators import KNN, Histogram
from infoprobe.estimators.arguments import (
    ARGUMENTS,
    MUTUAL_INFORMATION,
    TOTAL_CORRELATION,
    Arguments,
    arguments_of,
)
from infoprobe.estimators.gaussian import require_independent_features
from infoprobe.estimators.protocols import method_of
from infoprobe.estimators.ranks import normal_scores

Estimate = Callable[..., Tensor]
Measure = Estimate | str

# The most bins that integers get, one for each: counts of them take 8 bytes a bin.
_MOST_BINS = 1 << 20


class Choice(NamedTuple):
    """An estimator and why it was chosen.

    Attributes:
        estimator: The estimator.
        reasons: Why it suits these data, in sentences.
    """

    estimator: Any
    reasons: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join([repr(self.estimator), *(f"* {reason}" for reason in self.reasons)])


def choose(measure: str, *tensors: ArrayLike) -> Choice:
    """Chooses an estimator by the data, as the plain functions do where they are given none.

    =============================  ====================================  ========================
    measure                        data                                  estimator
    =============================  ====================================  ========================
    entropy, cross-entropy,        real numbers                          ``Histogram()``
    divergences
    entropy, cross-entropy,        integers                              ``Histogram(bins=...)``,
    divergences                                                          a bin for each integer
    mutual information             integers or booleans on both sides    ``Histogram(over=
                                                                         "samples", correction=
                                                                         "grassberger")``
    mutual information             labels, and real numbers              ``KNN()``
    information of any kind        real numbers                          ``KNN(calibration=
                                                                         "copula")``
    information of any kind        real numbers that repeat, or fewer    ``KNN()``
                                   than d + 3 samples
    =============================  ====================================  ========================

    Arguments:
        measure: The name of a measure, such as ``"mutual_information"``.
        tensors: Its arguments.

    Returns:
        The estimator and the reasons, a named tuple. The estimator may still refuse the data, as
        its methods say.

    Raises:
        TypeError: There are too many or too few tensors, or they are not numeric.
        ValueError: There is no such measure, or a tensor is empty or not finite.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> choice = ip.choose("mutual_information", x, x[:, 0] > 0)
        >>> choice.estimator.k
        3
        >>> print(choice.reasons[0])
        y holds labels and x real numbers, so labels are compared with near neighbours (Ross).
    """
    arguments = arguments_of(measure, ARGUMENTS, tensors)
    given = {
        name: checks.as_tensor(x, name).detach()
        for name, x in zip(arguments.names, tensors, strict=True)
    }
    if not arguments.of_pairs and arguments is not TOTAL_CORRELATION:
        return _pooled(arguments, given)
    labels = [name for name, x in given.items() if not x.is_floating_point()]
    if arguments is MUTUAL_INFORMATION and len(labels) == 2:
        return _of_symbols(given)
    if arguments is MUTUAL_INFORMATION and len(labels) == 1:
        return _of_labels(given, labels[0])
    if labels:  # No estimator has these measures of integers: nearest neighbours say so.
        return Choice(KNN(), ("Only nearest neighbours offer this measure.",))
    return _of_densities({name: checks.samples(x, name) for name, x in given.items()})


def measure_of(measure: Measure, tensors: Sequence[ArrayLike], example: str) -> Estimate:
    """What computes a measure that the user has given as a function or by its name.

    Arguments:
        measure: A function of tensors, or the name of a measure, which is then computed by the
            estimator that :func:`choose` chooses for these tensors.
        tensors: The arguments of the measure.
        example: A method of an estimator that the user could pass, for the error message.

    Raises:
        TypeError: ``measure`` is neither.
        ValueError: There is no measure of this name.
    """
    if isinstance(measure, str):
        return method_of(choose(measure, *tensors).estimator, measure)
    if not callable(measure):
        raise ArgumentTypeError(
            "measure",
            f"expected a method such as {example}, a function of tensors, or the name of a "
            f"measure, got {checks.shown(measure)}.",
        )
    return measure


def _pooled(arguments: Arguments, given: Mapping[str, Tensor]) -> Choice:
    meaning = (
        f"The random variable of {arguments.measure} is the bin that a value falls in, with all "
        "values of a tensor pooled: it exists for data of any kind and shape."
    )
    joint = (
        "The features of a sample taken together are another variable: see ip.KNN and ip.Gaussian."
    )
    if any(x.is_floating_point() for x in given.values()):
        return Choice(Histogram(), (meaning, joint))
    bins = _bins_for_integers(given.values())
    each = f"The values are integers, and {bins:,} bins hold one each."
    if bins > _MOST_BINS:
        bins, each = Histogram.bins, "The integers spread too far for a bin each."
    return Choice(Histogram(bins), (meaning, each))


def _of_symbols(given: Mapping[str, Tensor]) -> Choice:
    # Labels are symbols whatever the bins, and bins no wider than 1 part all other integers.
    estimator = Histogram(
        _bins_for_integers(given.values()), over="samples", correction="grassberger"
    )
    return Choice(
        estimator,
        (
            "x and y hold integers, so each different sample is a symbol and their pairs are "
            "counted.",
            "Counting few pairs shows too much information, which Grassberger's correction "
            "reduces.",
        ),
    )


def _of_labels(given: Mapping[str, Tensor], labels: str) -> Choice:
    (other,) = given.keys() - {labels}
    reasons = [
        f"{labels} holds labels and {other} real numbers, so labels are compared with near "
        "neighbours (Ross)."
    ]
    k = KNN.k
    rarest = int(torch.unique(given[labels], return_counts=True)[1].min())
    if 1 < rarest <= k:
        k = rarest - 1
        reasons.append(f"The rarest label has {rarest} samples, which allows for k={k}.")
    return Choice(KNN(k), tuple(reasons))


def _of_densities(samples: Mapping[str, Tensor]) -> Choice:
    n, d = min(map(len, samples.values())), sum(x.shape[1] for x in samples.values())
    kind = f"The variables are continuous, with {n:,} samples and {d:,} features together."
    if n < d + 3:
        few = "A calibration needs d + 3 samples; without one, expect too little information."
        return Choice(KNN(), (kind, few))
    if any(_repeats(x, KNN.k) for x in samples.values()):
        repeated = (
            "Values of a feature repeat, as in rounded data or after a ReLU, so there are no "
            "ranks without ties to calibrate by."
        )
        return Choice(KNN(), (kind, repeated))
    if _redundant(list(samples.values())):
        same = (
            "The ranks of a feature are a function of those of others, as of a copy, which no "
            "calibration allows."
        )
        return Choice(KNN(), (kind, same))
    calibrated = (
        "Ranks make each feature Gaussian, and surrogates with the same dependence remove the "
        "error that nearest neighbours make on them."
    )
    return Choice(KNN(calibration="copula"), (kind, calibrated))


def _repeats(x: Tensor, k: int) -> bool:
    """Whether a feature of the samples (n, d) has a value more than k times."""
    line = ascending(x, 0)
    return bool((line[k:] == line[:-k]).any())


def _redundant(samples: Sequence[Tensor]) -> bool:
    """Whether the ranks of all features together are no base for a calibration."""
    if len({len(x) for x in samples}) > 1:
        return False  # This is an error, of which the estimator tells.
    scores = [normal_scores(x.double()).to(samples[0].device) for x in samples]
    try:
        require_independent_features(torch.cat(scores, 1), "x")
    except ArgumentError:
        return True
    return False


def _bins_for_integers(tensors: Iterable[Tensor]) -> int:
    """How many bins of width 1 or less hold all integers from the least to the greatest."""
    extents = [checks.extent(checks.exact_float(x, "x"), "x") for x in tensors]
    low, high = min(low for low, _ in extents), max(high for _, high in extents)
    return max(Histogram.bins, int(high - low) + 1)
