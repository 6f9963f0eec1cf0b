r"""Grids of bins, and counts on them.

Two kinds of grid cover the real line:

* :class:`DyadicGrid`: bins :math:`[i\,2^e, (i+1)\,2^e)` for integers :math:`i`. Their width is a
  power of two and zero is always an edge, so two neighbours of one level are exactly one bin of
  the next. A grid can therefore widen after the fact without looking at the data again, and any
  two counts can be brought onto the same bins without loss. This is what makes one pass enough.
* :class:`UniformGrid`: equal-width bins between a given low and high, the last one closed, with
  exactly the counts of :func:`numpy.histogram` on the values in float64.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Counting proceeds in blocks that stay in the processor's cache; a GPU wants large ones.
_BLOCK = 1 << 17
_BLOCK_CUDA = 1 << 24

# A processor waits for one addition to a bin before it begins the next to the same bin, which an
# atom (black pixels, the zeros of a ReLU) asks for all the time. So neighbours are counted apart.
_LANES = 4

# The exponent of the narrowest bin. Its inverse is still a finite float64.
_FINEST = -1022
# Bin numbers stay below 2**52 in magnitude, so that floor() is exact in float64.
_INDEX_BITS = 52
# Within these limits, powers of two (and their inverses) and bin numbers are exact in float32.
_FLOAT32_EXPONENT = 126
_FLOAT32_INDEX = 1 << 24
_INT16 = 1 << 15


@dataclass(frozen=True)
class DyadicGrid:
    r"""The bins :math:`[i\,2^e, (i+1)\,2^e)`, :math:`f \le i < f + size`.

    Attributes:
        bins: The most bins the grid may ever have.
        exponent: The level :math:`e`.
        first: The number :math:`f` of the first bin.
        size: The number of bins.
    """

    bins: int
    exponent: int
    first: int
    size: int

    @classmethod
    def spanning(cls, low: float, high: float, bins: int) -> DyadicGrid:
        """The finest grid with at most ``bins`` bins that covers ``low`` and ``high``."""
        magnitude = max(abs(low), abs(high))
        exponent = _FINEST
        if magnitude > 0:
            exponent = max(exponent, math.frexp(magnitude)[1] - _INDEX_BITS)
        # Halved before subtracting: the difference of two float64 extremes overflows.
        half_width = (high / 2 - low / 2) / bins
        if half_width > 0:
            # One level below a bin width that is surely too narrow or just right.
            exponent = max(exponent, math.frexp(half_width)[1] - 1)
        return cls._widened(
            bins, exponent, _bin_number(low, exponent), _bin_number(high, exponent)
        )

    @classmethod
    def _widened(cls, bins: int, exponent: int, first: int, last: int) -> DyadicGrid:
        """Coarser until there are no more than ``bins`` bins."""
        while last - first >= bins:
            exponent, first, last = exponent + 1, first >> 1, last >> 1
        return cls(bins, exponent, first, last - first + 1)

    def joined(self, other: DyadicGrid) -> DyadicGrid:
        """The finest grid that both can be merged into."""
        exponent = max(self.exponent, other.exponent)
        (first, last), (other_first, other_last) = self._at(exponent), other._at(exponent)
        first, last = min(first, other_first), max(last, other_last)
        return self._widened(self.bins, exponent, first, last)

    def _at(self, exponent: int) -> tuple[int, int]:
        """The first and last bin number after widening to ``exponent``."""
        shift = exponent - self.exponent
        return self.first >> shift, (self.first + self.size - 1) >> shift

    def holds(self, other: DyadicGrid) -> bool:
        """Whether the other's bins are some of these."""
        return (
            self.exponent == other.exponent
            and self.bins == other.bins
            and 0 <= other.first - self.first <= self.size - other.size
        )

    def edges(self) -> Tensor:
        """The ``size + 1`` edges, in float64; an edge beyond its range is infinite."""
        numbers = torch.arange(self.first, self.first + self.size + 1, dtype=torch.float64)
        return numbers * 2.0 ** (self.exponent - 1) * 2  # 2**1024 is no float64

    def rebin(self, values: Tensor, grid: DyadicGrid) -> Tensor:
        """Counts on this grid, moved onto a coarser or larger ``grid``."""
        if grid == self:
            return values
        shift = min(grid.exponent - self.exponent, 63)  # beyond 63 a shift is undefined
        numbers = torch.arange(self.first, self.first + self.size, device=values.device) >> shift
        return values.new_zeros(grid.size).index_add_(0, numbers - grid.first, values)

    def index(self, x: Tensor) -> Tensor:
        """The place of each value among the bins: exact, as whole numbers from 0."""
        x = self.exact(x)
        place = self.scaled(x, torch.empty_like(x)).sub_(self.first)
        return place.to(torch.int16 if self.size <= _INT16 else torch.int32)

    def exact(self, x: Tensor) -> Tensor:
        """The values in a type that finds their bins without rounding."""
        if x.dtype == torch.float32 and not self._exact_in_float32():
            x = x.to(torch.float64)
        # floor(x / 2^e) = floor(floor(x) / 2^e), and the latter cannot underflow.
        return x.floor() if self.exponent > 0 else x

    def scaled(self, x: Tensor, out: Tensor) -> Tensor:
        """The number of each value's bin, from :meth:`exact` values."""
        # Multiplying by a power of two is exact, so no value lands in a neighbour's bin.
        torch.mul(x, 2.0**-self.exponent, out=out)
        # From zero on, the conversion to integers rounds down by itself.
        return out.floor_() if self.first < 0 else out

    def _exact_in_float32(self) -> bool:
        largest = max(abs(self.first), abs(self.first + self.size))
        return abs(self.exponent) <= _FLOAT32_EXPONENT and largest <= _FLOAT32_INDEX


