"""What stands in the way of trusting a number from a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from infoprobe.estimators.arguments import (
    ARGUMENTS,
    CROSS_ENTROPY,
    ENTROPY,
    KL_DIVERGENCE,
    MUTUAL_INFORMATION,
)
from infoprobe.estimators.ceilings import NEAR
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.equal_shares import hidden
from infoprobe.estimators.histogram.grids import DyadicGrid
from infoprobe.estimators.histogram.misfits import finer_than_data, squeezed
from infoprobe.estimators.histogram.tabulation import counts_of_all
from infoprobe.estimators.histogram.undersampling import undersampling
from infoprobe.estimators.serial import dependent_samples
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.histogram.histogram import Histogram

# From where on a figure is worth a finding: nats, and shares.
_BIAS = 0.1
_UNCOVERED, _APART = 0.01, 0.9
_ALONE = 0.5
_AT_ZERO, _NEGLIGIBLE_AT_ZERO = 0.1, 0.001
_SENSITIVE, _DECIDED, _NEGLIGIBLE = 0.1, 0.25, 0.01


def diagnose(
    estimator: Histogram, measure: str, tensors: Sequence[Any], value: float
) -> list[Finding]:
    """The findings on a value of a measure, in nats, and on the tensors or counts it is of."""
    counted = any(isinstance(x, Counts) for x in tensors)
    if ARGUMENTS[measure].independent:
        return _of_divergence(estimator, measure, tensors, value)
    if measure == ENTROPY.measure:
        (x,) = tensors
        counts = _counted(estimator, x)
        few = _alone if counted else _few_values  # the error of counts includes their bias
        found = list(few(estimator, counts))
        if estimator.over == "values":
            found += squeezed(estimator, x, "x", *counts_of_all(estimator._binning, x=counts))
        return found
    if measure == MUTUAL_INFORMATION.measure:
        x, y = tensors
        found = list(undersampling(estimator, x, y, value))
        if not counted:
            found += dependent_samples(x, y)
        if estimator.over == "values" and not counted:
            for name, tensor in (("x", x), ("y", y)):
                found += squeezed(
                    estimator, tensor, name, *counts_of_all(estimator._binning, x=tensor)
                )
        if not any(finding.code == "squeezed-bins" for finding in found):
            found += hidden(estimator, measure, tensors, value)
        return found
    return []


def _of_divergence(
    estimator: Histogram, measure: str, tensors: Sequence[Any], value: float
) -> list[Finding]:
    """The findings on a divergence or a cross-entropy."""
    of_p, of_q = tensors
    counted = any(isinstance(x, Counts) for x in tensors)
    p, q = _counted(estimator, of_p), _counted(estimator, of_q)
    if measure == CROSS_ENTROPY.measure:  # an entropy, and the divergence that is judged here
        measure, of_entropy = KL_DIVERGENCE.measure, True
        value = float(estimator.kl_divergence(p, q))
    else:
        of_entropy = False
    found: list[Finding] = []
    if measure == KL_DIVERGENCE.measure:
        found += _support(estimator, p, q, value)
        if not of_entropy:
            found += _edge_at_zero(estimator, p, q, value)
    if estimator.over == "values" and estimator.range != "own":
        p_counts, q_counts = counts_of_all(estimator._binning, p=p, q=q)
        found += finer_than_data(p_counts, q_counts)
        for name, counts in (("p", p_counts), ("q", q_counts)):
            found += squeezed(estimator, counts, name, counts)
        if measure == KL_DIVERGENCE.measure and counted and math.isfinite(value) and not found:
            found += _wider_bins(estimator, p_counts, q_counts, value)
    if not found:
        found += hidden(estimator, measure, tensors, value)
    if measure == KL_DIVERGENCE.measure and not counted and math.isfinite(value):
        found += _no_overlap(estimator, p, q, value)
        if not of_entropy:
            found += _bins(estimator, of_p, of_q, value)
    return found


def _counted(estimator: Histogram, x: Any) -> Any:
    """The counts of ``x``, which every finding can look at, if they can stand for it."""
    return estimator.count(x) if estimator.streams and not isinstance(x, Counts) else x


def _few_values(estimator: Histogram, x: Any) -> Iterator[Finding]:
    plain = estimator.uncorrected
    entropy = plain.entropy(x)
    if estimator.over == "samples" and float(entropy) >= math.log(len(x)) * (1 - 1e-9):
        yield Finding(
            "error",
            "every sample is the only one of its kind, so the entropy is ln n whatever the data",
            float(entropy),
            "Use fewer bins, more samples, or another random variable (over='units').",
            "x",
            code="unique-samples",
        )
    elif estimator.correction is None:
        bias = float(replace(plain, correction="miller-madow").entropy(x) - entropy)
        if bias >= _BIAS:
            yield Finding(
                "warning",
                f"there are too few values for the bins, so the entropy is too low by about "
                f"{bias:.2f} nats",
                bias,
                "Use fewer bins, more samples, or correction='grassberger'.",
                "x",
                code="too-few-values",
            )


def _alone(estimator: Histogram, x: Counts) -> Iterator[Finding]:
    """A finding if most values are alone in their bins, so that no bias can be told from them."""
    share = float((x.values == 1).sum() / x.values.sum())
    if share >= _ALONE:
        yield Finding(
            "error",
            f"{share:.0%} of the values are alone in their bins, so that the entropy tells their "
            "number above all",
            share,
            "Measure more passes together, or use fewer bins.",
            "x",
            code="too-few-values",
        )


def _support(estimator: Histogram, p: Any, q: Any, value: float) -> Iterator[Finding]:
    uncovered = float(estimator.uncovered(p, q))
    infinite = math.isinf(value)
    if not infinite and uncovered < _UNCOVERED:
        return
    what = "samples" if estimator.over == "samples" else "values"
    yield Finding(
        "error" if infinite else "warning",
        f"{_percentage(uncovered)} of the {what} of the first lie in bins where the second has "
        "none, "
        + (
            "so the divergence is infinite"
            if infinite
            else "so the pseudo-count and the amount of data decide this number"
        ),
        uncovered,
        (
            "Compare variables of one kind and scale: of token ids and activations no divergence "
            "is defined."
            if uncovered >= _APART
            else f"Use fewer bins{', a pseudocount' if infinite else ''}, or an estimator for "
            "densities such as ip.KNN."
        ),
        "p, q",
        code="missing-support",
    )


def _percentage(share: float) -> str:
    return f"{share:.1%}" if share >= 1e-3 else f"{100 * share:.1g}%"


def _edge_at_zero(estimator: Histogram, p: Any, q: Any, value: float) -> Iterator[Finding]:
    if estimator.over != "values":
        return
    at_zero = float(estimator.kl_at_zero(p, q))
    if at_zero >= max(_AT_ZERO * value, _NEGLIGIBLE_AT_ZERO):
        yield Finding(
            "warning",
            f"{at_zero:.3g} nats come only from the bin edge at zero",
            at_zero,
            "Use a range=(low, high) whose bins have no edge at zero.",
            "p, q",
            code="bin-edge-at-zero",
        )


def _no_overlap(estimator: Histogram, p: Any, q: Any, value: float) -> Iterator[Finding]:
    if not estimator.pseudocount or estimator.over != "values":
        return
    shared = counts_of_all(estimator._binning, p=p, q=q)[1]
    bins = shared.grid.size if estimator.streams else estimator.bins
    ceiling = math.log(shared.total / estimator.pseudocount + bins) - float(estimator.entropy(p))
    if value >= NEAR * ceiling:
        yield Finding(
            "warning",
            f"the divergence is {value:.2f} nats, near the {ceiling:.2f} of no overlap at all",
            value / ceiling,
            "It measures the number of values and the pseudo-count. Use fewer bins.",
            "p, q",
            code="no-overlap",
        )


def _bins(estimator: Histogram, p: Any, q: Any, value: float) -> Iterator[Finding]:
    if estimator.bins < 4:
        return
    others = [
        float(replace(estimator, bins=bins).kl_divergence(p, q))
        for bins in (estimator.bins // 2, estimator.bins * 2)
    ]
    change = max(abs(other - value) for other in others)
    if change >= max(_SENSITIVE * abs(value), _NEGLIGIBLE):
        yield _bins_decide(
            f"with half and twice the bins, the divergence is {others[0]:.3f} and "
            f"{others[1]:.3f} instead of {value:.3f} nats",
            change,
        )


def _wider_bins(estimator: Histogram, p: Counts, q: Counts, value: float) -> Iterator[Finding]:
    """A finding if a divergence of counts is decided by the bins, which can only be merged."""
    if not isinstance(p.grid, DyadicGrid) or p.grid.size < 4:
        return
    width = 2 * p.grid.width
    other = float(estimator.kl_divergence(p.at_width(width), q.at_width(width)))
    # To some extent bins always matter. Where all values of one lie in a bin, it is by ln 2.
    most = min(_DECIDED * abs(value), math.log(2) / 2)
    if abs(other - value) >= max(most, _NEGLIGIBLE):
        yield _bins_decide(
            f"with bins of twice the width, the divergence is {other:.3f} instead of {value:.3f} "
            "nats",
            other - value,
        )


def _bins_decide(what: str, change: float) -> Finding:
    return Finding(
        "warning",
        what,
        change,
        "The bins decide the number: quote them with it, or use an estimator for densities such "
        "as ip.KNN.",
        "p, q",
        code="bins-decide",
    )
