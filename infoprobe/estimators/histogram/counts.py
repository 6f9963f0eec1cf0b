"""Counts of values on a grid of bins."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram import compiled
from infoprobe.estimators.histogram.grids import DyadicGrid, Grid, UniformGrid

# Counting proceeds in blocks that stay in the processor's cache; a GPU wants large ones.
_BLOCK = 1 << 17
_BLOCK_ELSEWHERE = 1 << 24

# A processor waits for one addition to a bin before it begins the next to the same bin, and an
# atom (black pixels, the zeros of a ReLU) makes it wait all the time. So neighbouring values are
# counted apart, in different lanes.
_LANES = 4
# So few values are counted before the lanes have been put together.
_FEW = 1 << 12

_INT16 = 1 << 15


@dataclass(frozen=True, eq=False)
class Counts:
    """How many values fell into each bin of a grid.

    Counts are additive: ``a + b`` equals the counts of both streams seen at once, to the last
    count and in any order.

    Attributes:
        grid: The bins.
        values: The number of values in each bin, (bins,), int64.
    """

    grid: Grid
    values: Tensor

    def __add__(self, other: Counts) -> Counts:
        grid, part = self.grid, other.grid
        if grid == part:
            return Counts(grid, self.values + other.values)
        if isinstance(grid, DyadicGrid) and isinstance(part, DyadicGrid) and grid.holds(part):
            values = self.values.clone()
            values.narrow(0, part.first - grid.first, part.size).add_(other.values)
            return Counts(grid, values)
        a, b = share(self, other)
        return Counts(a.grid, a.values + b.values)

    def to(self, device: torch.device | str) -> Counts:
        """The same counts on another device."""
        return Counts(self.grid, self.values.to(device))

    def on(self, grid: Grid) -> Counts:
        """The same counts on a grid into which theirs can be merged."""
        return Counts(grid, _moved(self.values, self.grid, grid))

    def at_width(self, width: float) -> Counts:
        """The same counts on dyadic bins of another width.

        Arguments:
            width: A power of two, at least the width of the present bins.

        Raises:
            ValueError: The bins are not dyadic, or cannot be merged into bins of this width.
        """
        mantissa, exponent = math.frexp(checks.require_real(width, 0, "width"))
        own = self.grid.width if isinstance(self.grid, DyadicGrid) else math.inf
        if not isinstance(self.grid, DyadicGrid) or mantissa != 0.5 or width < own:
            raise ArgumentValueError(
                "width",
                f"expected a power of two from {own:g} on, the width of these bins, got {width!r}."
                " Merging makes bins of range='dyadic' two, four or more times as wide.",
            )
        return self.on(self.grid.widened_to(exponent - 1))

    def state_dict(self) -> dict[str, Any]:
        """The counts and their grid, as a tensor and plain numbers."""
        kind = "dyadic" if isinstance(self.grid, DyadicGrid) else "uniform"
        return {"kind": kind, "grid": asdict(self.grid), "values": self.values.clone()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Counts:
        """The counts that :meth:`state_dict` describes."""
        grid = DyadicGrid if state["kind"] == "dyadic" else UniformGrid
        return cls(grid(**state["grid"]), state["values"].clone())

    @property
    def total(self) -> int:
        """The number of values counted."""
        return int(self.values.sum())


@dataclass(frozen=True, eq=False)
class GroupedCounts(Counts):
    """Counts of which it is also known how much each group of samples contributed.

    Attributes:
        groups: The counts of each group, which add up to :attr:`values`: (groups, bins), int64.
    """

    groups: Tensor

    @classmethod
    def of(cls, parts: Sequence[Counts]) -> GroupedCounts:
        """The sum of the counts of some groups."""
        grid = functools.reduce(_joined, [part.grid for part in parts])
        groups = torch.stack([_moved(part.values, part.grid, grid) for part in parts])
        return cls(grid, groups.sum(0), groups)

    @property
    def parts(self) -> list[Counts]:
        """The counts of each group."""
        return [Counts(self.grid, values) for values in self.groups.unbind()]

    def to(self, device: torch.device | str) -> GroupedCounts:
        """The same counts on another device."""
        return GroupedCounts(self.grid, self.values.to(device), self.groups.to(device))

    def on(self, grid: Grid) -> GroupedCounts:
        """The same counts on a grid into which theirs can be merged."""
        groups = _moved(self.groups, self.grid, grid)
        return GroupedCounts(grid, groups.sum(0), groups)


def count(x: Tensor, grid: Grid) -> Counts:
    """Counts the values of ``x``, which must all lie within ``grid``.

    Memory beyond ``x``: a few blocks of values and a few int64 a bin.
    """
    x = in_memory_order(x)
    counted = compiled.tally(x, grid)
    if counted is not None:
        return Counts(grid, counted.squeeze(0))
    size = _block(x)
    if x.numel() <= size:
        return Counts(grid, _count(x, grid))
    values = torch.zeros(grid.size, dtype=torch.int64, device=x.device)
    for block in torch.split(x, size):
        values += _count(block, grid)
    return Counts(grid, values)


def count_groups(x: Tensor, grid: Grid, groups: Tensor, number: int) -> GroupedCounts:
    """Counts values, which must all lie within ``grid``, group by group.

    Arguments:
        x: Samples along the first axis, (n, ...).
        grid: The bins.
        groups: The group of each sample, from 0: (n,).
        number: The number of groups.
    """
    counted = compiled.tally(x, grid, groups, number)
    if counted is not None:
        return GroupedCounts(grid, counted.sum(0), counted)
    counts = torch.zeros(number * grid.size, dtype=torch.int64, device=x.device)
    starts = (groups.to(x.device) * grid.size).to(torch.int32)
    per_sample = max(1, x[:1].numel())
    size = max(1, _block(x) // per_sample)
    for some, start in zip(torch.split(x, size), torch.split(starts, size), strict=True):
        some = checks.exact_float(some, "x")
        places = grid.index(some).flatten(1) if some.dim() > 1 else grid.index(some).unsqueeze(1)
        flat = (places + start.unsqueeze(1)).flatten()
        counts += torch.bincount(flat, minlength=len(counts))
    parts = counts.view(number, grid.size)
    return GroupedCounts(grid, parts.sum(0), parts)


def _block(x: Tensor) -> int:
    """How many values are counted at a time."""
    return _BLOCK if x.device.type == "cpu" else _BLOCK_ELSEWHERE


def _count(x: Tensor, grid: Grid) -> Tensor:
    n = x.numel()
    stride = 1 << grid.size.bit_length()
    in_lanes = n > _FEW and x.device.type == "cpu" and 2 * stride * _LANES <= _INT16
    if not in_lanes or grid.numbers is None:
        return torch.bincount(grid.index(x), minlength=grid.size)
    x = checks.exact_float(x, "x")
    if isinstance(grid, DyadicGrid):
        x, first = grid.exact(x), grid.first
        scaled = grid.scaled(x, _scratch.take(n, x.dtype))
    else:
        wide, out, other = (_scratch.take(n, torch.float64, slot) for slot in range(3))
        scaled, first = grid.place(wide.copy_(x), out, other), 0
    # Bins on both sides of zero, or on either, have numbers from -stride to stride.
    near_zero = -stride <= first <= stride - grid.size
    if not near_zero:
        scaled.sub_(first)
    place = _scratch.take(n, torch.int16).copy_(scaled)
    starts = _lane_starts(stride)
    place += starts if n == _BLOCK else starts[:n]
    lanes = torch.bincount(place, minlength=2 * stride * _LANES).view(_LANES, 2 * stride)
    return lanes.sum(0).narrow(0, stride + (first if near_zero else 0), grid.size)


@functools.lru_cache(maxsize=4)
def _lane_starts(stride: int) -> Tensor:
    """What puts the numbers from -stride to stride of a block into its lanes, added to them."""
    lanes = torch.arange(_BLOCK, device="cpu") % _LANES
    return (lanes * 2 * stride + stride).to(torch.int16)


class _Scratch(threading.local):
    """Memory for a block that is used again and again: fresh memory takes longer than counting."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[torch.dtype, int], Tensor] = {}

    def take(self, n: int, dtype: torch.dtype, slot: int = 0) -> Tensor:
        """Memory for ``n`` values, another one for each slot."""
        if (dtype, slot) not in self._blocks:
            with torch.inference_mode(False):  # a tensor made in that mode cannot leave it
                self._blocks[dtype, slot] = torch.empty(_BLOCK, dtype=dtype, device="cpu")
        block = self._blocks[dtype, slot]
        return block if n == _BLOCK else block[:n]


