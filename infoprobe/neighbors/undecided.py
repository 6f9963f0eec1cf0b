"""Neighbours of the rows that float32 cannot decide: many points are equally far, or nearly so.

Squared distances by float64 matrix products come first. They decide a row if no other point can
be nearer, or only by so little that it counts as equally far. Far from all other points there may
be some that are too near each other for that; those rows are decided by differences.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.neighbors.points import Neighbors, Points, distances_between

# Points whose distances differ by less than this share of them are equally far.
TIED = 1e-12
# The number of rows that are decided at a time, and the most columns.
ROWS = 256
_WIDTH = 8192
# The number of coordinates that are converted to float64 at a time.
_COORDINATES = 1 << 23
# The number of candidates beyond the k wanted ones.
_SPARE = 3
# From one pair in so many on, it is faster to compute all pairs of some rows than those alone.
_DENSE = 64
# The relative rounding error of float64.
_UNIT = 2.0**-53


class Squares:
    """Squared distances of queries from points in float64, by matrix products.

    Arguments:
        points: The points.
        asked: The queries, or the points themselves.
        centers: A point (d_f,) in the midst of each factor.
        scale: A power of two by which distances are multiplied, so that their squares are finite.
    """

    def __init__(
        self, points: Points, asked: Points, centers: Sequence[Tensor], scale: float
    ) -> None:
        self._factors = list(zip(asked.factors, points.factors, centers, strict=True))
        self.scale = scale

    def between(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The squares of the scaled distances (rows, columns)."""
        squares = []
        for x, y, center in self._factors:
            a, b = self._scaled(x[rows], center), self._scaled(y[columns], center)
            norms = a.square().sum(1, keepdim=True) + b.square().sum(1)
            squares.append(norms.addmm_(a, b.T, alpha=-2))
        return functools.reduce(torch.maximum, squares)

    def error(self, rows: Tensor, reach: Tensor) -> Tensor:
        r"""Bounds the error of the squares of points within a scaled ``reach`` of each row.

        With the norm :math:`a` of the row and :math:`b \le a + r` of the point, a sum of d
        rounded terms errs by more than :math:`8 \sqrt d u` times their magnitudes, which are at
        most :math:`2 (a^2 + b^2)`, with a chance of 1e-13 (Higham & Mary, 2019); and what is
        rounded besides by less than :math:`16 u (a^2 + b^2)`.
        """
        errors = []
        for x, _, center in self._factors:
            a = self._scaled(x[rows], center).square().sum(1).sqrt()
            terms = min(len(center), 8 * math.sqrt(len(center)))
            errors.append(2 * (terms + 8) * _UNIT * (a.square() + (a + reach).square()))
        return functools.reduce(torch.maximum, errors)

    def _scaled(self, x: Tensor, center: Tensor) -> Tensor:
        return (x.detach().double() * self.scale).sub_(center * self.scale)


def nearest(
    squares: Squares, points: Points, asked: Points, rows: Tensor, columns: Tensor, k: int
) -> Neighbors:
    """The k nearest points of some queries, or the others of some points.

    Arguments:
        squares: The squared distances.
        points: The points.
        asked: The queries, or the points themselves.
        rows: The numbers of the queries, (m,).
        columns: The numbers of the points that may be among the nearest.
        k: The number of neighbours.
    """
    if points.metric != "euclidean":
        return _by_differences(points, asked, rows, columns, k)
    best = _Smallest(rows, k + _SPARE + 1)
    for some in _parts(columns, points):
        values = squares.between(rows, some)
        best.fold(_without_itself(values, points, asked, rows, some), some)
    candidates = best.columns[:, :-1]
    there = distances_between(asked, rows, points, candidates)
    there = there.masked_fill(best.values[:, :-1].isinf(), torch.inf)
    exact = there.topk(k, 1, largest=False)
    distances, indices = exact.values, candidates.gather(1, exact.indices)
    reach = distances[:, -1] * squares.scale
    # A point that is nearer would have a square below this; the next candidate has the least.
    admitted = reach.square() * (1 - 2 * TIED) + squares.error(rows, reach)
    doubtful = (best.values[:, -1] <= admitted) & (reach > 0)
    if doubtful.any():
        rest = _by_differences(points, asked, rows[doubtful], columns, k)
        distances[doubtful], indices[doubtful] = rest
    return Neighbors(distances, indices)


