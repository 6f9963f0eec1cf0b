"""Counts that are kept: how many values fell into each bin of a histogram."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.devices import is_here, send
from infoprobe.estimators.errors import GROUPS
from infoprobe.estimators.histogram.counts import Counts, GroupedCounts
from infoprobe.estimators.histogram.grids import DyadicGrid
from infoprobe.estimators.histogram.reach import grid_of, reach_of
from infoprobe.estimators.histogram.unread import CountsUnread, UnreadCounts
from infoprobe.estimators.protocols import StreamingEstimator, count_blocks
from infoprobe.findings import Finding
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Kept, Piece, TensorReduction
from infoprobe.probing.kept.damage import count_of, require_counts, require_grids
from infoprobe.probing.kept.refused import Refused, refused_call
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, most, total
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.probing.roles import Role
from infoprobe.probing.selection import Select, require_select

# With fewer bins, all counts may be even by chance.
_BY_CHANCE = 14


@dataclass(frozen=True, eq=False)
class CountsPiece(Piece):
    """The counts of one call.

    Attributes:
        groups: For each group of samples, how many of its values fell into each bin.
        counted: The number of values that were counted; fewer where random ones stand for all.
    """

    groups: Mapping[int, Counts | UnreadCounts]
    counted: int


@dataclass(eq=False)
class KeptCounts(Kept[CountsPiece]):
    """The counts of the tensors that had one role at one call of a layer.

    Attributes:
        groups: For each group of samples, how many of its values fell into each bin.
        counted: The number of values that were counted.
        unread_groups: The same of values that were counted on a device, until they are read.
    """

    groups: dict[int, Counts] = field(default_factory=dict)
    counted: int = 0
    unread_groups: dict[int, UnreadCounts] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return not self.groups and not self.unread_groups

    @property
    def counts(self) -> GroupedCounts | None:
        """How many values fell into each bin; ``None`` before the first call."""
        if not self.groups:
            return None
        some = next(iter(self.groups.values()))
        none = Counts(some.grid, torch.zeros_like(some.values))
        return GroupedCounts.of([self.groups.get(i, none) for i in range(GROUPS)])

    def _add(self, piece: CountsPiece, run: Pass) -> bool:
        for group, counts in piece.groups.items():
            if isinstance(counts, Counts):
                before = self.groups.get(group)
                self.groups[group] = counts if before is None else run.sum(before, counts)
            else:
                unread = self.unread_groups.get(group)
                self.unread_groups[group] = counts if unread is None else run.sum(unread, counts)
        self.counted += piece.counted
        return False

    def _unread(self) -> list[Tensor]:
        return [x for counts in self.unread_groups.values() for x in counts.tensors]

    def _take(self, read: Sequence[Tensor], refused: Refused) -> None:
        self.counted -= refused.counted
        parts = iter(read)
        for group, unread in self.unread_groups.items():
            counts = unread.counts(*itertools.islice(parts, len(unread.tensors)))
            before = self.groups.get(group)
            if counts is not None and self.n:  # else no call was measured
                self.groups[group] = counts if before is None else before + counts
        self.unread_groups = {}

    def _merge(self, other: KeptCounts, merging: Merging | None) -> None:
        for group, counts in other.groups.items():
            before = self.groups.get(group)
            self.groups[group] = counts if before is None else before + counts
        self.counted += other.counted

    def outline(self) -> dict[str, Any]:
        """What processes must agree on: which bins there can be."""
        grid = None if self.is_empty else next(iter(self.groups.values())).grid
        if isinstance(grid, DyadicGrid):
            return {**super().outline(), "grid": DyadicGrid(grid.bins, 0, 0, 0)}
        return {**super().outline(), "grid": grid}

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[KeptCounts, KeptCounts]]:
        grid = agreed["grid"]
        if grid is None:  # nobody has counted anything
            return KeptCounts(), KeptCounts()
        counts = self.counts
        if isinstance(grid, DyadicGrid):
            own_grid = None if counts is None else counts.grid
            assert own_grid is None or isinstance(own_grid, DyadicGrid)
            grid = grid_of((yield most(reach_of(own_grid))), grid.bins)
        there = torch.zeros(GROUPS, dtype=torch.int64, device="cpu")
        there[list(self.groups)] = 1
        there = yield most(there)
        groups = there.nonzero().squeeze(1)
        own = torch.zeros((len(groups), grid.size), dtype=torch.int64, device="cpu")
        if counts is not None:
            own += counts.on(grid).groups[groups]
        everything = yield total(own)
        counted = torch.tensor(self.counted, device="cpu")
        together = yield total(counted)

        def kept(values: Tensor, number: Tensor) -> KeptCounts:
            parts = (Counts(grid, part) for part in values.unbind())
            return KeptCounts(
                groups=dict(zip(groups.tolist(), parts, strict=True)), counted=int(number)
            )

        return kept(everything, together), kept(everything - own, together - counted)

    def _state(self) -> dict[str, Any]:
        groups = {group: counts.state_dict() for group, counts in sorted(self.groups.items())}
        return {"groups": groups, "counted": self.counted}

    def _load(self, state: Mapping[str, Any]) -> None:
        self.groups = {
            count_of(group): Counts.from_state_dict(counts)
            for group, counts in state["groups"].items()
        }
        require_grids([counts.grid for counts in self.groups.values()])
        for counts in self.groups.values():
            require_counts(counts)
        self.counted = count_of(state["counted"])


@dataclass(frozen=True, eq=False)
class Counting(TensorReduction):
    """All values are counted in the bins of an estimator.

    Attributes:
        estimator: The estimator in whose bins they are counted.
        select: What the samples are: see :func:`infoprobe.probing.selection.require_select`.
            Values of tokens that a mask leaves out are not counted in any case.
    """

    estimator: StreamingEstimator
    select: Select = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "select", require_select(self.select))

    def empty(self) -> KeptCounts:
        """Nothing kept yet."""
        return KeptCounts()

    def reduce(self, tensors: list[Tensor], run: Pass) -> CountsPiece:
        """The counts of some tensors together; on a device they stay there."""
        here = is_here(tensors[0])
        if not here and isinstance(self.estimator, CountsUnread):
            return self._reduce_there(self.estimator, tensors, run)
        if self.select is not None or run.tokens.padded:
            return self._selected(tensors, run)
        chosen = run.values_of(tensors)
        blocks = count_blocks(self.estimator, chosen[0], len(run.groups))
        for x in chosen[1:]:
            more = count_blocks(self.estimator, x, len(run.groups))
            blocks = [a + b for a, b in zip(blocks, more, strict=True)]
        groups = dict(zip(run.groups, blocks, strict=False))
        return _piece(checks.length(tensors[0]) or 1, tensors, chosen, groups, here)

    def _selected(self, tensors: list[Tensor], run: Pass) -> CountsPiece:
        """The counts of some samples only, in blocks of whole sequences."""
        samples, select = self._samples(tensors, run)
        n = checks.length(tensors[0] if self.select is None else samples[0])
        counted = run.values_of(samples)
        groups: dict[int, Counts] = {}
        for x in counted:
            sizes = run.tokens.sizes(select, len(x), len(run.groups))
            for group, part in zip(run.groups, torch.split(x, sizes), strict=True):
                if len(part):
                    counts = self.estimator.count(part)
                    groups[group] = groups[group] + counts if group in groups else counts
        return _piece(n, samples, counted, groups, is_here(tensors[0]))

    def _samples(self, tensors: list[Tensor], run: Pass) -> tuple[list[Tensor], Select]:
        """The samples in some tensors, and how they were chosen."""
        samples = []
        for x in tensors:
            whole = checks.as_tensor(x, "x")
            select = run.tokens.padding(whole) if self.select is None else self.select
            samples.append(run.tokens.samples(select, whole))
        return samples, select

    def _reduce_there(
        self, estimator: CountsUnread, tensors: list[Tensor], run: Pass
    ) -> CountsPiece:
        device = tensors[0].device
        given = [send(x, device) for x in tensors]
        select: Select = None
        selects = self.select is not None or run.tokens.padded
        if selects:
            samples, select = self._samples(given, run)
        else:
            samples = [checks.as_tensor(x, "x") for x in given]
        n = checks.length(given[0] if self.select is None else samples[0]) or 1
        values = sum(map(Tensor.numel, samples))
        chosen = run.values_of(samples)
        blocks, of_samples = len(run.groups), None
        if selects:
            sizes = (run.tokens.sizes(select, len(x), blocks) for x in chosen)
            of_samples = [_labels(s) for s in sizes]
        unread = estimator.count_unread(chosen, blocks, of_samples)
        counted = sum(map(Tensor.numel, chosen))
        return CountsPiece(
            n=n,
            values=values,
            groups=dict(zip(run.groups, unread.blocks, strict=True)),
            counted=counted,
            refused=refused_call(unread.refused, unread.ends, n, values, counted, run.number),
        )

    def why_refused(self, low: float, high: float) -> str:
        """Why values with these extremes are not counted."""
        if isinstance(self.estimator, CountsUnread):
            return self.estimator.why_refused(low, high)
        return super().why_refused(low, high)

    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> list[Counts | None]:
        """The counts of each."""
        return [x.counts for x in kept if isinstance(x, KeptCounts)]

    def remarks(
        self,
        kept: Mapping[Role, Kept[Any]],
        used: int,
        seed: int,
        reservoir: Reservoir | None,
    ) -> Iterator[str]:
        """That random values stand for all, or that all samples came several times."""
        output = list(kept.values())[-1]
        if isinstance(output, KeptCounts) and output.counts is not None:
            times = _times(output.counts)
            if times > 1:
                yield str(
                    Finding(
                        "warning",
                        f"all counts are multiples of {times}, as of samples that came {times} "
                        f"times: the error is too small by a factor of {math.sqrt(times):.1f} at "
                        "least, since it takes them for more samples",
                        float(times),
                        "Pass each sample once.",
                        code="seen-twice",
                    )
                )
        if isinstance(output, KeptCounts) and output.counted < output.values:
            yield (
                f"It was computed from {output.counted:,} of {output.values:,} values, drawn at "
                f"random in every batch (seed {seed})."
            )


def _times(counts: GroupedCounts) -> int:
    """How many times all samples came, as far as counts tell: 1 unless it is beyond chance.

    Values that repeat within each sample, as after upsampling, do so in each group of samples.
    """
    occupied = counts.values[counts.values > 0]
    times = int(np.gcd.reduce(occupied.cpu().numpy()))
    if len(occupied) < _BY_CHANCE or bool((counts.groups % times == 0).all()):
        return 1
    return times


def _labels(sizes: Sequence[int]) -> Tensor:
    """The number of each sample's block, on the CPU."""
    numbers = torch.arange(len(sizes), device="cpu")
    return numbers.repeat_interleave(torch.tensor(sizes, device="cpu"))


def _piece(
    n: int, tensors: list[Tensor], counted: list[Tensor], groups: Mapping[int, Counts], here: bool
) -> CountsPiece:
    if not here:
        groups = {group: counts.to("cpu") for group, counts in groups.items()}
    values = sum(x.numel() for x in tensors)
    some = values if counted is tensors else sum(x.numel() for x in counted)
    return CountsPiece(n, values, groups, some)
