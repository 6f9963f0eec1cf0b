r"""What the bins of a range hide, told by bins that hold equal shares of the values.

A few extreme values, or heavy tails, stretch a range until most values share a few of its bins.
Bins between the quantiles of all values are as fine as there are values, wherever those are. By
the data-processing inequality, no bins show more of a divergence or of an information than there
is, so that the largest is the nearest, once the bias is taken off that few values cause,

.. math:: \frac{B - 1}2 \Big(\frac1n + \frac1m\Big), \quad
    \frac{B - 1}8 \Big(\frac1n + \frac1m\Big), \quad \frac{(B - 1)^2}{2n}

of a relative entropy, a Jensen-Shannon divergence and an information.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.histogram.histogram import Histogram

# The most values that are looked at; how many there must be for a bin, and the most bins; and the
# same for a cell of pairs, and the bins of either.
_MOST, _PER_BIN, _BINS, _PER_CELL, _BINS_OF_PAIRS = 20_000, 50, 32, 12, 8
# From how many nats on, beyond so many standard errors, what is hidden is worth a finding; from
# which share of the whole; and from which the number is meaningless.
_NATS, _CERTAIN, _SHARE, _MOSTLY = 0.05, 3.0, 0.15, 0.5


def hidden(
    estimator: Histogram, measure: str, tensors: Sequence[Any], value: float
) -> Iterator[Finding]:
    """A finding if bins of equal shares show much more than those of the range of the data.

    Arguments:
        estimator: The histogram.
        measure: ``"kl_divergence"``, ``"js_divergence"`` or ``"mutual_information"``.
        tensors: Its arguments; nothing is found of counts, which have lost the values.
        value: What the histogram gave, in nats.
    """
    if estimator.range not in ("dyadic", "minmax") or any(isinstance(x, Counts) for x in tensors):
        return
    if estimator.bins < 4:
        return
    x, y = (checks.as_tensor(each, "x").detach().double() for each in tensors)
    y = y.to(x.device)
    if estimator.over != "values" and not x.numel() == y.numel() == len(x):
        return
    of_pairs = measure == "mutual_information"
    x, y = _some(x), _some(y)  # the same of both, if they are equally many
    # Where even half as many bins show more, it is where they lie, and not how many they are.
    shown, noise = (_information if of_pairs else _divergence)(x, y, measure, estimator.bins // 2)
    missed = shown - value
    if missed > max(_NATS + _CERTAIN * noise, _SHARE * shown):
        yield Finding(
            "error" if missed > _MOSTLY * shown else "warning",
            f"in bins that hold equal shares of the values, it is {shown:.2f} nats or more; the "
            "range of the data makes these too wide for most values",
            shown,
            "Use a range=(low, high) for the bulk of the values, with outside='clip', or an "
            "estimator for densities such as ip.KNN.",
            "x, y" if of_pairs else "p, q",
            code="squeezed-bins",
        )


def _some(x: Tensor) -> Tensor:
    """The values, or as many as are enough, at random."""
    x = x.reshape(-1)
    if len(x) <= _MOST:
        return x
    generator = torch.Generator().manual_seed(0)
    return x[torch.randint(len(x), (_MOST,), generator=generator, device="cpu").to(x.device)]


def _between_quantiles(x: Tensor, of: Tensor, bins: int) -> tuple[Tensor, int]:
    """The bin of each value, and the number of bins, which values that repeat make fewer."""
    ordered = of.sort().values
    places = torch.arange(1, bins, device=of.device) * len(of) // bins
    edges = torch.unique(ordered[places])
    return torch.bucketize(x, edges, right=True), len(edges) + 1


def _divergence(p: Tensor, q: Tensor, measure: str, most: int) -> tuple[float, float]:
    """A divergence less its bias, and its standard error."""
    n, m = len(p), len(q)
    both = torch.cat([p, q])
    places, bins = _between_quantiles(both, both, max(2, min(_BINS, most, min(n, m) // _PER_BIN)))
    # A value more in each bin, so that none of q is empty.
    a, b = (torch.bincount(part, minlength=bins) + 1.0 for part in (places[:n], places[n:]))
    a, b = a.double() / a.sum(), b.double() / b.sum()
    few = 1 / n + 1 / m
    if measure == "js_divergence":
        middle = (a + b) / 2
        of_p, of_q = (a / middle).log() / 2, (b / middle).log() / 2
        shown, factor = (a * of_p + b * of_q).sum(), 1 / 8
    else:
        of_p, of_q = (a / b).log(), a / b
        shown, factor = (a * of_p).sum(), 1 / 2
    variance = float(_variance(a, of_p) / n + _variance(b, of_q) / m)
    variance += 2 * (bins - 1) * (factor * few) ** 2
    return float(shown) - factor * (bins - 1) * few, math.sqrt(variance)


def _variance(p: Tensor, values: Tensor) -> Tensor:
    return (p * values.square()).sum() - (p * values).sum().square()


def _information(x: Tensor, y: Tensor, _: str, most: int) -> tuple[float, float]:
    """An information less its bias, and its standard error."""
    n = len(x)
    bins = max(2, min(_BINS_OF_PAIRS, most, math.isqrt(n // _PER_CELL)))
    (of_x, rows), (of_y, columns) = (_between_quantiles(each, each, bins) for each in (x, y))
    table = torch.bincount(of_x * columns + of_y, minlength=rows * columns).double() / n
    apart = torch.outer(*(table.view(rows, columns).sum(i) for i in (1, 0))).flatten()
    logs = torch.where(table > 0, (table / apart).log(), 0.0)
    freedom = (rows - 1) * (columns - 1)
    variance = float(_variance(table, logs)) / n + freedom / (2 * n * n)
    return float((table * logs).sum()) - freedom / (2 * n), math.sqrt(variance)
