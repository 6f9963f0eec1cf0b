"""Points in a product of spaces, and their distances."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks

Metric = Literal["euclidean", "chebyshev"]
METRICS: tuple[Metric, ...] = ("euclidean", "chebyshev")

# Coordinates converted to float64 at once: they stay in the processor's cache.
BLOCK = 1 << 15
_BLOCK_CUDA = 1 << 24

# So many samples have a mean that is amid all.
_ENOUGH = 256


class Neighbors(NamedTuple):
    """Neighbours of every query, the nearest first.

    Attributes:
        distances: float64, (queries, k).
        indices: int64, (queries, k): rows of the points.
    """

    distances: Tensor
    indices: Tensor


class Points:
    """Points whose distance is the largest of the distances in each of some factors.

    Attributes:
        factors: Their coordinates, (n, d_f) for each factor.
        metric: Of each factor.
        d: The number of all coordinates.
    """

    def __init__(self, factors: Sequence[Tensor], metric: Metric) -> None:
        on_lines = all(factor.shape[1] == 1 for factor in factors)
        if on_lines or (len(factors) > 1 and metric == "chebyshev"):
            # The largest of some largest differences of coordinates is one again.
            widest = max((factor.dtype for factor in factors), key=lambda dtype: dtype.itemsize)
            factors, metric = [torch.cat([f.to(widest) for f in factors], 1)], "chebyshev"
        self.factors = list(factors)
        self.metric = metric
        self.d = sum(factor.shape[1] for factor in factors)

    def __len__(self) -> int:
        return len(self.factors[0])

    @property
    def device(self) -> torch.device:
        """Where the coordinates are."""
        return self.factors[0].device

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is asked for."""
        return any(factor.requires_grad for factor in self.factors)

    @property
    def block(self) -> int:
        """How many coordinates to convert to float64 at once."""
        return _BLOCK_CUDA if self.device.type == "cuda" else BLOCK


def distances_between(a: Points, rows: Tensor, b: Points, columns: Tensor) -> Tensor:
    """float64 distances of ``a[rows]`` from ``b[columns]``, (r,) and (r, k): (r, k)."""
    order = 2 if a.metric == "euclidean" else math.inf
    step = max(1, a.block // (a.d * columns.shape[1]))
    blocks = []
    for i, j in zip(torch.split(rows, step), torch.split(columns, step), strict=True):
        norms = []
        for x, y in zip(a.factors, b.factors, strict=True):
            chosen = y.index_select(0, j.flatten()).double().view(*j.shape, y.shape[1])
            differences = chosen.sub_(x[i].double().unsqueeze(1))
            norms.append(torch.linalg.vector_norm(differences, order, dim=-1))
        blocks.append(functools.reduce(torch.maximum, norms))
    return torch.cat(blocks)


def center_and_reach(*samples: Tensor) -> tuple[Tensor, float]:
    """A point (d,) amid the first sample, and a bound on how far coordinates are from it.

    The samples are of one type, which holds the point exactly, too.
    """
    some = samples[0][:: max(1, len(samples[0]) // _ENOUGH)]
    center = some.double().mean(0).to(some.dtype).double()
    reach = 0.0
    for x in samples:
        low, high = torch.aminmax(x)
        reach = max(reach, float(high - center.min()), float(center.max() - low))
    return center, reach


def sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values (n,) in ascending order and their places; numpy is several times faster at it."""
    if x.device.type != "cpu":
        return torch.sort(x)
    order = torch.from_numpy(np.argsort(x.numpy()))
    return x[order], order


def check_metric(metric: str) -> None:
    """Raises a ValueError unless the metric is known."""
    checks.require_one_of(metric, METRICS, "metric")
