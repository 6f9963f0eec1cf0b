"""Neighbours in few dimensions: KD-trees, and a sorted line in a single one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infoprobe.neighbors.points import Neighbors, Points, distances_between, sort
from infoprobe.neighbors.undecided import TIED

# As many points in a leaf are faster than fewer from four dimensions on, and not slower in two.
_LEAF = 32

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Tree:
    """A KD-tree over points on the CPU."""

    def __init__(self, points: Points) -> None:
        from scipy.spatial import cKDTree

        self.points = points
        # Balanced: splitting at midpoints is three times slower on heavy tails.
        self.tree: Any = cKDTree(_joined(points), leafsize=_LEAF, compact_nodes=False)
        # In a product of Euclidean spaces, the joint Euclidean distance selects candidates.
        self.p: float = 2.0 if points.metric == "euclidean" else math.inf

    def search(self, asked: Points, k: int) -> Neighbors:
        """Finds the k nearest points of each query, or of each point among the others.

        Arguments:
            asked: The queries, or the points of the tree themselves.
            k: The number of neighbours.
        """
        # In the order of the tree, a query finds in the cache what the one before brought there.
        rows = self.tree.indices if asked is self.points else np.arange(len(asked))
        if len(self.points.factors) == 1:
            distances, indices = self._query(asked, rows, k)
        else:
            distances, indices = self._search_product(asked, rows, k)
        found = np.empty((len(rows), k)), np.empty((len(rows), k), np.int64)
        found[0][rows], found[1][rows] = distances, indices
        return Neighbors(*map(torch.from_numpy, found))

    def _query(self, asked: Points, rows: Integers, k: int) -> tuple[Floats, Integers]:
        """Finds the k nearest points of some queries by the tree's own distance."""
        own = asked is self.points
        queries = self.tree.data[rows] if own else _joined(asked)[rows]
        ranks = np.arange(1, k + own + 1)
        distances, indices = self.tree.query(
            queries, ranks, eps=TIED, p=self.p, workers=_workers()
        )
        if not own:
            return distances, indices
        if (indices[:, 0] == rows).all():
            return distances[:, 1:], indices[:, 1:]
        others = indices != rows[:, None]
        # Among more than k equal points, a point may not be among those that it found.
        others[others.all(1), -1] = False
        return distances[others].reshape(-1, k), indices[others].reshape(-1, k)

    def _search_product(self, asked: Points, rows: Integers, k: int) -> tuple[Floats, Integers]:
        r"""Finds the k nearest points in a product of F Euclidean spaces.

        The tree's joint distance selects candidates, since
        :math:`max_f |a_f| \le |a| \le \sqrt F max_f |a_f|`.
        """
        available = len(self.points) - (asked is self.points)
        stretch = math.sqrt(len(self.points.factors)) * (1 + 1e-12)
        distances, indices = np.empty((len(rows), k)), np.empty((len(rows), k), np.int64)
        pending, tried = np.arange(len(rows)), min(3 * k + 2, available)
        while len(pending):
            joint, found = self._query(asked, rows[pending], tried)
            candidates = torch.from_numpy(found)
            exact = distances_between(
                asked, torch.from_numpy(rows[pending]), self.points, candidates
            )
            best = exact.topk(k, 1, largest=False)
            distances[pending] = best.values.numpy()
            indices[pending] = candidates.gather(1, best.indices).numpy()
            if tried == available:
                break
            pending = pending[stretch * distances[pending, -1] > joint[:, -1]]
            tried = min(2 * tried, available)
        return distances, indices

    def count_within(self, asked: Points, limits: Tensor) -> Tensor:
        """Counts the points within a limit (n,) of each query, in a space of one factor."""
        # In the order of the tree, a query finds in the cache what the one before brought there.
        own = asked is self.points
        rows = self.tree.indices if own else np.arange(len(asked))
        counts = np.empty(len(rows), np.int64)
        counts[rows] = self.tree.query_ball_point(
            self.tree.data[rows] if own else _joined(asked),
            limits.numpy()[rows],
            p=self.p,
            return_length=True,
            workers=_workers(),
        )
        return torch.from_numpy(counts)


def _workers() -> int:
    return torch.get_num_threads()


def _joined(points: Points) -> Floats:
    """Returns the coordinates in all factors, side by side."""
    joined: Floats = torch.cat([f.detach().to(torch.float64) for f in points.factors], 1).numpy()
    return joined


def count_on_line(x: Tensor, limits: Tensor) -> Tensor:
    """Counts the other values of ``x`` (n,) that differ from each by at most its limit (n,)."""
    line, order = sort(x.detach().double())
    limits = limits[order]
    above = _first_beyond(line, limits, torch.searchsorted(line, line + limits, right=True))
    # Counted in the same way from the other end.
    mirrored, flipped = -line.flip(0), limits.flip(0)
    below = _first_beyond(
        mirrored, flipped, torch.searchsorted(mirrored, mirrored + flipped, right=True)
    ).flip(0)
    counts = torch.empty_like(order)
    counts[order] = above + below - len(line) - 1
    return counts


def _first_beyond(line: Tensor, limits: Tensor, guess: Tensor) -> Tensor:
    """Counts, for each value of a sorted line, those that do not exceed it by over its limit.

    The guess adds value and limit; the rounding of that sum may put it on either side of
    neighbours at just that distance. Here the difference of the two values decides, as it does
    wherever distances are computed.
    """
    rows = torch.arange(len(line), device=line.device)
    end = len(line) - 1
    while len(rows):
        beyond, value, limit = guess[rows], line[rows], limits[rows]
        too_many = line[beyond - 1] - value > limit
        too_few = (beyond <= end) & (line[beyond.clamp(max=end)] - value <= limit)
        wrong = too_many | too_few
        rows, beyond, too_many = rows[wrong], beyond[wrong], too_many[wrong]
        # The guess moves over a whole run of equal values at a time.
        misplaced = line[torch.where(too_many, beyond - 1, beyond)]
        left, right = (torch.searchsorted(line, misplaced, right=side) for side in (False, True))
        guess[rows] = torch.where(too_many, left, right)
    return guess