_scratch = _Scratch()


def in_memory_order(x: Tensor) -> Tensor:
    """All values in one dimension, in their order in memory: a view of any dense tensor."""
    if x.is_contiguous():
        return x.view(-1)
    return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)


def share(a: Counts, b: Counts) -> tuple[Counts, Counts]:
    """Both counts on the same bins, without loss.

    Raises:
        ValueError: They lie on different uniform grids, which have no common bins, or on dyadic
            grids for different numbers of bins, neither of which is the one to choose.
    """
    if a.grid == b.grid:
        return a, b
    grid = _joined(a.grid, b.grid)
    return a.on(grid), b.on(grid)


def _joined(a: Grid, b: Grid) -> Grid:
    """The finest grid that both can be merged into."""
    if a == b:
        return a
    if not (isinstance(a, DyadicGrid) and isinstance(b, DyadicGrid) and a.bins == b.bins):
        raise ValueError(
            f"counts on {a} and on {b} have no common bins. Count both with the same estimator."
        )
    return a.joined(b)


def _moved(values: Tensor, grid: Grid, other: Grid) -> Tensor:
    """Counts (..., bins) on a grid, moved onto another that it can be merged into."""
    if isinstance(grid, DyadicGrid) and isinstance(other, DyadicGrid):
        return grid.rebin(values, other)
    return values
