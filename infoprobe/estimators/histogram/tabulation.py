"""From the arguments of a histogram's methods to tables of counts."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.errors import GROUPS, random_groups
from infoprobe.estimators.histogram import arguments, tables
from infoprobe.estimators.histogram.arguments import Argument
from infoprobe.estimators.histogram.at_once import dyadic_counts
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.counts import (
    Counts,
    GroupedCounts,
    count,
    count_groups,
    share,
)
from infoprobe.estimators.histogram.grids import Grid
from infoprobe.estimators.histogram.tables import Table, joint_tally, tally

# With no more cells than this for each pair, a joint histogram is faster than sorting the pairs.
_DENSE = 2


def tabulate(binning: Binning, *, apart: bool = False, **given: Any) -> Iterator[list[Table]]:
    """A table for each argument, cell for cell, on the device of the first.

    Over units they come in parts, each with the rows of other units.

    Arguments:
        binning: Where the bins lie, and what the random variable is.
        apart: Whether groups of samples are counted apart, at random.
        given: The arguments by name: tensors, or over values counts, whose groups are what they
            are.
    """
    if binning.over == "values":
        yield [pooled(counts) for counts in counts_of_all(binning, apart, **given)]
        return
    samples = [_samples(binning, x, name) for name, x in given.items()]
    checks.require_same_width(**{x.name: x.tensor for x in samples})
    if binning.over == "units":
        yield from _tables_of_units(binning, samples, apart)
    else:
        labels = all(x.labels for x in samples)
        samples = [binning.samples_inside(x._replace(labels=labels))[0] for x in samples]
        symbols, cells = _symbols(binning, samples)
        yield [tally([of_x], cells, _groups(of_x, apart)) for of_x in symbols]


def tabulate_pairs(
    binning: Binning, x: object, y: object, *, apart: bool = False
) -> Iterator[list[Table]]:
    """The tables of x, of y and of their pairs, in parts as in :func:`tabulate`."""
    for name, argument in (("x", x), ("y", y)):
        if isinstance(argument, Counts):
            raise ArgumentValueError(
                name,
                "expected a tensor or an array, got counts, which do not know which "
                "values belong together. Pass the values themselves.",
            )
    if binning.over == "values":
        yield from _pairs(binning, arguments.values(x, "x"), arguments.values(y, "y"), apart)
        return
    of_x, of_y = _samples(binning, x, "x"), _samples(binning, y, "y")
    if binning.over == "units":
        yield from _pairs(binning, of_x, of_y, apart)
    else:
        yield _pairs_of_symbols(binning, of_x, of_y, apart)


def counts_of(binning: Binning, x: object, name: str) -> Counts:
    """The counts of one argument over values, on a grid for itself."""
    counts = _at_once(binning, x)
    if counts is not None:
        return counts
    argument = arguments.values(x, name)
    return _count(binning, argument, binning.grid(argument.low, argument.high), None)


def counts_of_blocks(binning: Binning, x: object, name: str, blocks: int) -> GroupedCounts:
    """The same, of as many blocks of neighbouring samples, each a group of about the same size."""
    counts = _at_once(binning, x, blocks)
    if counts is None:
        argument = arguments.values(x, name)
        groups = _blocks(checks.length(argument.tensor), blocks)
        grid = binning.grid(argument.low, argument.high)
        counts = _count(binning, argument, grid, groups, blocks)
    return counts if isinstance(counts, GroupedCounts) else GroupedCounts.of([counts])


def counts_of_all(binning: Binning, apart: bool = False, **given: Any) -> list[Counts]:
    """The counts of one or two arguments over values, on the device of the first."""
    for name, x in given.items():
        if isinstance(x, Counts):
            binning.require_own_grid(x, name)
    values: dict[str, Counts | Argument] = {}
    for name, x in given.items():
        known = x if isinstance(x, Counts) else None if apart else _at_once(binning, x)
        values[name] = arguments.values(x, name) if known is None else known
    tensors = [v for v in values.values() if isinstance(v, Argument)]
    extents = [(v.low, v.high) for v in tensors]
    grids = iter(
        [binning.grid(*extent) for extent in extents]
        if binning.streams
        else binning.shared(extents)
    )
    counted = [
        v
        if isinstance(v, Counts)
        else _count(binning, v, next(grids), _labels(v.tensor) if apart else None)
        for v in values.values()
    ]
    device = counted[0].values.device
    counted = [c.to(device) for c in counted]
    if binning.streams and len(counted) == 2:
        counted = list(share(*counted))
    for name, c in zip(values, counted, strict=True):
        binning.require_some_left(c.values.unsqueeze(0), name)
    return counted


def _at_once(binning: Binning, x: Any, blocks: int = 1) -> Counts | None:
    """The counts that need no steps."""
    return dyadic_counts(x, binning.bins, blocks) if binning.range == "dyadic" else None


def pooled(counts: Counts) -> Table:
    """Counts as a table of a single row."""
    cells = tables.cells_of([counts.grid], counts.values.device)
    groups = counts.groups.unsqueeze(1) if isinstance(counts, GroupedCounts) else None
    return Table(counts.values.unsqueeze(0), cells, groups)


def _count(
    binning: Binning, x: Argument, grid: Grid, groups: Tensor | None, number: int = GROUPS
) -> Counts:
    """The counts of the values of ``x``; apart for each group, where each sample has one."""
    inside = binning.inside(x)
    if groups is None or x.tensor.dim() == 0:
        return count(inside, grid)
    if inside.shape != x.tensor.shape:
        kept = binning.kept(x)
        each = groups.view(-1, *[1] * (x.tensor.dim() - 1)).expand(x.tensor.shape)
        groups = each[kept.cpu()]
    return count_groups(inside, grid, groups, number)


@functools.lru_cache(maxsize=64)
def _blocks(n: int, blocks: int) -> Tensor:
    """The block of each of n samples in their order, from 0."""
    with torch.inference_mode(False):
        return torch.arange(n, device="cpu") * blocks // max(n, 1)


def _labels(x: Tensor) -> Tensor | None:
    """A random group for each sample, if there are samples."""
    return random_groups(len(x)) if x.dim() else None


def _groups(x: Tensor, apart: bool) -> Tensor | None:
    """A random group for each sample of (n, ...), as (n, 1), if they are to be counted apart."""
    return random_groups(len(x)).unsqueeze(1) if apart else None


def _samples(binning: Binning, x: object, name: str) -> Argument:
    if isinstance(x, Counts):
        binning.require_streaming()
    return arguments.samples(x, name, symbols=binning.over == "samples")


def _tables_of_units(
    binning: Binning, samples: Sequence[Argument], apart: bool
) -> Iterator[list[Table]]:
    binning.require_inside(*samples)
    cells = binning.bins * (GROUPS if apart else 1)
    for parts in tables.columns([x.tensor for x in samples], cells):
        found = []
        for x, part, grids in zip(samples, parts, binning.grids(parts), strict=True):
            places = map(binning.indexer(grids, part.device), tables.rows(part))
            groups = _groups(part, apart)
            table = tally(places, tables.cells_of(grids, part.device), groups)
            binning.require_some_left(table.counts, x.name)
            found.append(table)
        yield found


def _pairs(binning: Binning, x: Argument, y: Argument, apart: bool) -> Iterator[list[Table]]:
    if x.tensor.shape != y.tensor.shape:
        raise ArgumentValueError(
            "x, y",
            f"expected the same shape, since {binning.over} are taken in pairs, got "
            f"{tuple(x.tensor.shape)} and {tuple(y.tensor.shape)}. Pass what belongs "
            "together, or use over='samples' for variables of different width.",
        )
    binning.require_inside(x, y)
    groups = _groups(x.tensor, apart) if x.tensor.dim() else None
    if binning.over == "values":
        if groups is not None:
            groups = groups.expand(-1, x.tensor[:1].numel()).reshape(-1, 1)
        x, y = (z._replace(tensor=z.tensor.reshape(-1, 1)) for z in (x, y))
    n = len(x.tensor)
    dense = binning.bins**2 <= _DENSE * n
    cells = binning.bins**2 if dense else max(n, binning.bins)
    if groups is not None:
        cells *= GROUPS
    for parts in tables.columns([x.tensor, y.tensor], cells):
        device = parts[0].device
        grids = binning.grids(parts)
        of_x, of_y = (binning.indexer(grid, device) for grid in grids)
        blocks = zip(*(tables.rows(part) if dense else [part] for part in parts), strict=True)
        places = ((of_x(a), of_y(b)) for a, b in blocks)
        x_cells, y_cells = (tables.cells_of(grid, device) for grid in grids)
        found = joint_tally(places, x_cells, y_cells, dense, groups)
        binning.require_some_left(found[0].counts, "x, y")
        yield found


def symbols_of(binning: Binning, **variables: object) -> list[Tensor]:
    """The symbol of each sample of variables that were sampled together, (n, 1) for each."""
    samples = {name: _samples(binning, x, name) for name, x in variables.items()}
    checks.require_same_length(**{name: x.tensor for name, x in samples.items()})
    found = [_symbols(binning, [x])[0][0] for x in binning.samples_inside(*samples.values())]
    return [symbols.to(found[0].device) for symbols in found]


def _pairs_of_symbols(binning: Binning, x: Argument, y: Argument, apart: bool) -> list[Table]:
    checks.require_same_length(x=x.tensor, y=y.tensor)
    x, y = binning.samples_inside(x, y)
    (of_x,), x_cells = _symbols(binning, [x])
    (of_y,), y_cells = _symbols(binning, [y])
    y_cells, of_y = y_cells.to(of_x.device), of_y.to(of_x.device)
    dense = float(x_cells * y_cells) <= _DENSE * len(of_x)
    groups = _groups(of_x, apart)
    return joint_tally([(of_x, of_y)], x_cells, y_cells, dense, groups)


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
