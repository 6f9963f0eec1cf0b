"""Counts that are kept: how many values fell into each bin of a histogram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.protocols import StreamingEstimator
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Kept, Piece, TensorReduction
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.roles import Role


@dataclass(frozen=True, eq=False)
class CountsPiece(Piece):
    """The counts of one call.

    Attributes:
        counts: How many values fell into each bin.
        counted: The number of values that were counted; fewer where random ones stand for all.
    """

    counts: Counts
    counted: int


@dataclass(eq=False)
class KeptCounts(Kept[CountsPiece]):
    """The counts of the tensors that had one role at one call of a layer.

    Attributes:
        counts: How many values fell into each bin; ``None`` before the first call.
        counted: The number of values that were counted.
    """

    counts: Counts | None = None
    counted: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return self.counts is None

    def _add(self, piece: CountsPiece, run: Pass) -> bool:
        before = self.counts
        self.counts = piece.counts if before is None else run.sum(before, piece.counts)
        self.counted += piece.counted
        return False

    def _merge(self, other: KeptCounts, merging: Merging | None) -> None:
        if other.counts is not None:
            before = self.counts
            self.counts = other.counts if before is None else before + other.counts
        self.counted += other.counted

    def _state(self) -> dict[str, Any]:
        counts = None if self.counts is None else self.counts.state_dict()
        return {"counts": counts, "counted": self.counted}

    def _load(self, state: Mapping[str, Any]) -> None:
        counts = state["counts"]
        self.counts = None if counts is None else Counts.from_state_dict(counts)
        self.counted = state["counted"]


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
        counts = self.estimator.count(chosen[0])
        for x in chosen[1:]:
            counts += self.estimator.count(x)
        values = sum(map(Tensor.numel, tensors))
        return CountsPiece(
            n=checks.length(tensors[0]) or 1,
            values=values,
            counts=counts.to("cpu") if tensors[0].is_cuda else counts,
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
