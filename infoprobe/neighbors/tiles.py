r"""Neighbours in many dimensions, or on a GPU: all pairs of points, in tiles.

A tile holds the float32 *ranks* of some rows and columns: their squared Euclidean distances by a
matrix product, :math:`\|a\|^2 - 2ab + \|b\|^2` of centred coordinates, or their Chebyshev
distances. Ranks only select candidates; the distances that are returned are computed in float64
from differences. A bound on the rounding error of the ranks tells for which rows the candidates
may be the wrong ones; those rows are decided among all points that the bound admits.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from infoprobe.neighbors import undecided
from infoprobe.neighbors.points import Neighbors, Points, center_and_reach, distances_between

# The numbers of rows, for each thread and at most, and of columns of a tile.
_ROWS_OF_THREAD, _ROWS, _COLUMNS = 128, 512, 16384
_TILE_SYMMETRIC = (768, 8192)
_TILE_ELSEWHERE = (4096, 32768)
# Chebyshev distances take a pass for each coordinate, over parts that stay in the cache.
_CACHED = (64, 2048)
# The k smallest ranks of a row lie in the k groups of columns with the smallest minima. Where the
# smallest ranks of a column are wanted, smaller groups are faster.
_GROUP = 64
_COLUMN_GROUP = 8
# From this many dimensions on, it is faster to use each tile for its columns as well as its rows,
# which halves the number of tiles.
_SYMMETRIC_DIMENSIONS = 128
_SYMMETRIC_DIMENSIONS_CHEBYSHEV = 12
# The number of candidates beyond the k wanted ones: the gap behind them absorbs rounding errors.
_SPARE = 3
# The relative rounding error of float32, and its smallest normal number.
_UNIT = 2.0**-24
_TINY = 2.0**-126


def search(points: Points, asked: Points, k: int) -> Neighbors:
    """Finds the k nearest points of each query, or of each point among the others.

    Arguments:
        points: The points.
        asked: The queries, or the points themselves.
        k: The number of neighbours.
    """
    with _full_precision(points.device):
        tiles = _Tiles(points, asked)
        available = len(points) - tiles.own
        best = _Best(tiles, min(k + _SPARE, available))
        for strip, columns in tiles.schedule():
            ranks = tiles.ranks(strip, columns)
            best.fold(ranks, strip, columns, dim=1)
            if tiles.symmetric and columns.stop > strip.stop:
                beyond = slice(max(columns.start, strip.stop), columns.stop)
                ranks = ranks[:, beyond.start - columns.start :]
                best.fold(ranks, beyond, strip, dim=0)
        shape = (len(asked), k)
        found = Neighbors(
            torch.empty(shape, dtype=torch.float64, device=points.device),
            torch.empty(shape, dtype=torch.int64, device=points.device),
        )
        rows = torch.arange(len(asked), device=points.device)
        for width in sorted({k, best.size}):
            candidates = best.columns[rows, :width]
            exact = distances_between(asked, rows, points, candidates).topk(k, 1, largest=False)
            found.distances[rows] = exact.values
            found.indices[rows] = candidates.gather(1, exact.indices)
            if width == available or tiles.exact:
                return found
            reach = found.distances[:, -1] * tiles.scale
            admitted = tiles.rank(reach) + tiles.error(reach)
            # No other point has a smaller rank than this, and none is nearer than distance 0.
            next_rank = best.ranks[: len(asked), min(width, best.size - 1)]
            rows = rows[((admitted >= next_rank) & (reach > 0))[rows]]
        for some in torch.split(rows, undecided.ROWS) if len(rows) else ():
            near = tiles.admitted(some, admitted[some])
            decided = undecided.nearest(tiles.squares, points, asked, some, near, k)
            found.distances[some], found.indices[some] = decided
    return found


def count_within(points: Points, asked: Points, limits: Tensor, weights: Tensor) -> Tensor:
    """Counts the points within a limit (m,) of each query, or the others of each point.

    Arguments:
        points: The points.
        asked: The queries, or the points themselves.
        limits: The limit of each query, (m,) float64.
        weights: As how many points each point counts, (n,) int64.
    """
    with _full_precision(points.device):
        tiles = _Tiles(points, asked, symmetric=False)
        reach = limits * tiles.scale
        rank, error = tiles.rank(reach), tiles.error(reach)
        # Exact ranks are compared with the limit's itself: on this side of it, there are none.
        surely = _down(rank) if tiles.exact else _down(rank - error)
        perhaps = _up(rank + error) - surely
        counts = torch.zeros(tiles.height, dtype=torch.int64, device=points.device)
        # Whole numbers below 2^24 are exact in float32.
        masses = weights.new_zeros(tiles.width, dtype=torch.float32)
        masses[: len(weights)] = weights
        for rows, columns in tiles.schedule():
            some = slice(rows.start, min(rows.stop, len(asked)))
            height = some.stop - some.start
            excess = tiles.ranks(rows, columns)[:height].sub_(surely[some].unsqueeze(1))
            flags = tiles.buffer(1, excess.shape)
            if tiles.exact:
                counts[some] += (torch.le(excess, 0, out=flags) @ masses[columns]).long()
                continue
            counts[some] += (torch.lt(excess, 0, out=flags) @ masses[columns]).long()
            # Points near the limit are counted by their exact distances.
            minima = torch.unflatten(torch.abs(excess, out=flags), 1, (-1, _GROUP)).amin(2)
            row, group = (minima <= perhaps[some].unsqueeze(1)).nonzero(as_tuple=True)
            members = torch.unflatten(excess, 1, (-1, _GROUP))[row, group]
            near = (members >= 0) & (members <= perhaps[some][row].unsqueeze(1))
            which, place = near.nonzero(as_tuple=True)
            i = row[which] + rows.start
            j = group[which] * _GROUP + place + columns.start
            inside = undecided.within(tiles.squares, points, asked, (i, j), limits)
            counts.index_add_(0, i, inside * weights[j])
    return counts[: len(asked)]


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Computes matrix products in full float32, whatever the caller has allowed.

    The bound on the error of the ranks relies on it.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    matmul: Any = getattr(backend, "matmul", None)
    with torch.autocast(device.type, enabled=False):
        if hasattr(matmul, "fp32_precision"):
            before = matmul.fp32_precision
            matmul.fp32_precision = "ieee"
            try:
                yield
            finally:
                matmul.fp32_precision = "none"
                if matmul.fp32_precision != before:  # then it had not been inherited
                    matmul.fp32_precision = before
        else:  # before torch 2.9
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)


def _down(x: Tensor) -> Tensor:
    """Returns ``x`` in float32, rounded down."""
    rounded = x.float()
    return torch.where(rounded > x, rounded.nextafter(rounded.new_tensor(-math.inf)), rounded)


def _up(x: Tensor) -> Tensor:
    """Returns ``x`` in float32, rounded up."""
    return -_down(-x)


def _shape_of_tiles(device: torch.device, symmetric: bool) -> tuple[int, int]:
    if device.type != "cpu":
        return _TILE_ELSEWHERE
    if symmetric:
        return _TILE_SYMMETRIC
    return min(_ROWS_OF_THREAD * torch.get_num_threads(), _ROWS), _COLUMNS


class _Tiles:
    """Coordinates prepared for ranks, padded with points at infinity to whole groups."""

    def __init__(self, points: Points, asked: Points, symmetric: bool = True) -> None:
        self.points, self.asked = points, asked
        self.own = asked is points
        self.squared = points.metric == "euclidean"
        worth_it = _SYMMETRIC_DIMENSIONS if self.squared else _SYMMETRIC_DIMENSIONS_CHEBYSHEV
        self.symmetric = symmetric and self.own and points.d >= worth_it
        pairs = list(zip(points.factors, asked.factors, strict=True))
        centers, reaches = zip(*(center_and_reach(p, q) for p, q in pairs), strict=True)
        # A power of two rounds nothing, and with it the coordinates squared are at most 1.
        self.scale = 2.0 ** -math.frexp(max(reaches))[1]
        self.squares = undecided.Squares(points, asked, centers, self.scale)
        self._tile = _shape_of_tiles(points.device, self.symmetric)
        prepare = self._augmented if self.squared else self._coordinates
        self._columns = [prepare(p, c) for (p, _), c in zip(pairs, centers, strict=True)]
        self._rows = (
            self._columns
            if self.own
            else [prepare(q, c) for (_, q), c in zip(pairs, centers, strict=True)]
        )
        self._all = self._columns if self.own else self._columns + self._rows
        self._samples = points.factors if self.own else points.factors + asked.factors
        self.height, self.width = len(self._rows[0]), len(self._columns[0])
        self._buffers: dict[int, Tensor] = {}

    @functools.cached_property
    def exact(self) -> bool:
        """Whether no rank is rounded, since all coordinates are multiples of a coarse step.

        So they are where data are labels, bits or small integers, which have many points at equal
        distances. All terms of a product, added up, are at most :math:`2 (a^2 + b^2)`: with the
        greatest norm of all, that is less than :math:`2^{24}` steps squared.
        """
        bits = 23  # differences of coordinates, which are at most 1, have one more
        if self.squared:
            norms = (rows[: len(x), -1] for rows, x in zip(self._all, self._samples, strict=True))
            largest = max(float(norm.max()) for norm in norms)
            bits = math.floor((24 - 2 - math.log2(max(largest, _TINY))) / 2)
        step = self.scale * 2.0**bits
        for x in self._samples:
            for _, block in self._blocks(x.detach()):
                multiples = block.double() * step
                if not torch.equal(multiples, multiples.floor()):
                    return False
        return True

    def _coordinates(self, x: Tensor, center: Tensor, extra: int = 0) -> Tensor:
        n, d = x.shape
        padded = -(-n // _GROUP) * _GROUP
        out = torch.full((padded, d + extra), math.inf, dtype=torch.float32, device=x.device)
        for start, block in self._blocks(x):
            if not _TINY <= self.scale <= 1 / _TINY:
                block = block.double()
            # In the precision of x, which holds both exactly, the difference rounds only once.
            shift = (center * self.scale).to(block.dtype)
            out[start : start + len(block), :d] = (block * self.scale).sub_(shift)
        return out

    def _augmented(self, x: Tensor, center: Tensor) -> Tensor:
        """Returns (a, 1, |a|^2), whose product with (-2b, |b|^2, 1) is a squared distance."""
        n, d = x.shape
        out = self._coordinates(x, center, extra=2)
        out[n:, :d] = 0
        out[:, d] = 1
        for start, block in self._blocks(out[:n, :d]):
            out[start : start + len(block), d + 1] = block.double().square().sum(1)
        return out

    def _blocks(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        step = max(1, self.points.block // x.shape[1])
        for start in range(0, len(x), step):
            yield start, x[start : start + step]

    def schedule(self) -> Iterator[tuple[slice, slice]]:
        """Yields the rows and the columns of each tile."""
        height, width = self._tile
        for row in range(0, self.height, height):
            first = row if self.symmetric else 0
            for column in range(first, self.width, width):
                yield (
                    slice(row, min(row + height, self.height)),
                    slice(column, min(column + width, self.width)),
                )

    def ranks(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """Returns the ranks of a tile, which the next call overwrites.

        A point is at infinity from itself.
        """
        measure = self._squares if self.squared else self._chebyshev
        ranks, *others = (
            measure(a[rows], b[columns], slot)
            for slot, (a, b) in enumerate(zip(self._rows, self._columns, strict=True))
        )
        for other in others:
            torch.maximum(ranks, other, out=ranks)
        if self.own:
            numbers = torch.arange(self.height, device=ranks.device)[rows]
            here = (numbers >= columns.start) & (numbers < columns.stop)
            ranks[here.nonzero().squeeze(1), numbers[here] - columns.start] = math.inf
        return ranks

    def _squares(self, a: Tensor, b: Tensor, slot: int) -> Tensor:
        d = a.shape[1] - 2
        left = torch.cat([-2 * a[:, :d], a[:, d + 1 :], a[:, d : d + 1]], 1)
        return torch.mm(left, b.T, out=self.buffer(slot, (len(a), len(b))))

    def _chebyshev(self, a: Tensor, b: Tensor, slot: int) -> Tensor:
        out = self.buffer(slot, (len(a), len(b)))
        height, width = out.shape if out.device.type != "cpu" else _CACHED
        a, b = a.T.unsqueeze(2).contiguous(), b.T.contiguous()
        for i in range(0, out.shape[0], height):
            for j in range(0, out.shape[1], width):
                largest = out[i : i + height, j : j + width].zero_()
                difference = torch.empty_like(largest)
                for x, y in zip(a[:, i : i + height], b[:, j : j + width], strict=True):
                    torch.sub(x, y, out=difference)
                    torch.maximum(largest, difference.abs_(), out=largest)
        return out

    def buffer(self, slot: int, shape: tuple[int, ...]) -> Tensor:
        """Returns memory that is reused: fresh pages would cost more than the work on them."""
        size = math.prod(shape)
        if slot not in self._buffers or len(self._buffers[slot]) < size:
            self._buffers[slot] = torch.empty(size, dtype=torch.float32, device=self.points.device)
        return self._buffers[slot][:size].view(shape)

    def rank(self, distances: Tensor) -> Tensor:
        """Returns the ranks of scaled distances."""
        return distances.square() if self.squared else distances

    def error(self, reach: Tensor) -> Tensor:
        r"""Bounds the error of the float32 ranks of points within ``reach`` of each row.

        With the norm :math:`a` of the row, :math:`b \le a + r` of a point within reach and the
        unit roundoff u: rounding the coordinates moves the distance by :math:`u (a + b)`, and a
        product of length m errs by :math:`m u` times the sum of its terms' magnitudes, which is
        at most :math:`2 (a^2 + b^2)`.
        """
        errors = []
        for rows in self._rows:
            rows = rows[: len(reach)]
            if self.squared:
                a = rows[:, -1].double().sqrt()
                b = a + reach
                product = 2 * (rows.shape[1] + 1) * (a.square() + b.square())
                errors.append(_UNIT * (product + 2 * (a + b) * (reach + _UNIT * (a + b))))
            else:
                a = rows.abs().amax(1).double()
                errors.append(2 * _UNIT * (2 * a + reach))
        largest = torch.stack(errors).amax(0)
        return largest + _UNIT * self.rank(reach) + self.points.d * _TINY

    def admitted(self, rows: Tensor, limits: Tensor) -> Tensor:
        """The numbers of the points that are within the limit of any of a few rows."""
        limits = _up(limits).unsqueeze(1)
        width = self._tile[1]
        found = []
        for start in range(0, self.width, width):
            columns = slice(start, min(start + width, self.width))
            inside = (self.ranks(rows, columns) <= limits).any(0)
            found.append(inside.nonzero().squeeze(1) + start)
        return torch.cat(found)


class _Best:
    """The columns with the smallest ranks so far, for each row."""

    def __init__(self, tiles: _Tiles, size: int) -> None:
        device = tiles.points.device
        self.size = size
        self.ranks = torch.full((tiles.height, size), math.inf, dtype=torch.float32, device=device)
        self.columns = torch.zeros((tiles.height, size), dtype=torch.int64, device=device)

    def fold(self, ranks: Tensor, rows: slice, columns: slice, dim: int) -> None:
        """Takes the ranks of a tile into account, whose columns lie along ``dim``."""
        values, places = _smallest(ranks, self.size, dim)
        if dim == 0:
            values, places = values.T, places.T
        values = torch.cat([self.ranks[rows], values], 1)
        places = torch.cat([self.columns[rows], places + columns.start], 1)
        self.ranks[rows], best = values.topk(self.size, 1, largest=False)
        self.columns[rows] = places.gather(1, best)


def _smallest(ranks: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    """Returns the k smallest ranks (or all) along ``dim``, and their positions."""
    size = _GROUP if dim else _COLUMN_GROUP
    minima = torch.unflatten(ranks, dim, (-1, size)).amin(dim + 1)
    groups = minima.topk(min(k, minima.shape[dim]), dim, largest=False).indices
    members = torch.arange(size, device=ranks.device)
    members = members if dim else members.unsqueeze(1)
    places = (groups.unsqueeze(dim + 1) * size + members).flatten(dim, dim + 1)
    values = ranks.gather(dim, places)
    best = values.topk(min(k, values.shape[dim]), dim, largest=False)
    return best.values, places.gather(dim, best.indices)
