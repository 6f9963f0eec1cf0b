"""Bins that do not fit the data: too wide because of a few values, or finer than they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.grids import Grid
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.histogram.histogram import Histogram

# The share of values that may be extreme, how much narrower the rest must be, and in how few bins.
_EXTREME, _NARROWER, _FEW = 1e-3, 8, 8
# The same of tails that are heavy.
_TAILS, _FAR_NARROWER = 0.1, 64
# By how many nats the entropy changes without the extreme values, for a finding.
_CHANGE = 0.5
# A bin is empty for want of precision, not of values, between two that hold this many values.
_FULL = 5
# How many gaps make a comb, and which share of the other's values in them is worth a finding.
_GAPS, _IN_GAPS, _MOST_IN_GAPS = 8, 0.05, 0.25


class _Middle(NamedTuple):
    """The fewest bins next to each other that hold nearly all values.

    Attributes:
        first: The first of these bins.
        width: How many there are.
        outside: How many values lie elsewhere.
    """

    first: int
    width: int
    outside: int


def squeezed(estimator: Histogram, x: Any, name: str, counts: Counts) -> Iterator[Finding]:
    """A finding if a few extreme values have made the bins too wide for all others.

    Arguments:
        estimator: The histogram.
        x: What was counted, a tensor or counts.
        name: What the argument is called.
        counts: The counts of ``x``.
    """
    if not isinstance(estimator.range, str):
        return
    values = counts.values.cpu()
    middle = _middle(values, _EXTREME)
    if not middle.outside or middle.width * _NARROWER > len(values):
        yield from _heavy_tails(x, name, values, counts.grid)
        return
    occupied = int((values[middle.first : middle.first + middle.width] > 0).sum())
    without = math.nan
    if isinstance(x, Counts):
        if not 2 <= occupied <= _FEW:
            return  # A single bin may hold a single value, such as zero.
    else:
        tensor = checks.exact_float(checks.as_tensor(x, name), name)
        low, high = counts.grid.edges()[[middle.first, middle.first + middle.width]]
        inside = tensor[(tensor >= low) & (tensor <= high)]
        entropy, without = (float(estimator.entropy(each)) for each in (tensor, inside))
        if without - entropy < _CHANGE:
            yield from _heavy_tails(x, name, values, counts.grid)
            return
    of = f"{middle.outside:,} of {int(values.sum()):,} values"
    told = "" if math.isnan(without) else f"; without them the entropy is {without:.2f} nats"
    yield Finding(
        "error",
        f"{of} stretch the bins so far that all others share {occupied} of {len(values):,}{told}",
        occupied if math.isnan(without) else without,
        "Use a range=(low, high) for the bulk of the values, with outside='clip', or leave the "
        "extreme values out.",
        name,
        code="squeezed-bins",
    )


def _heavy_tails(x: Any, name: str, values: Tensor, grid: Grid) -> Iterator[Finding]:
    """A finding if the tails stretch the bins so far that nearly all values share a few."""
    middle = _middle(values, _TAILS)
    if isinstance(x, Counts) or middle.width * _FAR_NARROWER > len(values):
        return
    low, high = grid.edges()[[middle.first, middle.first + middle.width]]
    tensor = checks.exact_float(checks.as_tensor(x, name), name)
    inside = tensor[(tensor >= low) & (tensor <= high)]
    if len(torch.unique(inside)) * 2 > len(inside):  # not values such as zero, that are the same
        share = len(inside) / tensor.numel()
        yield Finding(
            "warning",
            f"heavy tails stretch the bins so far that {share:.0%} of the values share "
            f"{middle.width} of {len(values):,}",
            share,
            "Use a range=(low, high) for the bulk of the values, with outside='clip'.",
            name,
            code="squeezed-bins",
        )


def _middle(counts: Tensor, extreme: float) -> _Middle:
    """The bins that hold all values but such a share, and at least one."""
    total = int(counts.sum())
    held = total - max(1, int(total * extreme))
    up_to = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    last = torch.searchsorted(up_to, up_to[:-1] + held)  # up_to[last] - up_to[first] >= held
    width = torch.where(
        last < len(up_to), last - torch.arange(len(counts), device=counts.device), len(counts) + 1
    )
    first = int(width.argmin())
    least = int(width[first])
    return _Middle(first, least, total - int(up_to[first + least] - up_to[first]))


def finer_than_data(p: Counts, q: Counts) -> Iterator[Finding]:
    """A finding if the values of one of two samples are coarser than their common bins.

    Arguments:
        p: The counts of one.
        q: The counts of the other.
    """
    for coarse, fine, which, other in ((p, q, "first", "second"), (q, p, "second", "first")):
        gaps, separate = _gaps(coarse.values)
        share = float(fine.values[gaps].sum() / fine.values.sum())
        if separate >= _GAPS and share >= _IN_GAPS:
            yield Finding(
                "error" if share >= _MOST_IN_GAPS else "warning",
                f"the bins are finer than the steps between the values of the {which}: "
                f"{share:.1%} of the {other} lie in bins that the {which} skips",
                share,
                "The divergence is one of precision. Use half the bins, or fewer, until none is "
                "skipped.",
                "p, q",
                code="bins-finer-than-data",
            )
            return


def _gaps(counts: Tensor) -> tuple[Tensor, int]:
    """Which bins lie empty between two well-filled ones, and how many such gaps there are."""
    places = torch.arange(len(counts), device=counts.device)
    occupied = places[counts > 0]
    nearest = torch.searchsorted(occupied, places)
    inner = (counts == 0) & (nearest > 0) & (nearest < len(occupied))
    left = occupied[(nearest - 1).clamp(min=0)]
    right = occupied[nearest.clamp(max=len(occupied) - 1)]
    gaps = inner & (counts[left] >= _FULL) & (counts[right] >= _FULL)
    return gaps, int(torch.unique(left[gaps]).numel())
