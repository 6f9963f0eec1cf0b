"""What a saved state must be like to be taken for one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.grids import FINEST, DyadicGrid, Grid

# The exponent of the widest bin: no float64 is larger.
_COARSEST = 1024
_WAY_OUT = "Load what Probe.state_dict() gave, as it was."


def count_of(value: Any) -> int:
    """The value, if it is an integer of at least 0.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentValueError(
            "state", f"expected a number from 0 on, got {value!r}. It is damaged: {_WAY_OUT}"
        )
    return value


def text_of(value: Any) -> str:
    """The value, if it is a text.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str):
        raise ArgumentValueError(
            "state", f"expected a text, got {type(value).__name__}. It is damaged: {_WAY_OUT}"
        )
    return value


def counts_of(value: Any, size: int) -> Tensor:
    """The tensor, if it holds this many integers of at least 0.

    Raises:
        ValueError: It is something else.
    """
    return _vector(value, torch.int64, size, 0)


def require_counts(counts: Counts) -> None:
    """Raises a ValueError unless each bin has a whole number of values from 0 on."""
    values = counts.values
    sized = values.dim() > 0 and values.shape[-1] == counts.grid.size
    if values.dtype != torch.int64 or not sized or bool((values < 0).any()):
        raise ArgumentValueError(
            "state",
            f"expected counts of {counts.grid.size:,} bins, got {tuple(values.shape)} of "
            f"{values.dtype}, from {values.min().item():,} on. It is damaged: {_WAY_OUT}",
        )


def require_grids(grids: Sequence[Grid]) -> None:
    """Raises a ValueError unless these are bins that can be joined into those of one grid."""
    kinds = [grid.bins if isinstance(grid, DyadicGrid) else grid for grid in grids]
    if not all(map(_is_one, grids)) or len(set(kinds)) > 1:
        raise ArgumentValueError(
            "state",
            f"expected counts in bins that can be joined. It is damaged: {_WAY_OUT}",
        )


def _is_one(grid: Grid) -> bool:
    if isinstance(grid, DyadicGrid):
        numbers = (grid.bins, grid.exponent, grid.first, grid.size)
        return all(type(x) is int and abs(x) < 2**63 for x in numbers) and (
            1 <= grid.size <= grid.bins and FINEST <= grid.exponent <= _COARSEST
        )
    ends = (grid.low, grid.high)
    return type(grid.size) is int and (
        all(isinstance(x, (int, float)) and abs(x) < math.inf for x in ends) and ends[0] <= ends[1]
    )


def numbers_of(value: Any, size: int) -> Tensor:
    """The tensor, if it holds this many integers.

    Raises:
        ValueError: It is something else.
    """
    return _vector(value, torch.int64, size, None)


def priorities_of(value: Any, size: int) -> Tensor:
    """The tensor, if it holds this many real numbers of at least 0.

    Raises:
        ValueError: It is something else.
    """
    return _vector(value, torch.float64, size, 0)


def reals_of(value: Any, size: int) -> Tensor:
    """The tensor, if it holds this many real numbers.

    Raises:
        ValueError: It is something else.
    """
    return _vector(value, torch.float64, size, None)


def _vector(value: Any, dtype: torch.dtype, size: int, low: int | None) -> Tensor:
    got = type(value).__name__
    if isinstance(value, Tensor):
        right = value.dtype == dtype and value.shape == (size,)
        if right and (low is None or bool((value >= low).all())):
            return value
        got = f"{tuple(value.shape)} of {value.dtype}"
    raise ArgumentValueError(
        "state",
        f"expected {size:,} numbers of {dtype}{'' if low is None else f' from {low} on'}, got "
        f"{got}. It is damaged: {_WAY_OUT}",
    )
