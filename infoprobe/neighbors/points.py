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

# The number of coordinates converted to float64 at once: they stay in the processor's cache.
BLOCK = 1 << 15
_BLOCK_ELSEWHERE = 1 << 24

# The median of this many samples lies well within all of them.
_SAMPLES_FOR_CENTER = 32


class Neighbors(NamedTuple):
    """The k nearest points of each query, the nearest first.

    Attributes:
        distances: The distances of these points from their query, (queries, k) float64.
        indices: The positions of these points along the first axis of the points, (queries, k)
            int64.
    """

    distances: Tensor
    indices: Tensor


class Points:
    """Points of a product of spaces, the factors.

    The distance of two points is the largest of their distances in each factor.

    Attributes:
        factors: The coordinates of the points in each factor f, (n, d_f).
        metric: The metric of each factor.
        d: The number of coordinates in all factors together.
    """

    def __init__(self, factors: Sequence[Tensor], metric: Metric) -> None:
        on_lines = all(factor.shape[1] == 1 for factor in factors)
        if on_lines or (len(factors) > 1 and metric == "chebyshev"):
            # The largest of several Chebyshev distances is the Chebyshev distance in the product.
            widest = max((factor.dtype for factor in factors), key=lambda dtype: dtype.itemsize)
            factors, metric = [torch.cat([f.to(widest) for f in factors], 1)], "chebyshev"
        self.factors: list[Tensor] = list(factors)
        self.metric = metric
        self.d: int = sum(factor.shape[1] for factor in factors)

    def __len__(self) -> int:
        return len(self.factors[0])

    @property
    def device(self) -> torch.device:
        """The device of the coordinates."""
        return self.factors[0].device

    @property
    def requires_grad(self) -> bool:
        """Whether any coordinate requires a gradient."""
        return any(factor.requires_grad for factor in self.factors)

    @property
    def block(self) -> int:
        """The number of coordinates to convert to float64 at once."""
        return BLOCK if self.device.type == "cpu" else _BLOCK_ELSEWHERE


def distances_between(a: Points, rows: Tensor, b: Points, columns: Tensor) -> Tensor:
    """Returns the distances, (r, k) float64, of each ``a[rows]`` from its ``b[columns]``.

    Arguments:
        a: The points from which distances are taken.
        rows: The numbers of r points of ``a``, (r,).
        b: The points to which distances are taken.
        columns: The numbers of k points of ``b`` for each of the r points, (r, k).
    """
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
    """Returns a point (d,) within the first samples, and how far coordinates may be from it.

    All samples have one dtype, which holds the point exactly too: each of its coordinates is one
    of theirs.
    """
    some = samples[0][:: max(1, len(samples[0]) // _SAMPLES_FOR_CENTER)]
    center = some.median(0).values.double()
    reach = 0.0
    for x in samples:
        low, high = torch.aminmax(x)
        reach = max(reach, float(high - center.min()), float(center.max() - low))
    return center, reach


def sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the values (n,) in ascending order, and where each of them was."""
    if x.device.type != "cpu":
        return torch.sort(x)
    # NumPy sorts several times faster.
    order = torch.from_numpy(np.argsort(x.numpy()))
    return x[order], order


def require_metric(metric: str) -> None:
    """Raises a ValueError unless the metric is known."""
    checks.require_one_of(metric, METRICS, "metric")
