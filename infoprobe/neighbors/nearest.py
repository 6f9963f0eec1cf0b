"""Searches for neighbours and counts them, by whichever is faster: trees or tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentValueError
from infoprobe.neighbors import tiles
from infoprobe.neighbors.equal import equal_rows
from infoprobe.neighbors.points import (
    Metric,
    Neighbors,
    Points,
    distances_between,
    require_metric,
)
from infoprobe.neighbors.trees import Tree, count_on_line

# Distances that differ from the radius by less than this share of it count as equal to it.
TIE = 1e-10

_WITHOUT_FLOAT64 = {"mps"}

# A leaf of a tree that holds more equal points than this is slow.
_CROWD = 64

# Up to this many dimensions, trees are faster than tiles that use matrix products (up to a few
# more, if there are many points), both to search and to count. Chebyshev tiles have no product to
# use and lose to trees longer.
_TREE_DIMENSIONS, _TREE_DIMENSIONS_COUNT = 6, 4
_TREE_DIMENSIONS_CHEBYSHEV = 13


def nearest_neighbors(
    x: ArrayLike, k: int = 1, queries: ArrayLike | None = None, metric: Metric = "euclidean"
) -> Neighbors:
    r"""Finds the exact k nearest neighbours of points, without approximation.

    Without ``queries``, it finds those of each point of ``x`` among the *other* points; of several
    equal points, each finds the others at distance 0. With ``queries``, it finds those of each
    query among all points of ``x``.

    Arguments:
        x: The points, (n, ...). All axes after the first are flattened to d coordinates.
        k: The number of neighbours, at least 1 and less than n; with ``queries``, at most n.
        queries: The m points, (m, ...) with the same d, whose neighbours are wanted, or ``None``
            for those of ``x`` itself.
        metric: ``"euclidean"``, or ``"chebyshev"`` for the largest difference of a coordinate.

    Returns:
        ``(distances, indices)``, both (n, k), or (m, k) with ``queries``, the nearest neighbour
        first. The distances are float64, computed from differences (whose squares underflow below
        about 1e-160), and differentiable. The indices are int64 positions in ``x``. Which of
        several points at equal distances are returned is not specified, nor their order; equal
        are those that differ by less than 1e-12 of the distance.

    The search needs bounded memory beyond the data: a float32 copy of it, and blocks of some
    hundred megabytes. Its time grows about as :math:`O(n \log n)` in few dimensions, where it uses
    a KD-tree on the CPU, and as :math:`O(n^2 d)` otherwise.

    Raises:
        TypeError: The points are not real numbers, or k is not an integer.
        ValueError: There are too few points, they are not finite, points and queries differ in d,
            or the metric is unknown.

    Example:
        >>> distances, indices = ip.nearest_neighbors(torch.tensor([0.0, 1.0, 3.0]), k=1)
        >>> distances.squeeze(1).tolist(), indices.squeeze(1).tolist()
        ([1.0, 1.0, 2.0], [1, 0, 1])
    """
    require_metric(metric)
    points = checks.samples(x, "x")
    if queries is None:
        checks.require_spread(points, "x")
        k = checks.require_integer(k, 1, len(points) - 1, "k")
        return search([points], k, None, metric)
    asked = checks.samples(queries, "queries", at_least=1).to(points.device)
    checks.require_same_width(x=points, queries=asked)
    checks.require_spread(points, "x, queries", asked)
    k = checks.require_integer(k, 1, len(points), "k")
    return search([points], k, [asked], metric)


def _require_float64(device: torch.device, name: str) -> None:
    """Raises a ValueError if a device does not know float64, in which distances are computed."""
    if device.type in _WITHOUT_FLOAT64:
        raise ArgumentValueError(
            name,
            f"expected samples on a device that computes in float64, got {device.type!r}, which "
            "does not. Pass x.cpu().",
        )


def search(
    factors: Sequence[Tensor], k: int, queries: Sequence[Tensor] | None, metric: Metric
) -> Neighbors:
    """Finds the exact k nearest neighbours in a product of spaces.

    It does there what :func:`nearest_neighbors` does in a single space.

    Arguments:
        factors: The coordinates of the points in each space, (n, d_f), floating and finite.
        k: The number of neighbours.
        queries: The coordinates of the queries in each space, (m, d_f), floating and finite, or
            ``None`` for the neighbours of the points themselves among the others.
        metric: The metric of each space; the distance in the product is the largest of them.
    """
    _require_float64(factors[0].device, "x")
    if queries is not None:
        types = [
            torch.promote_types(x.dtype, y.dtype) for x, y in zip(factors, queries, strict=True)
        ]
        factors = [x.to(dtype) for x, dtype in zip(factors, types, strict=True)]
        queries = [y.to(dtype) for y, dtype in zip(queries, types, strict=True)]
    points = Points(factors, metric)
    asked = points if queries is None else Points(queries, metric)
    with torch.no_grad():
        found = _search(points, asked, k)
    if torch.is_grad_enabled() and (points.requires_grad or asked.requires_grad):
        rows = torch.arange(len(asked), device=points.device)
        distances = distances_between(asked, rows, points, found.indices)
        return Neighbors(distances, found.indices)
    return found


def _search(points: Points, asked: Points, k: int) -> Neighbors:
    """The search itself, among as few of several equal points as can be neighbours of one.

    More of them would only make it slow: no tree can part them.
    """
    own = asked is points
    equal = equal_rows(points.factors)
    # Of more than k equal points, each has k others at distance 0.
    some = equal.ranks <= k if own else equal.ranks < k
    if some.all():
        tree = _tree_searches_faster(points, k)
        engine = Tree(points).search if tree else partial(tiles.search, points)
        return engine(asked, k)
    kept = some.nonzero().squeeze(1)
    few = Points([factor[kept] for factor in points.factors], points.metric)
    distances, indices = _search(few, few if own else asked, k)
    if not own:
        return Neighbors(distances, kept[indices])
    left = (~some).nonzero().squeeze(1)
    found = Neighbors(distances.new_zeros(len(points), k), indices.new_empty(len(points), k))
    found.distances[kept], found.indices[kept] = distances, kept[indices]
    members = equal.starts[left].unsqueeze(1) + torch.arange(k, device=points.device)
    found.indices[left] = equal.order[members]
    return found


def distances_to(x: Tensor, indices: Tensor, metric: Metric) -> Tensor:
    """Returns the float64 distances (n, k) of each point from those with the indices (n, k)."""
    points = Points([x], metric)
    return distances_between(points, torch.arange(len(x), device=x.device), points, indices)


def count_within(
    factors: Sequence[Tensor],
    radii: Tensor,
    metric: Metric,
    *,
    closed: bool = False,
    rows: Tensor | None = None,
) -> Tensor:
    """Counts the *other* points that are nearer to each point than its radius: (n,) int64.

    Distances that equal the radius up to 1e-10 of it count only where the ball is ``closed``, so
    that neither rounding nor the order of a sum decides about the neighbour that set the radius.

    Arguments:
        factors: The coordinates of the points, as in :func:`search`.
        radii: The radius of each point, (n,) float64.
        metric: The metric of each factor.
        closed: Whether points at the radius count too.
        rows: The numbers of the points (m,) to count for, or ``None`` for all.
    """
    _require_float64(factors[0].device, "x")
    points = Points(factors, metric)
    limits = radii.detach() * (1 + TIE if closed else 1 - TIE)
    in_tree = len(points.factors) == 1 and _tree_counts_faster(points)
    with torch.no_grad():
        if points.d == 1:
            counts = count_on_line(points.factors[0].squeeze(1), limits)
        elif in_tree:
            counts = _count_in_tree(points, limits)
        else:
            asked = points if rows is None else Points([f[rows] for f in factors], metric)
            limits = limits if rows is None else limits[rows]
            counts, rows = _count_in_tiles(points, asked, limits), None
    if rows is not None:
        counts, limits = counts[rows], limits[rows]
    # The engines count distances up to the limit, but no distance is less than a radius of 0.
    return counts if closed else counts.masked_fill(limits == 0, 0)


def _count_in_tiles(points: Points, asked: Points, limits: Tensor) -> Tensor:
    """Counts by tiles, in which one of several equal points stands for all of them."""
    equal = equal_rows(points.factors)
    if not (equal.times > _CROWD).any():
        counts = tiles.count_within(points, asked, limits, torch.ones_like(equal.times))
        return counts if asked is points else counts - 1
    alone = (equal.ranks == 0).nonzero().squeeze(1)
    few = Points([factor[alone] for factor in points.factors], points.metric)
    return tiles.count_within(few, asked, limits, equal.times[alone]) - 1


def _count_in_tree(points: Points, limits: Tensor) -> Tensor:
    """Counts with a tree, which holds but few of several equal points: it cannot part them."""
    equal = equal_rows(points.factors)
    crowded = equal.times > _CROWD
    if not crowded.any():
        return Tree(points).count_within(points, limits) - 1
    counts = torch.full_like(equal.times, -1)  # A point does not count itself.
    rest = (~crowded).nonzero().squeeze(1)
    if len(rest):
        apart = Points([factor[rest] for factor in points.factors], points.metric)
        counts += Tree(apart).count_within(points, limits)
    rows = torch.arange(len(points), device=points.device)
    for one in (crowded & (equal.ranks == 0)).nonzero():
        distances = distances_between(points, rows, points, one.expand(len(points), 1))
        counts += equal.times[one] * (distances.squeeze(1) <= limits)
    return counts


def _tree_searches_faster(points: Points, k: int) -> bool:
    """Returns whether a tree finds neighbours faster, as ``benchmarks/neighbors.py`` measured."""
    if points.device.type != "cpu":
        return False
    if points.metric == "chebyshev":
        return points.d <= _TREE_DIMENSIONS_CHEBYSHEV
    # In a product of spaces, a tree looks at more candidates than are wanted.
    more = math.log2(k) / 4 if len(points.factors) > 1 else 0
    return points.d + more <= max(_TREE_DIMENSIONS, 3 * math.log10(len(points)) - 5.5)


def _tree_counts_faster(points: Points) -> bool:
    """Returns whether a tree counts neighbours faster, as ``benchmarks/neighbors.py`` measured."""
    if points.device.type != "cpu":
        return False
    if points.metric == "chebyshev":
        return points.d <= _TREE_DIMENSIONS
    return points.d <= max(_TREE_DIMENSIONS_COUNT, 3 * math.log10(len(points)) - 8.4)
