"""What stands in the way of trusting a number from nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.arguments import (
    ENTROPY,
    MUTUAL_INFORMATION,
    TOTAL_CORRELATION,
    Arguments,
)
from infoprobe.estimators.ceilings import near_ceiling
from infoprobe.estimators.covariance import rank_of
from infoprobe.estimators.features import atoms_of_features
from infoprobe.estimators.knn import bounds, measures
from infoprobe.estimators.knn.atoms import tied
from infoprobe.estimators.knn.doubts import of_copies, of_distance, of_near_copies, of_ties
from infoprobe.estimators.knn.label_bias import bias_with_labels
from infoprobe.estimators.knn.labels import is_discrete
from infoprobe.estimators.knn.settling import of_change
from infoprobe.estimators.knn.thinness import of_dimension
from infoprobe.estimators.knn.workings import Workings
from infoprobe.estimators.pairs import paired, shared_samples
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN

# From how many nats on a bias is worth a finding, and makes the number meaningless.
_BIAS, _FAR = 0.1, 1.0
# How many standard errors make a bias certain.
_SURE = 4.0
# With fewer samples, intervals of two standard errors hold the truth far less often than they say:
# with 8, in half of the cases.
_FEW = 16


def findings(
    estimator: KNN,
    arguments: Arguments,
    tensors: Sequence[Any],
    value: Tensor | None,
    workings: Workings | None,
) -> Iterator[Finding]:
    """The findings on a measure of tensors.

    Arguments:
        estimator: The estimator.
        arguments: The arguments of the measure.
        tensors: What they are.
        value: The estimate to be judged; ``None`` where the tensors were refused.
        workings: How the estimator came to its own; ``None`` where they were refused.
    """
    samples = {
        name: checks.samples(x, name)
        for name, x in zip(arguments.names, tensors, strict=True)
        if not (arguments.of_pairs and is_discrete(x, name))
    }
    if arguments is MUTUAL_INFORMATION and value is not None and workings:
        if len(samples) == len(tensors):
            n = len(tensors[0])  # labels have another ceiling
            yield from near_ceiling(float(workings.raw), estimator.ceiling(n), n)
        elif len(samples) == 1:
            ((name, x),) = samples.items()
            labels = checks.as_tensor(tensors["xy".index(name) - 1], "y")
            yield from bias_with_labels(estimator, x, labels, float(value))
    if arguments is TOTAL_CORRELATION:
        yield from _redundant(samples["x"], "x")
    if arguments.of_pairs or arguments is TOTAL_CORRELATION:
        yield from of_copies(samples)
        yield from of_ties(samples, estimator.k)
    if (
        value is not None
        and workings
        and not arguments.independent
        and len(samples) == len(tensors)
    ):
        if arguments in (ENTROPY, MUTUAL_INFORMATION, TOTAL_CORRELATION):
            yield from of_dimension(arguments, samples)
        yield from bounds.checks_of(estimator, arguments, samples, float(value), workings)
    if arguments is ENTROPY or arguments.independent:
        for name, x in samples.items():
            yield from _ties(estimator, x, name)
            yield from atoms_of_features(x, name)
            yield from _redundant(x, name)
            yield from of_near_copies([x], name, "which look like dense places")
        biased = []
        if estimator.calibration is None:
            biased = list(_bias(estimator, arguments, samples))
        yield from biased
        if arguments.independent and workings and not biased:
            measure = measures.MEASURES[arguments.measure]
            yield from of_change(estimator, measure, list(samples.values()), workings)
    if arguments.independent:
        yield from shared_samples(samples["p"], samples["q"])
        if value is not None:
            yield from of_distance(samples["p"], samples["q"], estimator.k, estimator.metric)
            if workings and workings.bias:
                yield from bounds.correction_of(workings.bias, samples)
        yield from paired(samples["p"], samples["q"])


def _ties(estimator: KNN, x: Tensor, name: str) -> Iterator[Finding]:
    at_least_k = float(tied(x, estimator.k).double().mean())
    share = at_least_k or float(tied(x, 1).double().mean())
    if share:
        yield Finding(
            "error" if at_least_k else "warning",
            f"{share:.1%} of the samples coincide with at least "
            f"k={estimator.k if at_least_k else 1} others",
            share,
            "Dequantise the data, remove duplicates, or use an estimator of discrete "
            "variables such as ip.Histogram.",
            name,
            code="coinciding-samples",
        )


def _redundant(x: Tensor, name: str) -> Iterator[Finding]:
    n, d = x.shape
    if n <= d or (x == x[0]).all(0).any():
        return
    rank = rank_of(x)
    if rank < d:
        yield Finding(
            "error",
            f"the {d:,} features span {rank:,} dimensions only, so that the entropy is minus "
            "infinity, and a total correlation infinite",
            rank,
            f"Measure the first {rank:,} principal components, or add the noise that the "
            "measurement has.",
            name,
            code="redundant-features",
        )


def _bias(
    estimator: KNN, arguments: Arguments, samples: Mapping[str, Tensor]
) -> Iterator[Finding]:
    """What nearest neighbours miss of Gaussian data with the same means and covariances."""
    few = {name: x for name, x in samples.items() if len(x) < max(_FEW, x.shape[1] + 3)}
    for name, x in few.items():
        n, d = x.shape
        yield Finding(
            "warning",
            f"{n:,} samples of {d:,} features are too few to tell how far the estimate is off",
            n / d,
            "Pass more samples or fewer features; do not trust the estimate.",
            name,
            code="too-few-samples",
        )
    if few:
        return
    # An entropy hardly depends on the surrogates that are drawn, unlike a divergence.
    repeats = 1 if arguments is ENTROPY else estimator.repeats
    calibrated = replace(estimator, calibration="gaussian", repeats=repeats)
    try:
        bias = calibrated.bias(arguments.measure, *samples.values())
    except ValueError:
        return  # There are no Gaussian data like these, such as of features that are redundant.
    missed, stderr = float(bias.value), float(bias.stderr)
    if abs(missed) >= (_BIAS if repeats == 1 else max(_BIAS, _SURE * stderr)):
        what = arguments.measure.removeprefix("kl_").replace("_", "-")
        counted = " and ".join(f"n={len(x):,}" for x in samples.values())
        (d,) = {x.shape[1] for x in samples.values()}
        yield Finding(
            "error" if abs(missed) >= _FAR else "warning",
            f"the {what} of Gaussian data like these ({counted}, d={d:,}) is missed by "
            f"{missed:+.2f} nats",
            missed,
            "Use KNN(calibration='gaussian')."
            if arguments.independent
            else "Use KNN(calibration='copula'). More samples hardly help.",
            arguments.all_names,
            code="dimension-bias",
        )
