"""Tables of counts: many histograms at once, from the places of values among their cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from infoprobe.estimators.errors import GROUPS
from infoprobe.estimators.histogram.grids import Grid

# The most values, and cells of histograms, that are in work at a time.
_BLOCK = 1 << 17
_BLOCK_ELSEWHERE = 1 << 22
# Symbols are numbered anew before their numbers reach this.
_LARGEST_SYMBOL = 1 << 62


class Table(NamedTuple):
    """Counts of one or more histograms, a row each.

    Attributes:
        counts: (rows, width), int64. Empty cells may be left out of a row, and rows with fewer
            cells than others are padded with zeros.
        cells: The number of cells of each row, empty ones included: (rows, 1), float64.
        groups: What each group of samples contributed to the counts: (groups, rows, width);
            ``None`` where that is not known.
    """

    counts: Tensor
    cells: Tensor
    groups: Tensor | None = None

    @property
    def shares(self) -> Tensor:
        """The share of each group in all values: (groups,), float64."""
        assert self.groups is not None
        return self.groups.sum((1, 2)) / self.counts.sum()

    @property
    def without_groups(self) -> Table:
        """The tables without each of the groups, one below the other."""
        assert self.groups is not None
        left = (self.counts - self.groups).flatten(0, 1)
        return Table(left, self.cells.repeat(len(self.groups), 1))

    @property
    def total(self) -> Tensor:
        """The number of values in each row: (rows, 1), float64."""
        return self.counts.sum(1, keepdim=True).to(torch.float64)

    @property
    def frequencies(self) -> Tensor:
        """The share of each cell in its row's values: (rows, width), float64."""
        return self.counts / self.total

    @property
    def empty(self) -> Tensor:
        """The number of cells of each row that hold nothing: (rows, 1), float64."""
        return self.cells - (self.counts > 0).sum(1, keepdim=True)


def tally(blocks: Iterable[Tensor], cells: Tensor, groups: Tensor | None = None) -> Table:
    """The counts of places among the cells.

    Arguments:
        blocks: Some places (n, rows) at a time, integers from 0; -1 leaves a value out.
        cells: How many cells each row has: (rows, 1), float64.
        groups: The group of each sample, to be counted apart, as (samples, 1); ``None`` where
            they need not be.
    """
    counts = _Counts(cells, groups)
    for places in blocks:
        counts.add(places)
    return counts.table


def joint_tally(
    blocks: Iterable[tuple[Tensor, Tensor]],
    x_cells: Tensor,
    y_cells: Tensor,
    dense: bool,
    groups: Tensor | None = None,
) -> list[Table]:
    """The counts of x's places, of y's and of their pairs.

    Arguments:
        blocks: Places of x and of y as in :func:`tally`; a pair is left out if either is. Unless
            ``dense``, all at once.
        groups: The group of each sample, as in :func:`tally`.
        x_cells: How many cells each row of x has: (rows, 1), float64.
        y_cells: How many cells each row of y has: (rows, 1), float64.
        dense: Whether to count in all cells of the pairs, rather than list the cells that occur.
    """
    cells = [x_cells, y_cells, x_cells * y_cells]
    of_pairs = _Counts(cells[2], groups) if dense else _Runs(cells[2], groups)
    counts = [_Counts(x_cells, groups), _Counts(y_cells, groups), of_pairs]
    for x, y in blocks:
        pair = x * y_cells.squeeze(1).long() + y
        left_out = (x | y) < 0
        for each, places in zip(counts, (x, y, pair), strict=True):
            each.add(places.masked_fill(left_out, -1))
    return [each.table for each in counts]


