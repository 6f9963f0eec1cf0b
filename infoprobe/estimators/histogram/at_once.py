"""The grid of a tensor's values and their counts on it, in one compiled step.

It takes the place of the steps of ``tabulation.py`` for what a probe counts most. A model leaves
the processor's caches cold, so that each step would wait for memory.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoprobe.estimators.histogram.compiled import kernels_for, run
from infoprobe.estimators.histogram.counts import Counts, GroupedCounts, in_memory_order
from infoprobe.estimators.histogram.grids import DyadicGrid
from infoprobe.torch_internals import lacks_values

# With more bins the compiled histograms would not stay in the cache.
_MOST_BINS = 1 << 14


def dyadic_counts(x: Any, bins: int, blocks: int = 1) -> Counts | None:
    """The counts of a tensor's values on the finest dyadic grid that spans them.

    Arguments:
        x: Any argument of a histogram.
        bins: The most bins that the grid may have.
        blocks: The number of blocks of neighbouring samples that are counted apart; at most one
            for each sample.

    Returns:
        The counts, with groups if there are several blocks; ``None`` if they are to be found step
        by step: the values are not in a dense float32 tensor on the CPU, or not finite.
    """
    if type(x) is not Tensor or x.dtype is not torch.float32 or not x.is_cpu:
        return None
    if x.layout is not torch.strided or x.is_nested or not x.dim() or bins > _MOST_BINS:
        return None
    if lacks_values(x):
        return None
    kernels, n = kernels_for(0), x.numel()
    if kernels is None or not n:
        return None
    if blocks > 1 and not x.is_contiguous():
        return None
    values, stops = in_memory_order(x), _ends(n, x.shape[0] if blocks > 1 else n, blocks)
    counts = np.zeros((blocks, bins), np.int64)
    array = values.detach().resolve_neg().numpy()
    exponent, first, size = run(kernels.count_dyadic, (array, stops, counts), bins)
    if not size:
        return None
    grid = DyadicGrid(bins, exponent, first, size)
    if blocks == 1:
        return Counts(grid, torch.from_numpy(counts[0, :size]))
    found = torch.from_numpy(counts[:, :size])
    return GroupedCounts(grid, found.sum(0), found)


@functools.lru_cache(maxsize=64)
def _ends(n: int, samples: int, blocks: int) -> np.ndarray:
    """Where each block of whole samples ends among all n values."""
    ends = [-(-(i + 1) * samples // blocks) * (n // samples) for i in range(blocks)]
    return np.array(ends, np.int64)
