"""Counts that stay on a device until somebody reads them: counting waits for nothing.

On the CPU, values are first checked, then a grid is chosen that spans them, then they are counted
on it (:mod:`infoprobe.estimators.histogram.tabulation`). Here all three happen on the device, by
operations whose results have a size that is known beforehand, so the host never has to know what
they found. The counts are the same, to the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.devices import extremes, send
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.counts import Counts, in_memory_order
from infoprobe.estimators.histogram.grids import (
    FINEST,
    INDEX_BITS,
    DyadicGrid,
    UniformGrid,
)

# Values are counted in blocks, which bounds the memory that is needed besides.
_BLOCK = 1 << 24
# Additions to one cell wait for each other, so neighbouring values go to different copies of it.
_LANES, _CELLS = 64, 1 << 20
# By so many levels a grid may become coarser when it meets another one.
_LEVELS = 64
# An int64 holds the bits of a float64, with the exponent from this bit on.
_MANTISSA_BITS, _EXPONENT_BIAS = 52, 1023
# More than 53 bits of an integer get lost in float64.
_EXACT_INTEGERS = 2.0**53


@dataclass(frozen=True, eq=False)
class UnreadCounts:
    """Counts on a grid that only the device knows.

    Attributes:
        binning: Where the bins lie.
        values: The number of values in each bin, and zeros: (bins,), int64.
        place: Of a dyadic grid the level and the numbers of the first and the last bin, (3,),
            int64; the first is after the last if nothing was counted. Of another grid ``None``.
    """

    binning: Binning
    values: Tensor
    place: Tensor | None

    def __add__(self, other: UnreadCounts) -> UnreadCounts:
        device = self.values.device
        values = send(other.values, device)
        if self.place is None or other.place is None:
            return UnreadCounts(self.binning, self.values + values, None)
        bins, theirs = self.binning.bins, send(other.place, device)
        place = _joined(self.place, theirs, bins)
        moved = _moved(self.values, self.place, place) + _moved(values, theirs, place)
        return UnreadCounts(self.binning, moved, place)

    @property
    def tensors(self) -> list[Tensor]:
        """What is on the device."""
        return [self.values] if self.place is None else [self.values, self.place]

    def counts(self, values: Tensor, place: Tensor | None = None) -> Counts | None:
        """The counts, once their :attr:`tensors` were read; ``None`` if there are none."""
        bins = self.binning.bins
        if place is not None:
            exponent, first, last = place.tolist()
            size = last - first + 1
            return (
                Counts(DyadicGrid(bins, exponent, first, size), values[:size].clone())
                if (size > 0)
                else None
            )
        assert not isinstance(self.binning.range, str)
        return Counts(UniformGrid(*self.binning.range, bins), values.clone())


@runtime_checkable
class CountsUnread(Protocol):
    """An estimator whose counts can stay on a device until somebody reads them."""

    def count_unread(
        self, tensors: Sequence[Tensor], blocks: int, of_samples: Sequence[Tensor] | None, /
    ) -> Unread:
        """The counts of tensors on one device, of each block of neighbouring samples."""

    def why_refused(self, low: float, high: float, /) -> str:
        """Why values with this least and this greatest one are not counted."""


@dataclass(frozen=True, eq=False)
class Unread:
    """What was counted of some tensors.

    Attributes:
        blocks: The counts of each block of neighbouring samples.
        ends: The least and the greatest value, (2,), float64.
        refused: Whether they were not counted, since there are such values: 0-dim, bool.
    """

    blocks: list[UnreadCounts]
    ends: Tensor
    refused: Tensor


def count_unread(
    binning: Binning,
    tensors: Sequence[Tensor],
    blocks: int,
    of_samples: Sequence[Tensor] | None = None,
) -> Unread:
    """Counts some tensors, all on one device, in blocks of neighbouring samples.

    Arguments:
        binning: Where the bins lie; it must stream.
        tensors: The tensors, of any shapes, with samples along the first axis.
        blocks: The number of blocks.
        of_samples: The block of each sample, (n,), int64, on the CPU, for each tensor; ``None``
            for blocks of about the same size.
    """
    floats = [_exact_float(x) for x in tensors]
    ends = extremes(floats)
    fine = are_fine(tensors, ends)
    place: Tensor | None = None
    if isinstance(binning.range, str):
        place = _spanning(torch.where(fine, ends, 0.0), binning.bins)
    elif binning.outside == "raise":
        fine = fine & (ends[0] >= binning.range[0]) & (ends[1] <= binning.range[1])
    counts = torch.zeros(blocks * binning.bins, dtype=torch.int64, device=ends.device)
    for i, x in enumerate(floats):
        n = checks.length(x)
        if blocks > 1 and n > 1:
            if of_samples is None:
                groups = torch.arange(n, device=x.device) * blocks // n
            else:
                groups = send(of_samples[i], x.device)
            rows = max(1, _BLOCK // max(1, x[:1].numel()))
            parts = zip(
                torch.split(x.reshape(n, -1), rows), torch.split(groups, rows), strict=True
            )
            for some, group in parts:
                counts += _count(binning, some, place, blocks, group.unsqueeze(1))
        else:
            for some in torch.split(in_memory_order(x), _BLOCK):
                counts += _count(binning, some, place, blocks, None)
    counts = (counts * fine).view(blocks, binning.bins)
    if place is not None:
        nothing = torch.stack([torch.full_like(place[0], FINEST), place[0] * 0, place[0] * 0 - 1])
        place = torch.where(fine, place, nothing)
    return Unread([UnreadCounts(binning, c, place) for c in counts.unbind()], ends, ~fine)


def are_fine(tensors: Sequence[Tensor], ends: Tensor) -> Tensor:
    """Whether all values are finite, and integers exact in float64: 0-dim, bool."""
    fine = ends.isfinite().all()
    if any(not x.is_floating_point() and x.element_size() == 8 for x in tensors):
        fine = fine & (ends.abs() < _EXACT_INTEGERS).all()
    return fine


def why_refused(low: float, high: float) -> str:
    """What is wrong with tensors that are not fine, by their least and greatest value."""
    if math.isfinite(low) and math.isfinite(high):
        return (
            "expected integers below 2**53 in magnitude, got larger ones, which float64 cannot "
            "tell apart. Subtract an offset or divide first."
        )
    got = "NaN" if math.isnan(low) or math.isnan(high) else "infinite ones"
    return (
        f"expected finite values, got {got}. Find where they arise, or leave out the samples "
        "that hold them, and in other arguments those that belong to them."
    )


def _exact_float(x: Tensor) -> Tensor:
    """The values in a type that holds them exactly, if it can."""
    if x.dtype in (torch.float32, torch.float64):
        return x
    small = x.is_floating_point() or x.element_size() <= 2
    return x.to(torch.float32 if small else torch.float64)


def _count(
    binning: Binning, x: Tensor, place: Tensor | None, blocks: int, group: Tensor | None
) -> Tensor:
    """The counts of some values, (blocks * bins,), where all are in a block or each in its own."""
    bins, cells = binning.bins, binning.bins * blocks
    one = torch.ones(1, dtype=torch.int64, device=x.device)
    share = one.expand(x.numel())
    if place is not None:
        index = _dyadic_index(x, place)
    else:
        assert not isinstance(binning.range, str)
        low, high = binning.range
        values = x.to(torch.float64)
        if binning.outside == "drop":
            share = ((values >= low) & (values <= high)).to(torch.int64).reshape(-1)
        grid = UniformGrid(low, high, bins)
        index = grid.index(values.clamp(low, high)).to(torch.int64)
    # Only values that are refused are still outside.
    index = index.clamp_(0, bins - 1)
    if group is not None:
        index += group * bins
    index = index.reshape(-1)
    lanes = max(1, min(_LANES, _CELLS // cells))
    if lanes > 1:
        index += torch.arange(len(index), device=x.device) % lanes * cells
    counts = torch.zeros(lanes * cells, dtype=torch.int64, device=x.device)
    return counts.scatter_add_(0, index, share).view(lanes, cells).sum(0)


def _dyadic_index(x: Tensor, place: Tensor) -> Tensor:
    """The place of each value among the bins of a dyadic grid: int64."""
    exponent, first = place[0], place[1]
    values = x.to(torch.float64)
    if x.dtype == torch.float64:
        # floor(x / 2^e) = floor(floor(x) / 2^e), and the latter cannot underflow. In two steps,
        # since 2^-e may be too small for a float64.
        values = torch.where(exponent > 0, values.floor(), values)
        half = exponent >> 1
        values = values * _power_of_two(-half)
        exponent = exponent - half
    numbers = (values * _power_of_two(-exponent)).floor_()
    return numbers.sub_(first.to(torch.float64)).to(torch.int64)


def _power_of_two(exponent: Tensor) -> Tensor:
    """Two to the power of an integer, exactly: 0-dim, float64."""
    return ((exponent + _EXPONENT_BIAS) << _MANTISSA_BITS).view(torch.float64)


def _spanning(ends: Tensor, bins: int) -> Tensor:
    """The place of :meth:`DyadicGrid.spanning`, found on the device: (3,), int64."""
    low, high = ends[0], ends[1]
    magnitude = ends.abs().amax()
    half_width = (high / 2 - low / 2) / bins
    levels = torch.frexp(torch.stack([magnitude, half_width])).exponent.to(torch.int64)
    coarse = torch.where(magnitude > 0, levels[0] - INDEX_BITS, FINEST)
    wide = torch.where(half_width > 0, levels[1] - 1, FINEST)
    exponent = torch.maximum(coarse, wide).clamp(min=FINEST)
    numbers = _dyadic_numbers(ends, exponent)
    return _widened(exponent, numbers[0], numbers[1], bins)


def _dyadic_numbers(values: Tensor, exponent: Tensor) -> Tensor:
    nowhere = torch.stack([exponent, exponent * 0])
    return _dyadic_index(values, nowhere)


def _joined(a: Tensor, b: Tensor, bins: int) -> Tensor:
    """The place of the finest grid that both can be merged into."""
    exponent = torch.maximum(a[0], b[0])
    at_a, at_b = (p[1:] >> (exponent - p[0]).clamp(max=63) for p in (a, b))
    first, last = torch.minimum(at_a[0], at_b[0]), torch.maximum(at_a[1], at_b[1])
    joined = _widened(exponent, first, last, bins)
    return torch.where(a[1] > a[2], b, torch.where(b[1] > b[2], a, joined))


def _widened(exponent: Tensor, first: Tensor, last: Tensor, bins: int) -> Tensor:
    """Coarser until there are no more than ``bins`` bins."""
    levels = torch.arange(_LEVELS, device=first.device)
    fits = (last >> levels) - (first >> levels) < bins
    level = fits.to(torch.int64).argmax()  # the first of the greatest
    return torch.stack([exponent + level, first >> level, last >> level])


def _moved(values: Tensor, place: Tensor, other: Tensor) -> Tensor:
    """Counts moved onto a grid that theirs can be merged into."""
    bins = len(values)
    numbers = torch.arange(bins, device=values.device) + place[1]
    index = (numbers >> (other[0] - place[0]).clamp(0, 63)) - other[1]
    # Bins after the last one are empty, wherever they go.
    return torch.zeros_like(values).index_add_(0, index.clamp_(0, bins - 1), values)
