"""What stands in the way of trusting a number from a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from infoprobe.estimators.arguments import ENTROPY, KL_DIVERGENCE, MUTUAL_INFORMATION
from infoprobe.estimators.ceilings import NEAR, near_ceiling
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.histogram.histogram import Histogram

# From where on a figure is worth a finding: nats, and shares.
_BIAS = 0.1
_UNCOVERED = 0.01
_AT_ZERO, _NEGLIGIBLE_AT_ZERO = 0.1, 0.001
_SENSITIVE, _NEGLIGIBLE = 0.1, 0.01


def diagnose(
    estimator: Histogram, measure: str, tensors: Sequence[Any], value: float
) -> list[Finding]:
    """The findings on a value of a measure, in nats, and on the tensors or counts it is of."""
    counted = any(isinstance(x, Counts) for x in tensors)
    if measure == KL_DIVERGENCE.measure:
        p, q = tensors
        found = [*_support(estimator, p, q, value), *_edge_at_zero(estimator, p, q, value)]
        if not counted and math.isfinite(value):
            found += [*_no_overlap(estimator, p, q, value), *_bins(estimator, p, q, value)]
        return found
    if measure == ENTROPY.measure and not counted:
        return list(_few_values(estimator, tensors[0]))
    if measure == MUTUAL_INFORMATION.measure and estimator.over == "samples":
        x, y = tensors
        plain = estimator.uncorrected
        ceiling = min(float(plain.entropy(x)), float(plain.entropy(y)))
        return list(near_ceiling(value, ceiling, len(x)))
    return []


def _few_values(estimator: Histogram, x: Any) -> Iterator[Finding]:
    plain = estimator.uncorrected
    entropy = plain.entropy(x)
    if estimator.over == "samples" and float(entropy) >= math.log(len(x)) * (1 - 1e-9):
        yield Finding(
            "warning",
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
        f"Use fewer bins{', a pseudocount' if infinite else ''}, or an estimator for densities "
        "such as ip.KNN.",
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
    bins = estimator.bins
    if estimator.streams:
        bins = (estimator.count(p) + estimator.count(q)).grid.size
    ceiling = math.log(q.numel() / estimator.pseudocount + bins) - float(estimator.entropy(p))
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
        yield Finding(
            "warning",
            f"with half and twice the bins, the divergence is {others[0]:.3f} and "
            f"{others[1]:.3f} instead of {value:.3f} nats",
            change,
            "The bins decide the number: quote them with it, or use an estimator for densities "
            "such as ip.KNN.",
            "p, q",
            code="bins-decide",
        )
