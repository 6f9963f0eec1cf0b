"""From the arguments of a histogram's methods to tables of counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram import arguments, tables
from infoprobe.estimators.histogram.arguments import Argument
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.counts import Counts, count, share
from infoprobe.estimators.histogram.tables import Table, joint_tally, tally

# With no more cells than this for each pair, a joint histogram is faster than sorting the pairs.
_DENSE = 2


def tabulate(binning: Binning, **given: Any) -> Iterator[list[Table]]:
    """A table for each argument, cell for cell, on the device of the first.

    Over units they come in parts, each with the rows of other units.
    """
    if binning.over == "values":
        yield [pooled(counts) for counts in counts_of_all(binning, **given)]
        return
    samples = [_samples(binning, x, name) for name, x in given.items()]
    checks.require_same_width(**{x.name: x.tensor for x in samples})
    if binning.over == "units":
        yield from _tables_of_units(binning, samples)
    else:
        labels = all(x.labels for x in samples)
        samples = [binning.samples_inside(x._replace(labels=labels))[0] for x in samples]
        symbols, cells = _symbols(binning, samples)
        yield [tally([of_x], cells) for of_x in symbols]


def tabulate_pairs(binning: Binning, x: Any, y: Any) -> Iterator[list[Table]]:
    """The tables of x, of y and of their pairs, in parts as in :func:`tabulate`."""
    for name, argument in (("x", x), ("y", y)):
        if isinstance(argument, Counts):
            raise ArgumentValueError(
                name,
                "expected a tensor or an array, got counts, which do not know which "
                "values belong together. Pass the values themselves.",
            )
    if binning.over == "values":
        yield from _pairs(binning, arguments.values(x, "x"), arguments.values(y, "y"))
        return
    of_x, of_y = _samples(binning, x, "x"), _samples(binning, y, "y")
    if binning.over == "units":
        yield from _pairs(binning, of_x, of_y)
    else:
        yield _pairs_of_symbols(binning, of_x, of_y)


def counts_of(binning: Binning, x: Any, name: str) -> Counts:
    """The counts of one argument over values, on a grid for itself."""
    return _count(binning, arguments.values(x, name))


def counts_of_all(binning: Binning, **given: Any) -> list[Counts]:
    """The counts of one or two arguments over values, on the device of the first."""
    for name, x in given.items():
        if isinstance(x, Counts):
            binning.require_own_grid(x, name)
    values = {
        name: x if isinstance(x, Counts) else arguments.values(x, name)
        for name, x in given.items()
    }
    if binning.streams:
        counted = [v if isinstance(v, Counts) else _count(binning, v) for v in values.values()]
    else:
        tensors = [v for v in values.values() if isinstance(v, Argument)]
        grids = binning.shared([(v.low, v.high) for v in tensors])
        counted = [count(v.tensor, grid) for v, grid in zip(tensors, grids, strict=True)]
    device = counted[0].values.device
    counted = [c.to(device) for c in counted]
    if binning.streams and len(counted) == 2:
        counted = list(share(*counted))
    for name, c in zip(values, counted, strict=True):
        binning.require_some_left(c.values.unsqueeze(0), name)
    return counted


def pooled(counts: Counts) -> Table:
    """Counts as a table of a single row."""
    cells = tables.cells_of([counts.grid], counts.values.device)
    return Table(counts.values.unsqueeze(0), cells)


def _count(binning: Binning, x: Argument) -> Counts:
    return count(binning.inside(x), binning.grid(x.low, x.high))


def _samples(binning: Binning, x: Any, name: str) -> Argument:
    if isinstance(x, Counts):
        binning.require_streaming()
    return arguments.samples(x, name, symbols=binning.over == "samples")


def _tables_of_units(binning: Binning, samples: Sequence[Argument]) -> Iterator[list[Table]]:
    binning.require_inside(*samples)
    for parts in tables.columns([x.tensor for x in samples], cells=binning.bins):
        found = []
        for x, part, grids in zip(samples, parts, binning.grids(parts), strict=True):
            places = map(binning.indexer(grids, part.device), tables.rows(part))
            table = tally(places, tables.cells_of(grids, part.device))
            binning.require_some_left(table.counts, x.name)
            found.append(table)
        yield found


def _pairs(binning: Binning, x: Argument, y: Argument) -> Iterator[list[Table]]:
    if x.tensor.shape != y.tensor.shape:
        raise ArgumentValueError(
            "x, y",
            f"expected the same shape, since {binning.over} are taken in pairs, got "
            f"{tuple(x.tensor.shape)} and {tuple(y.tensor.shape)}. Pass what belongs "
            "together, or use over='samples' for variables of different width.",
        )
    binning.require_inside(x, y)
    if binning.over == "values":
        x, y = (z._replace(tensor=z.tensor.reshape(-1, 1)) for z in (x, y))
    n = len(x.tensor)
    dense = binning.bins**2 <= _DENSE * n
    cells = binning.bins**2 if dense else max(n, binning.bins)
    for parts in tables.columns([x.tensor, y.tensor], cells):
        device = parts[0].device
        grids = binning.grids(parts)
        of_x, of_y = (binning.indexer(grid, device) for grid in grids)
        blocks = zip(*(tables.rows(part) if dense else [part] for part in parts), strict=True)
        places = ((of_x(a), of_y(b)) for a, b in blocks)
        x_cells, y_cells = (tables.cells_of(grid, device) for grid in grids)
        found = joint_tally(places, x_cells, y_cells, dense)
        binning.require_some_left(found[0].counts, "x, y")
        yield found


def _pairs_of_symbols(binning: Binning, x: Argument, y: Argument) -> list[Table]:
    checks.require_same_length(x=x.tensor, y=y.tensor)
    x, y = binning.samples_inside(x, y)
    (of_x,), x_cells = _symbols(binning, [x])
    (of_y,), y_cells = _symbols(binning, [y])
    y_cells, of_y = y_cells.to(of_x.device), of_y.to(of_x.device)
    dense = float(x_cells * y_cells) <= _DENSE * len(of_x)
    return joint_tally([(of_x, of_y)], x_cells, y_cells, dense)


def _symbols(binning: Binning, samples: Sequence[Argument]) -> tuple[Sequence[Tensor], Tensor]:
    """The symbols (n, 1) of each argument, numbered from 0, and how many there are (1, 1)."""
    device = samples[0].tensor.device
    lengths = [len(x.tensor) for x in samples]
    if samples[0].labels:
        symbols = tables.numbered(torch.cat([x.tensor.to(device) for x in samples]))
    else:
        grids = binning.shared([(x.low, x.high) for x in samples])
        indexers = [binning.indexer([grid], device) for grid in grids]
        blocks = (
            torch.cat([index(part) for index, part in zip(indexers, parts, strict=True)])
            for parts in tables.columns([x.tensor for x in samples], cells=sum(lengths))
        )
        symbols = tables.symbols(blocks, binning.bins)
    cells = (symbols.max() + 1).to(torch.float64).reshape(1, 1)
    return torch.split(symbols, lengths), cells
