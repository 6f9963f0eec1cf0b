"""The reduction of tensors to the samples that a reservoir chooses."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.devices import extremes, is_here, send
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram.unread import are_fine
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Kept, TensorReduction
from infoprobe.probing.kept.marks import Repeats, repeats
from infoprobe.probing.kept.refused import refused_call
from infoprobe.probing.kept.reservoir import Reservoir
from infoprobe.probing.kept.samples import KeptSamples, SamplesPiece, shared, together
from infoprobe.probing.roles import Role, described
from infoprobe.probing.selection import Select, require_select

# About how many values of samples that are to be projected are there at once.
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class Sampling(TensorReduction):
    """A bounded random sample of all samples is kept, the same at every layer.

    Attributes:
        samples: The most samples that are kept.
        project: The number of dimensions onto which wider samples are projected; ``None`` to
            keep them as they are.
        select: What the samples are: see :func:`infoprobe.probing.selection.require_select`.
        paired: Whether two passes have two views of each sample.
    """

    samples: int
    project: int | None = None
    select: Select = None

    paired: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.require_integer_field(self, "samples", 1)
        if self.project is not None:
            checks.require_integer_field(self, "project", 1)
        object.__setattr__(self, "select", require_select(self.select))

    def empty(self) -> KeptSamples:
        """Nothing kept yet."""
        return KeptSamples()

    def reduce(self, tensors: list[Tensor], run: Pass) -> SamplesPiece:
        """The samples of this pass that the reservoir keeps; of several tensors side by side."""
        parts = [run.tokens.samples(self.select, checks.as_tensor(x, "x")) for x in tensors]
        lengths = set(map(checks.length, parts))
        n = max(lengths)
        admitted = run.admitted(self, n)
        if lengths != {admitted.n}:
            raise ArgumentValueError(
                "x",
                f"expected as many rows as the pass has samples, {admitted.n:,}, got shape "
                f"{tuple(parts[0].shape)}: which row belongs to which sample is unknown. Choose "
                "layers that keep samples along the first axis, or a measure that streams; of "
                "labels, give probe.target one for each sample.",
            )
        device = parts[0].device
        parts = [send(x, device) for x in parts]
        values = sum(x.numel() for x in parts)
        doubtful: Tensor | None = None
        refused: Tensor | None = None
        if is_here(parts[0]):
            for x in parts:
                checks.extent(checks.exact_float(x, "x"), "x")
        else:
            ends = extremes(parts)
            doubtful = ~are_fine(parts, ends)
            refused = refused_call(doubtful, ends, n, values, 0, run.number)
        admitted = run.fitting(self, n, self._sample_bytes(parts))
        return SamplesPiece(
            n=n,
            values=values,
            x=self._kept_of(parts, admitted.indices, run),
            admitted=admitted,
            doubtful=doubtful,
            refused=refused,
        )

    def _sample_bytes(self, parts: Sequence[Tensor]) -> int:
        """How many bytes are kept of each sample of some tensors (n, ...)."""
        width = sum(x.shape[1:].numel() for x in parts)
        if self.project is not None and width > self.project:
            return self.project * torch.float32.itemsize
        return width * functools.reduce(torch.promote_types, [x.dtype for x in parts]).itemsize

    def _kept_of(self, parts: Sequence[Tensor], indices: Tensor, run: Pass) -> Tensor:
        """Some samples of all parts side by side, projected if they are to be."""
        width = sum(x.shape[1:].numel() for x in parts)
        projects = self.project is not None and width > self.project
        # What is projected takes more memory before than it does afterwards.
        at_once = max(1, _BLOCK // width) if projects else max(1, len(indices))
        found = []
        for some in torch.split(indices, at_once):
            kept = [x.index_select(0, send(some, x.device)) for x in parts]
            joined = kept[0] if len(kept) == 1 else torch.cat([x.flatten(1) for x in kept], 1)
            found.append(run.choices.project(joined, self.project))
        return found[0] if len(found) == 1 else torch.cat(found)

    def together(self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None) -> list[Tensor]:
        """The samples that were kept of all, sample for sample."""
        samples = [x.samples for x in kept if isinstance(x, KeptSamples) and x.samples]
        assert reservoir is not None
        return together(reservoir, samples)

    def repeats(self, kept: Sequence[Kept[Any]], reservoir: Reservoir) -> Repeats:
        """Which of the samples that were kept of all had come before."""
        samples = [x.samples for x in kept if isinstance(x, KeptSamples) and x.samples]
        places = shared(reservoir, samples)
        return repeats(reservoir.marks[places], together(reservoir, samples))

    def remarks(
        self,
        kept: Mapping[Role, Kept[Any]],
        used: int,
        seed: int,
        reservoir: Reservoir | None,
    ) -> Iterator[str]:
        """How many of the samples were used, and which were projected."""
        n = list(kept.values())[-1].n
        if reservoir is not None and reservoir.seen > reservoir.size:
            limit = (
                f"the measure asks for {self.samples:,}"
                if reservoir.size == self.samples
                else f"the memory had room for {reservoir.size:,}"
            )
            yield (
                f"It was computed from {used:,} of {n:,} samples, drawn at random (seed {seed}), "
                f"the same at every layer: {limit}."
            )
        elif used < n:
            yield (
                f"It was computed from the {used:,} of {n:,} samples for which everything that is "
                "needed was there."
            )
        wide = [
            f"{described(role)} ({x.width:,g} dimensions)"
            for role, x in kept.items()
            if self.project is not None and x.width is not None and x.width > self.project
        ]
        if wide:
            were = "were" if len(wide) > 1 else "was"
            yield f"{' and '.join(wide)} {were} projected onto {self.project} random directions."
