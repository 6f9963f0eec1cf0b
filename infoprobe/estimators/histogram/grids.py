r"""Grids of bins on the real line.

* :class:`DyadicGrid`: bins :math:`[i\,2^e, (i+1)\,2^e)` for integers :math:`i`. Their width is a
  power of two and zero is always an edge, so two neighbours of one level are exactly one bin of
  the next. A grid can therefore widen after the fact without another look at the data, and any
  two counts can be brought onto the same bins without loss. This is what makes one pass enough.
* :class:`UniformGrid`: equal-width bins between a given low and high, the last one closed, with
  exactly the counts of :func:`numpy.histogram` on the values in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks

# The exponent of the narrowest bin. Its inverse is still a finite float64.
FINEST = -1022
# Bin numbers stay below 2**52 in magnitude, so that floor() is exact in float64.
INDEX_BITS = 52
# Within these limits, powers of two (and their inverses) and bin numbers are exact in float32.
FLOAT32_EXPONENT = 126
FLOAT32_INDEX = 1 << 24
_INT16 = 1 << 15
# Powers of two up to this exponent, and sums of some, are finite in float64.
_COARSEST = 1000
# The number of a bin, taken from this before it is rounded down, is the right one or the next.
ALMOST_ONE = 1 - 2.0**-16
# Bins are resolved if they are so much wider than their edges are rounded (as a share of the
# largest edge), and if their width and its inverse are finite.
_RESOLVED = 2.0**-34
_WIDTHS = (1e-290, 1e290)

# One number for all values, or one for each column.
_Number = TypeVar("_Number", float, Tensor)


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
        exponent = FINEST
        if magnitude > 0:
            exponent = max(exponent, math.frexp(magnitude)[1] - INDEX_BITS)
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

    @property
    def width(self) -> float:
        """The width of a bin; infinite beyond the range of float64."""
        return 2.0 ** (self.exponent - 1) * 2  # 2**1024 is no float64

    def widened_to(self, exponent: int) -> DyadicGrid:
        """The grid of the bins of another level, not finer than this one, that hold these bins."""
        first, last = self._at(exponent)
        return DyadicGrid(self.bins, exponent, first, last - first + 1)

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
        numbers = torch.arange(
            self.first, self.first + self.size + 1, dtype=torch.float64, device="cpu"
        )
        return numbers * 2.0 ** (self.exponent - 1) * 2  # 2**1024 is no float64

    def rebin(self, values: Tensor, grid: DyadicGrid) -> Tensor:
        """Counts (..., bins) on this grid, moved onto a coarser or larger ``grid``."""
        if grid == self:
            return values
        shift = min(grid.exponent - self.exponent, 63)  # beyond 63 a shift is undefined
        numbers = torch.arange(self.first, self.first + self.size, device=values.device) >> shift
        moved = values.new_zeros((*values.shape[:-1], grid.size))
        return moved.index_add_(-1, numbers - grid.first, values)

    def index(self, x: Tensor) -> Tensor:
        """The place of each value among the bins: exact, as whole numbers from 0."""
        x = self.exact(checks.exact_float(x, "x"))
        place = self.scaled(x).sub_(self.first)
        return place.to(torch.int16 if self.size <= _INT16 else torch.int32)

    def exact(self, x: Tensor) -> Tensor:
        """The values in a type that finds their bins without rounding."""
        if x.dtype == torch.float32 and not self._exact_in_float32():
            x = x.to(torch.float64)
        # floor(x / 2^e) = floor(floor(x) / 2^e), and the latter cannot underflow.
        return x.floor() if self.exponent > 0 else x

    def scaled(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The number of each value's bin, from :meth:`exact` values."""
        # Multiplying by a power of two is exact, so no value lands in a neighbour's bin.
        numbers = torch.mul(x, 2.0**-self.exponent, out=out)
        # From zero on, the conversion to integers rounds down by itself.
        return numbers.floor_() if self.first < 0 else numbers

    @property
    def numbers(self) -> tuple[int, float, float, float] | None:
        """The number of the first bin, where bin 0 begins, and the inverse and width of a bin.

        ``None`` if they are not finite.
        """
        if self.exponent > _COARSEST:
            return None
        return self.first, 0.0, 2.0**-self.exponent, 2.0**self.exponent

    def _exact_in_float32(self) -> bool:
        largest = max(abs(self.first), abs(self.first + self.size))
        return abs(self.exponent) <= FLOAT32_EXPONENT and largest <= FLOAT32_INDEX


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
        x = checks.exact_float(x, "x")
        if self.numbers is None:
            return _uniform_index(x, self.low, self.high - self.low, self.size).to(torch.int32)
        x = x.to(torch.float64)
        place, other = torch.empty_like(x), torch.empty_like(x)
        return self.place(x, place, other).to(torch.int32)

    def place(self, x: Tensor, out: Tensor, other: Tensor) -> Tensor:
        """The same for float64 values and :attr:`numbers`, in float64.

        Arguments:
            x: The values.
            out: Memory for the places.
            other: Memory to work in.
        """
        assert self.numbers
        _, low, inverse, step = self.numbers
        torch.sub(x, low, out=out).mul_(inverse).add_(ALMOST_ONE).floor_()
        torch.mul(out, step, out=other).add_(low)
        return out.sub_(torch.lt(x, other, out=other)).clamp_(max=self.size - 1)

    @property
    def numbers(self) -> tuple[int, float, float, float] | None:
        """The number of the first bin, where bin 0 begins, and the inverse and width of a bin.

        ``None`` if the bins are not resolved: rounding may then move an edge past a value.
        """
        step = (self.high - self.low) / self.size
        magnitude = max(abs(self.low), abs(self.high))
        if not (_WIDTHS[0] < step < _WIDTHS[1] and step > _RESOLVED * magnitude):
            return None
        return 0, self.low, 1 / step, step


