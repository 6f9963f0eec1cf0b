"""Whether a compiled kernel counts, or torch does.

Kernels are used on the CPU if numba is installed (``pip install infoprobe[fast]``). They give the
counts that torch gives, to the last one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.histogram.grids import Grid
from infoprobe.forks import forkable_lock

T = TypeVar("T")

# Below this many values the kernels save nothing.
FEWEST = 1 << 12
# Loading the kernels takes half a second (and compiling them another, once on each machine), so
# torch counts that many values first.
_ENOUGH = 1 << 24
_counted = 0
# A process that is forked meanwhile would wait for ever for locks of numba and of Python's import.
_loading = forkable_lock()
_compiled: set[tuple[Any, ...]] = set()
# With more cells of histograms than this, the lanes would not stay in the cache.
_MOST_CELLS = 1 << 17
_PART = 1 << 16
# Integers of the size of each floating-point type.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# Lanes begin at different places of a page: the processor mixes up those that do not.
_PAGE, _APART = 512, 136
# Values whose groups change more often than this have each the group written beside it.
_SHORT_RUN = 16


def tally(x: Tensor, grid: Grid, groups: Tensor | None = None, number: int = 1) -> Tensor | None:
    """How many values of each group fell into each bin, (number, size) int64.

    Arguments:
        x: Samples along the first axis, (n, ...).
        grid: The bins.
        groups: The group of each sample, from 0, (n,); ``None`` if all are in one.
        number: The number of groups.

    Returns:
        The counts; ``None`` if torch is to count.
    """
    if x.numel() < FEWEST or x.device.type != "cpu":
        return None
    cells = number * grid.size
    numbers = grid.numbers
    if cells > _MOST_CELLS or not numbers:
        return None
    kernels = kernels_for(x.numel())
    if kernels is None:
        return None
    lanes = 4 if x.numel() >= 4 * cells else 1
    counts = np.zeros((lanes, -(-cells // _PAGE) * _PAGE + _APART), np.int64)
    starts, stops, rows = _runs(x, groups, grid.size)
    flat = _by_sample(x)
    # Narrow types are widened part by part, in memory that is at hand.
    size = _PART if x.element_size() <= 2 else len(flat)
    for begin in range(0, len(flat), size):
        values = checks.exact_float(flat[begin : begin + size], "x").numpy()
        ends = np.clip(stops - begin, 0, len(values))
        here = values, starts[begin : begin + size], ends, rows, counts
        run(kernels.count_on_grid, here, grid.size, *numbers)
    return torch.from_numpy(counts.sum(0)[:cells].reshape(number, grid.size))


def extent(x: Tensor) -> tuple[float, float] | None:
    """The least and the greatest of floating-point values (n,).

    Returns:
        The two; ``None`` if torch is to find them, or if some value is not finite.
    """
    dense = x.device.type == "cpu" and x.is_contiguous()
    if not (dense and x.is_floating_point() and x.numel() >= FEWEST):
        return None
    kernels = kernels_for(0)
    if kernels is None:
        return None
    bits = x.detach().resolve_neg().view(_BITS[x.element_size()]).numpy()
    found = np.empty(2, bits.dtype)
    run(kernels.least_and_greatest, (bits, found))
    low, high = torch.from_numpy(found).view(x.dtype).tolist()
    # Adding zero makes one of the two zeros.
    return (low + 0.0, high + 0.0) if math.isfinite(low) and math.isfinite(high) else None


def kernels_for(n: int) -> ModuleType | None:
    """The kernels, or ``None`` if torch is to count the n values."""
    global _counted
    if _counted < _ENOUGH:
        _counted += n
        return None
    return _loaded()


@functools.cache
def _loaded() -> ModuleType | None:
    """The kernels, or ``None`` without numba."""
    try:
        with _loading:
            from infoprobe.estimators.histogram import kernels
    except Exception:  # A numba that cannot be imported, for whatever reason, is as good as none.
        return None
    return kernels


def run(kernel: Callable[..., T], arrays: tuple[np.ndarray, ...], *numbers: float) -> T:
    """Runs a kernel, which numba compiles when it first runs with arrays of these types."""
    types: tuple[Any, ...] = (kernel, *(array.dtype for array in arrays))
    if types in _compiled:
        return kernel(*arrays, *numbers)
    with _loading:
        result = kernel(*arrays, *numbers)
    _compiled.add(types)
    return result


def _by_sample(x: Tensor) -> Tensor:
    """All values in one dimension, one sample after the other: a view of many dense tensors."""
    x = x.detach().resolve_neg()
    if not x.is_contiguous() and x.dim() > 1:
        x = x.permute(0, *sorted(range(1, x.dim()), key=x.stride, reverse=True))
    return x.contiguous().view(-1)


_NONE = np.empty(0, np.uint32)
_ZERO = np.zeros(1, np.int64)


def _runs(x: Tensor, groups: Tensor | None, size: int) -> tuple[np.ndarray, ...]:
    """Where each value's histogram begins, or the ends of runs in one group and their groups."""
    all_ = np.array([x.numel()])
    if groups is None:
        return _NONE, all_, _ZERO
    each = groups.numpy()
    width = x.numel() // len(each)
    changes = each[1:] != each[:-1]
    if x.numel() < _SHORT_RUN * np.count_nonzero(changes):
        return (each * size).astype(np.uint32).repeat(width), all_, _ZERO
    ends = np.append(np.flatnonzero(changes) + 1, len(each))
    return _NONE, ends * width, each[ends - 1]
