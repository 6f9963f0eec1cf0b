"""The choice between trees and tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.neighbors import tiles
from infoprobe.neighbors.points import (
    Metric,
    Neighbors,
    Points,
    check_metric,
    distances_between,
)
from infoprobe.neighbors.trees import Tree, count_on_line

# Distances within this of the radius count as equal to it, not as less.
_TIE = 1e-10

# Trees lose to tiles of products from so many dimensions on, a little later for more points; to
# Chebyshev tiles, which have no product to use, later still.
_TREE_DIMENSIONS = 6
_TREE_DIMENSIONS_CHEBYSHEV = 13


def nearest_neighbors(
    x: Any, k: int = 1, queries: Any = None, metric: Metric = "euclidean"
) -> Neighbors:
    r"""The exact k nearest neighbours.

    Without ``queries``, those of each point of ``x`` among the *others* (of several equal points
    each finds the others, at distance 0); with them, those of each query among all of ``x``.

    Arguments:
        x: Points, (n, ...); whatever follows the first axis is flattened to d coordinates.
        k: How many neighbours: less than n, or at most n with ``queries``.
        queries: Points of the same d, or ``None``.
        metric: ``"euclidean"``, or ``"chebyshev"``: the largest difference of a coordinate.

    Returns:
        ``(distances, indices)``. The distances are computed in float64 from differences (whose
        squares underflow below about 1e-160), and are differentiable. The order of neighbours
        at equal distances is not specified.

    Memory beyond the data is bounded: a float32 copy of it and blocks of some hundred megabytes.
    Time is about :math:`O(n \log n)` in few dimensions, where a KD-tree serves on the CPU, and
    :math:`O(n^2 d)` otherwise.

    Raises:
        TypeError: The points are no real numbers, or k is no integer.
        ValueError: There are too few points, they are not finite, differ in d, or the metric is
            unknown.

    Example:
        >>> distances, indices = ip.nearest_neighbors(torch.tensor([0.0, 1.0, 3.0]), k=1)
        >>> distances.squeeze(1).tolist(), indices.squeeze(1).tolist()
        ([1.0, 1.0, 2.0], [1, 0, 1])
    """
    check_metric(metric)
    points = checks.samples(x, "x")
    if queries is None:
        checks.require_spread(points, "x")
        checks.require_integer(k, 1, len(points) - 1, "k")
        return search([points], k, None, metric)
    asked = checks.samples(queries, "queries", at_least=1).to(points.device)
    checks.require_same_width(x=points, queries=asked)
    checks.require_spread(points, "x, queries", asked)
    checks.require_integer(k, 1, len(points), "k")
    return search([points], k, [asked], metric)


def search(
    factors: Sequence[Tensor], k: int, queries: Sequence[Tensor] | None, metric: Metric
) -> Neighbors:
    """:func:`nearest_neighbors` in a product of spaces, whose points lie in ``factors``.

    All factors are floating and finite, (n, d_f), and so are those of the queries.
    """
    if queries is not None:
        types = [
            torch.promote_types(x.dtype, y.dtype) for x, y in zip(factors, queries, strict=True)
        ]
        factors = [x.to(dtype) for x, dtype in zip(factors, types, strict=True)]
        queries = [y.to(dtype) for y, dtype in zip(queries, types, strict=True)]
    points = Points(factors, metric)
    asked = points if queries is None else Points(queries, metric)
    with torch.no_grad():
        if _suits_tree(points):
            found = Tree(points).search(asked, k)
        else:
            found = tiles.search(points, asked, k)
    if torch.is_grad_enabled() and (points.requires_grad or asked.requires_grad):
        rows = torch.arange(len(asked), device=points.device)
        distances = distances_between(asked, rows, points, found.indices)
        return Neighbors(distances, found.indices)
    return found


def distances_to(x: Tensor, indices: Tensor, metric: Metric) -> Tensor:
    """float64 distances (n, k) of every point from the points with these indices, (n, k)."""
    points = Points([x], metric)
    return distances_between(points, torch.arange(len(x), device=x.device), points, indices)


def count_within(
    factors: Sequence[Tensor], radii: Tensor, metric: Metric, *, closed: bool = False
) -> Tensor:
    """How many *other* points lie nearer to each point than its radius, as int64.

    Distances that equal the radius up to 1e-10 of it count only where the ball is ``closed``, so
    that neither rounding nor the order of a sum decides about the neighbour that set the radius.

    Arguments:
        factors: Of the points, as in :func:`search`.
        radii: float64, (n,).
        metric: Of each factor.
        closed: Whether points at the radius count.
    """
    points = Points(factors, metric)
    limits = radii.detach() * (1 + _TIE if closed else 1 - _TIE)
    with torch.no_grad():
        if points.d == 1:
            counts = count_on_line(points.factors[0].squeeze(1), limits)
        elif len(points.factors) == 1 and points.d <= _TREE_DIMENSIONS and _suits_tree(points):
            counts = Tree(points).count_within(limits)
        else:
            counts = tiles.count_within(points, limits)
    # A limit of 0 is within itself, but nothing is nearer than 0.
    return counts if closed else counts.masked_fill(limits == 0, 0)


def _suits_tree(points: Points) -> bool:
    """Whether a KD-tree is the faster way, as measured (``benchmarks/neighbors.py``)."""
    if points.device.type != "cpu":
        return False
    if points.metric == "chebyshev":
        return points.d <= _TREE_DIMENSIONS_CHEBYSHEV
    return points.d <= max(_TREE_DIMENSIONS, 3 * math.log10(len(points)) - 5.5)
