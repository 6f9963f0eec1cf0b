"""Counts that are kept: how many values fell into each bin of a histogram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.errors import GROUPS
from infoprobe.estimators.histogram.counts import Counts, GroupedCounts
from infoprobe.estimators.protocols import StreamingEstimator, count_blocks
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Kept, Piece, TensorReduction
from infoprobe.probing.kept.damage import count_of, require_counts
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.roles import Role


@dataclass(frozen=True, eq=False)
class CountsPiece(Piece):
    """The counts of one call.

    Attributes:
        groups: For each group of samples, how many of its values fell into each bin.
        counted: The number of values that were counted; fewer where random ones stand for all.
    """

    groups: Mapping[int, Counts]
    counted: int


@dataclass(eq=False)
class KeptCounts(Kept[CountsPiece]):
    """The counts of the tensors that had one role at one call of a layer.

    Attributes:
        groups: For each group of samples, how many of its values fell into each bin.
        counted: The number of values that were counted.
    """

    groups: dict[int, Counts] = field(default_factory=dict)
    counted: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return not self.groups

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
            before = self.groups.get(group)
            self.groups[group] = counts if before is None else run.sum(before, counts)
        self.counted += piece.counted
        return False

    def _merge(self, other: KeptCounts, merging: Merging | None) -> None:
        for group, counts in other.groups.items():
            before = self.groups.get(group)
            self.groups[group] = counts if before is None else before + counts
        self.counted += other.counted

    def _state(self) -> dict[str, Any]:
        groups = {group: counts.state_dict() for group, counts in sorted(self.groups.items())}
        return {"groups": groups, "counted": self.counted}

    def _load(self, state: Mapping[str, Any]) -> None:
        self.groups = {
            count_of(group): Counts.from_state_dict(counts)
            for group, counts in state["groups"].items()
        }
        for counts in self.groups.values():
            require_counts(counts)
        self.counted = count_of(state["counted"])


@dataclass(frozen=True, eq=False)
class Counting(TensorReduction):
    """All values are counted in the bins of an estimator.

    Attributes:
        estimator: The estimator in whose bins they are counted.
    """

    estimator: StreamingEstimator

    def empty(self) -> KeptCounts:
        """Nothing kept yet."""
        return KeptCounts()

    def reduce(self, tensors: list[Tensor], run: Pass) -> CountsPiece:
        """The counts of some tensors together, on the CPU."""
        chosen = run.values_of(tensors)
        blocks = count_blocks(self.estimator, chosen[0], len(run.groups))
        for x in chosen[1:]:
            more = count_blocks(self.estimator, x, len(run.groups))
            blocks = [a + b for a, b in zip(blocks, more, strict=True)]
        if tensors[0].is_cuda:
            blocks = [counts.to("cpu") for counts in blocks]
        values = sum(map(Tensor.numel, tensors))
        return CountsPiece(
            n=checks.length(tensors[0]) or 1,
            values=values,
            groups=dict(zip(run.groups, blocks, strict=False)),
            counted=values if chosen is tensors else sum(x.numel() for x in chosen),
        )

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
        """That random values stand for all."""
        output = list(kept.values())[-1]
        if isinstance(output, KeptCounts) and output.counted < output.values:
            yield (
                f"It was computed from {output.counted:,} of {output.values:,} values, drawn at "
                f"random in every batch (seed {seed})."
            )