def within(
    squares: Squares,
    points: Points,
    asked: Points,
    pairs: tuple[Tensor, Tensor],
    limits: Tensor,
) -> Tensor:
    """Whether points are within the limits of queries, for pairs of both: (pairs,) bool.

    Arguments:
        squares: The squared distances.
        points: The points.
        asked: The queries.
        pairs: The numbers of queries, in ascending order, and of points.
        limits: The limit of each query, (m,) float64.
    """
    i, j = pairs
    rows, which = torch.unique_consecutive(i, return_inverse=True)
    if len(i) * _DENSE < len(rows) * len(points):
        exact = distances_between(asked, i, points, j.unsqueeze(1)).squeeze(1)
        return exact <= limits[i]
    inside = torch.zeros_like(i, dtype=torch.bool)
    everything = torch.arange(len(points), device=rows.device)
    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS]
        of_some = (which >= first) & (which < first + len(some))
        for columns in _parts(everything, points):
            start = columns[0]
            here = (of_some & (j >= start) & (j < start + len(columns))).nonzero().squeeze(1)
            if not len(here):
                continue
            place = which[here] - first, j[here] - start
            limit = limits[some]
            if points.metric != "euclidean":
                table = _differences(points, asked, some, columns)
                inside[here] = table[place] <= limit[place[0]]
                continue
            table, reach = squares.between(some, columns)[place], limit * squares.scale
            error = squares.error(some, reach)[place[0]]
            rank = reach.square()[place[0]]
            inside[here] = table <= rank
            left = here[(table - rank).abs() <= error + 4 * _UNIT * rank]
            exact = distances_between(asked, i[left], points, j[left].unsqueeze(1)).squeeze(1)
            inside[left] = exact <= limits[i[left]]
    return inside


def _by_differences(
    points: Points, asked: Points, rows: Tensor, columns: Tensor, k: int
) -> Neighbors:
    """The nearest by exact distances."""
    best = _Smallest(rows, k)
    for some in _parts(columns, points):
        distances = _differences(points, asked, rows, some)
        best.fold(_without_itself(distances, points, asked, rows, some), some)
    exact = distances_between(asked, rows, points, best.columns).sort(1)
    return Neighbors(exact.values, best.columns.gather(1, exact.indices))


def _differences(points: Points, asked: Points, rows: Tensor, columns: Tensor) -> Tensor:
    """The distances (rows, columns) in float64, by differences."""
    parts = [
        torch.cdist(
            x[rows].detach().double(),
            y[columns].detach().double(),
            p=2.0 if points.metric == "euclidean" else torch.inf,
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        for x, y in zip(asked.factors, points.factors, strict=True)
    ]
    return functools.reduce(torch.maximum, parts)


class _Smallest:
    """The columns with the smallest values so far, for each row."""

    def __init__(self, rows: Tensor, size: int) -> None:
        self.size = size
        shape = (len(rows), size)
        self.values = torch.full(shape, torch.inf, dtype=torch.float64, device=rows.device)
        self.columns = torch.zeros(shape, dtype=torch.int64, device=rows.device)

    def fold(self, values: Tensor, columns: Tensor) -> None:
        """Takes the values of some columns into account."""
        smallest = values.topk(min(self.size, values.shape[1]), 1, largest=False)
        joint = torch.cat([self.values, smallest.values], 1)
        numbers = torch.cat([self.columns, columns[smallest.indices]], 1)
        self.values, places = joint.topk(self.size, 1, largest=False)
        self.columns = numbers.gather(1, places)


def _parts(columns: Tensor, points: Points) -> Sequence[Tensor]:
    """As many columns at a time as are converted to float64 at once."""
    return torch.split(columns, max(1, min(_WIDTH, _COORDINATES // points.d)))


def _without_itself(
    values: Tensor, points: Points, asked: Points, rows: Tensor, columns: Tensor
) -> Tensor:
    """Puts each point at infinity from itself."""
    if asked is points:
        values.masked_fill_(rows.unsqueeze(1) == columns, torch.inf)
    return values