Grid: TypeAlias = DyadicGrid | UniformGrid


def indexer(grids: Sequence[Grid], device: torch.device) -> Callable[[Tensor], Tensor]:
    """What does for all columns at once what the ``index`` of each grid does for its column."""
    if all(grid == grids[0] for grid in grids):
        return grids[0].index
    if isinstance(grids[0], DyadicGrid):
        return _dyadic_indexer(cast("Sequence[DyadicGrid]", grids), device)
    return _uniform_indexer(cast("Sequence[UniformGrid]", grids), device)


def _dyadic_indexer(
    grids: Sequence[DyadicGrid], device: torch.device
) -> Callable[[Tensor], Tensor]:
    scale, first = _by_column([(2.0**-grid.exponent, grid.first) for grid in grids], device)
    wide = scale < 1
    some_wide = bool(wide.any())

    def index(x: Tensor) -> Tensor:
        # In float64, where no grid needs the precautions of ``exact``.
        if some_wide:
            x = torch.where(wide, x.floor(), x)
        return (x * scale).floor_().sub_(first).to(torch.int32)

    return index


def _uniform_indexer(
    grids: Sequence[UniformGrid], device: torch.device
) -> Callable[[Tensor], Tensor]:
    numbers = [(grid.low, grid.high, grid.size) for grid in grids]
    low, high, size = _by_column(numbers, device)
    constant = low == high
    span = torch.where(constant, 1.0, high - low)

    def index(x: Tensor) -> Tensor:
        places = _uniform_index(x, low, span, size)
        return torch.where(constant, size // 2, places).to(torch.int32)

    return index


def _uniform_index(x: Tensor, low: _Number, span: _Number, size: _Number) -> Tensor:
    """The place of each value among ``size`` bins of equal width, as whole float64 numbers."""
    x = x.to(torch.float64)
    index = x.sub(low).div_(span).mul_(size).floor_().clamp_(max=size - 1)
    # Rounding may have put a value one bin beside its edges, which are index * step + low.
    step = span / size
    index -= (x < index * step + low).to(torch.float64)
    above = (x >= (index + 1) * step + low) & (index < size - 1)
    return index.add_(above)


def _by_column(numbers: Sequence[tuple[float, ...]], device: torch.device) -> Sequence[Tensor]:
    return torch.tensor(numbers, dtype=torch.float64, device=device).T.contiguous().unbind()