def _bin_number(value: float, exponent: int) -> int:
    if exponent > 0:
        value = math.floor(value)
        return value >> exponent
    return math.floor(math.ldexp(value, -exponent))


@dataclass(frozen=True)
class UniformGrid:
    """``size`` bins of equal width from ``low`` to ``high``, the last one closed.

    A grid whose ``low`` equals its ``high`` puts everything into bin ``size // 2``, as
    :func:`numpy.histogram` does with constant data.
    """

    low: float
    high: float
    size: int

    def edges(self) -> Tensor:
        """The ``size + 1`` edges, in float64."""
        return torch.from_numpy(np.linspace(self.low, self.high, self.size + 1))

    def index(self, x: Tensor) -> Tensor:
        """The place of each value among the bins, as int32; all must lie within the grid."""
        if self.low == self.high:
            return torch.full(x.shape, self.size // 2, dtype=torch.int32, device=x.device)
        x = x.to(torch.float64)
        span = self.high - self.low
        index = x.sub(self.low).div_(span).mul_(self.size).floor_().clamp_(max=self.size - 1)
        # Rounding may have put a value one bin beside its edges, which are index * step + low.
        step = span / self.size
        index -= (x < index * step + self.low).to(torch.float64)
        above = (x >= (index + 1) * step + self.low) & (index < self.size - 1)
        return index.add_(above).to(torch.int32)


Grid = DyadicGrid | UniformGrid


@dataclass(frozen=True, eq=False)
class Counts:
    """How many values fell into each bin of a grid.

    Counts are additive: ``a + b`` equals the counts of both streams seen at once, to the last
    count and in any order.

    Attributes:
        grid: The bins.
        values: An int64 tensor with one count a bin.
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

    def state_dict(self) -> dict[str, Any]:
        """All of it, as a tensor and numbers."""
        kind = "dyadic" if isinstance(self.grid, DyadicGrid) else "uniform"
        return {"kind": kind, "grid": asdict(self.grid), "values": self.values.clone()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Counts:
        """What :meth:`state_dict` describes."""
        grid = DyadicGrid if state["kind"] == "dyadic" else UniformGrid
        return cls(grid(**state["grid"]), state["values"].clone())

    @property
    def total(self) -> int:
        """The number of values counted."""
        return int(self.values.sum())


def count(x: Tensor, grid: Grid) -> Counts:
    """Counts the values of ``x``, all of which must lie within ``grid``.

    Memory beyond ``x``: a few blocks of values and a few int64 a bin.
    """
    x = in_memory_order(x)
    size = _BLOCK_CUDA if x.is_cuda else _BLOCK
    if x.numel() <= size:
        return Counts(grid, _count(x, grid))
    values = torch.zeros(grid.size, dtype=torch.int64, device=x.device)
    for block in torch.split(x, size):
        values += _count(block, grid)
    return Counts(grid, values)


def _count(x: Tensor, grid: Grid) -> Tensor:
    stride = 1 << grid.size.bit_length()
    if x.is_cuda or isinstance(grid, UniformGrid) or 2 * stride * _LANES > _INT16:
        return torch.bincount(grid.index(x), minlength=grid.size)
    x = grid.exact(x)
    n = x.numel()
    scaled = grid.scaled(x, _scratch.take(n, x.dtype))
    # Bins on both sides of zero, or on either, have numbers from -stride to stride.
    near_zero = -stride <= grid.first <= stride - grid.size
    if not near_zero:
        scaled.sub_(grid.first)
    place = _scratch.take(n, torch.int16).copy_(scaled)
    starts = _lane_starts(stride)
    place += starts if n == _BLOCK else starts[:n]
    lanes = torch.bincount(place, minlength=2 * stride * _LANES).view(_LANES, 2 * stride)
    return lanes.sum(0).narrow(0, stride + (grid.first if near_zero else 0), grid.size)


@functools.lru_cache(maxsize=4)
def _lane_starts(stride: int) -> Tensor:
    """What to add to the numbers from -stride to stride in each lane: a block of them."""
    lanes = torch.arange(_BLOCK, device="cpu") % _LANES
    return (lanes * 2 * stride + stride).to(torch.int16)


class _Scratch(threading.local):
    """Memory for a block, used again and again: fresh memory costs more than what we do in it."""

    def __init__(self) -> None:
        self._blocks: dict[torch.dtype, Tensor] = {}

    def take(self, n: int, dtype: torch.dtype) -> Tensor:
        """Room for ``n`` values."""
        if dtype not in self._blocks:
            with torch.inference_mode(False):  # what is made in that mode cannot leave it
                self._blocks[dtype] = torch.empty(_BLOCK, dtype=dtype, device="cpu")
        block = self._blocks[dtype]
        return block if n == _BLOCK else block[:n]


_scratch = _Scratch()


def in_memory_order(x: Tensor) -> Tensor:
    """All values in one row: for a dense tensor of any layout a view."""
    if x.is_contiguous():
        return x.view(-1)
    return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)


def share(a: Counts, b: Counts) -> tuple[Counts, Counts]:
    """Both counts on the same bins, without loss.

    Raises:
        ValueError: They lie on different uniform grids, which have no common bins, or on dyadic
            grids of another number of bins, of which neither is the one to choose.
    """
    if a.grid == b.grid:
        return a, b
    x, y = a.grid, b.grid
    if not (isinstance(x, DyadicGrid) and isinstance(y, DyadicGrid) and x.bins == y.bins):
        raise ValueError(
            f"counts on {x} and on {y} have no common bins. Count both with the same estimator."
        )
    grid = x.joined(y)
    return Counts(grid, x.rebin(a.values, grid)), Counts(grid, y.rebin(b.values, grid))