class _Counts:
    """How often each place has occurred in each row, and in each group if there are groups."""

    def __init__(self, cells: Tensor, groups: Tensor | None) -> None:
        self._cells = cells
        self._groups = groups
        self._number = 1 if groups is None else GROUPS
        width = int(cells.max()) + 1  # the first is for what is left out
        self._per_group = len(cells) * width
        size = self._number * self._per_group
        self._all = torch.zeros(size, dtype=torch.int64, device=cells.device)
        self._start = torch.arange(1, self._per_group, width, device=cells.device)
        self._one = self._all.new_ones(1)
        self._seen = 0

    def add(self, places: Tensor) -> None:
        start = self._start
        if self._groups is not None:
            groups = self._groups[self._seen : self._seen + len(places)].to(start.device)
            start = start + groups * self._per_group
            self._seen += len(places)
        flat = (places + start).flatten()
        self._all.scatter_add_(0, flat, self._one.expand_as(flat))

    @property
    def table(self) -> Table:
        each = self._all.view(self._number, len(self._start), -1)[:, :, 1:]
        return Table(each.sum(0), self._cells, None if self._groups is None else each)


class _Runs:
    """How often each place has occurred, for places that have: given all at once."""

    def __init__(self, cells: Tensor, groups: Tensor | None) -> None:
        self._cells = cells
        self._groups = groups

    def add(self, places: Tensor) -> None:
        n, rows = places.shape
        left_out = places < 0
        number = 1
        if self._groups is not None:
            # Pairs are sorted together with the groups of their samples.
            number = GROUPS
            places = places * number + self._groups.to(places.device)
        places = places.masked_fill(left_out, -1).T.contiguous()
        # NumPy sorts rows many times faster on a CPU.
        ordered = (
            torch.from_numpy(np.sort(places.numpy(), axis=1))
            if places.device.type == "cpu"
            else places.sort(1).values
        )
        pairs = ordered.div(number, rounding_mode="floor")
        run = torch.zeros_like(pairs)
        run[:, 1:] = (pairs[:, 1:] != pairs[:, :-1]).cumsum(1)
        groups = None if self._groups is None else ordered.remainder(number).T
        counts = _Counts(torch.full((rows, 1), n, device=places.device), groups)
        counts.add(run.masked_fill_(ordered < 0, -1).T)
        self.table = counts.table._replace(cells=self._cells)


def _block(device: torch.device) -> int:
    return _BLOCK if device.type == "cpu" else _BLOCK_ELSEWHERE


def columns(samples: Sequence[Tensor], cells: int) -> Iterator[tuple[Tensor, ...]]:
    """Some columns of each argument at a time, all on the device of the first.

    Arguments:
        samples: The arguments, (n, d) each.
        cells: How many cells of histograms each column will take.
    """
    device = samples[0].device
    width = max(1, _block(device) // cells)
    for parts in zip(*(torch.split(x, width, 1) for x in samples), strict=True):
        yield tuple(part.to(device) for part in parts)


def rows(x: Tensor) -> Sequence[Tensor]:
    """Some rows of samples (n, d) at a time."""
    return torch.split(x, max(1, _block(x.device) // x.shape[1]))


def cells_of(grids: Sequence[Grid], device: torch.device) -> Tensor:
    """The number of cells of each grid: (rows, 1), float64."""
    sizes = [grid.size for grid in grids]
    return torch.tensor(sizes, dtype=torch.float64, device=device).unsqueeze(1)


def symbols(blocks: Iterable[Tensor], size: int) -> Tensor:
    """Numbers (n, 1) from 0 that are equal where the rows of all blocks are.

    The blocks are some columns (n, ...) each, of places below ``size``.
    """
    symbols, bound = torch.zeros(1, 1, dtype=torch.int64, device="cpu"), 1
    for places in (column for block in blocks for column in torch.split(block, 1, 1)):
        if bound * size > _LARGEST_SYMBOL:
            symbols = numbered(symbols)
            bound = int(symbols.max()) + 1
            if bound == len(symbols):
                return symbols  # all are different, whatever the other columns hold
        symbols = symbols.to(places.device) * size + places
        bound *= size
    return numbered(symbols)


def numbered(x: Tensor) -> Tensor:
    """A number from 0 for each value, the same for equal ones."""
    numbers: Tensor = torch.unique(x, return_inverse=True)[1]
    return numbers
