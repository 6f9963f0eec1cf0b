"""How far dyadic grids reach, as numbers of which processes take the largest.

The largest of several grids' numbers are those of the grid that all of them can be merged into.
So processes find their common grid by one exchange, whatever their number.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infoprobe.estimators.histogram.grids import DyadicGrid


def reach_of(grid: DyadicGrid | None) -> Tensor:
    """The level of a grid, and where its first bin (negated) and its last bin begin.

    Arguments:
        grid: The grid; ``None`` for the numbers of no grid, than which all others are larger.

    Returns:
        Three float64 numbers; the places are divided by four, since 2**1024 is no float64.
    """
    reach = [-math.inf] * 3
    if grid is not None:
        first, last = grid.first, grid.first + grid.size - 1
        reach = [
            grid.exponent,
            *(math.ldexp(number, grid.exponent - 2) for number in (-first, last)),
        ]
    return torch.tensor(reach, dtype=torch.float64, device="cpu")


def grid_of(reach: Tensor, bins: int) -> DyadicGrid:
    """The finest grid of at most ``bins`` bins that all grids with this reach can be merged into.

    Arguments:
        reach: The largest numbers of several grids, at least one of which is not ``None``.
        bins: The most bins of each of them.
    """
    level, low, high = reach.tolist()
    exponent = int(level)
    first, last = _number(-low, exponent), _number(high, exponent)
    spanned = DyadicGrid(bins, exponent, first, last - first + 1)
    return spanned.joined(spanned)  # coarser where there are too many bins


def _number(quarter: float, exponent: int) -> int:
    """The number of the bin in which four times this place is."""
    number = math.floor(math.ldexp(quarter, 2 - exponent))
    # A place that is too near to zero for a float64 after scaling may have lost its sign.
    return -1 if number == 0 and quarter < 0 else number
