"""Means over tokens that are kept: one for each prompt, and for each of two views of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Kept
from infoprobe.probing.kept.refused import of_counted_samples
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.kept.samples import KeptSamples, Samples, SamplesPiece, together
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.processes.asking import Answered, Exchange
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.probing.selection import DoesNotApplyError


def _pooled(x: Tensor, run: Pass) -> Tensor:
    """The mean over the tokens of each prompt (n, t, d); other samples as they are, flat."""
    if not x.is_floating_point():
        raise DoesNotApplyError(
            "x", f"It does not apply: values of {x.dtype} are symbols, and have no mean."
        )
    if x.dim() != 3:
        return x.flatten(1) if x.dim() > 1 else x
    mask = run.mask_of(x)
    run.tokens.require_tokens_in_all()
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if mask is None:
        return wide.mean(1)
    lengths = mask.sum(1, keepdim=True)
    # What does not count may hold anything.
    return wide.masked_fill(~mask.unsqueeze(-1), 0.0).sum(1) / lengths


@dataclass(frozen=True, eq=False)
class Pooling(Sampling):
    """Of a bounded random sample of prompts, the means over their tokens are kept."""

    takes_for_independent: ClassVar[bool] = True

    def reduce(self, tensors: list[Tensor], run: Pass) -> SamplesPiece:
        """The means of the prompts of this pass that the reservoir keeps."""
        return super().reduce([_pooled(checks.as_tensor(x, "x"), run) for x in tensors], run)


@dataclass(frozen=True, eq=False)
class PairsPiece(SamplesPiece):
    """One view of the samples of one call that are kept.

    Attributes:
        view: 0 for the first view, and 1 for the second.
    """

    view: int = 0


@dataclass(eq=False)
class KeptPairs(KeptSamples):
    """Two views of the samples that had one role at one call of a layer.

    Attributes:
        second: The second views; ``None`` before the first pass that has them.
    """

    second: Samples | None = None

    @property
    def bytes_per_sample(self) -> int:
        """How many bytes each further pair takes."""
        second = 0 if self.second is None else self.second.sample_bytes
        return super().bytes_per_sample + second

    def keep(self, slots: Tensor) -> None:
        """Drops all slots but these."""
        super().keep(slots)
        if self.second is not None:
            self.second.keep(slots)

    @property
    def _views(self) -> list[Samples | None]:
        return [self.samples, self.second]

    def _add(self, piece: SamplesPiece, run: Pass) -> bool:
        assert isinstance(piece, PairsPiece)
        if piece.view == 0:
            return super()._add(piece, run)
        before = self.bytes_per_sample
        if self.samples is None:
            raise ArgumentValueError("x", "expected a first view, but there was none here.")
        second = Samples.none_like(self.samples.values) if self.second is None else self.second
        second.add(piece.admitted, piece.x, piece.doubtful)
        self.second = second
        return self.bytes_per_sample != before

    def _merge(self, other: KeptSamples, merging: Merging | None) -> None:
        super()._merge(other, merging)
        if not isinstance(other, KeptPairs) or other.second is None or merging is None:
            return
        second = Samples.none_like(other.second.values) if self.second is None else self.second
        if second.values.shape[1:] == other.second.values.shape[1:]:  # else it was told above
            second.merge(other.second, merging)
            self.second = second

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[Any, Any]]:
        firsts = yield from super()._pooled(agreed, survivors, exchange)
        views = KeptSamples(samples=self.second)
        seconds = yield from views._pooled(agreed, survivors, exchange)
        whole, rest = (
            KeptPairs(samples=first.samples, second=second.samples)
            for first, second in zip(firsts, seconds, strict=True)
        )
        return whole, rest

    def _state(self) -> dict[str, Any]:
        second = None if self.second is None else self.second.state_dict()
        return {**super()._state(), "second": second}

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        second = state["second"]
        self.second = None if second is None else Samples.from_state_dict(second)


@dataclass(frozen=True, eq=False)
class Pairing(Pooling):
    """Of a bounded random sample of prompts, two views of each are kept, as means over tokens.

    The second views come in the pass after the first, which :meth:`Probe.pair` says.
    """

    paired: ClassVar[bool] = True
    takes_for_independent: ClassVar[bool] = False  # pairs are compared with each other

    def empty(self) -> KeptPairs:
        """Nothing kept yet."""
        return KeptPairs()

    def reduce(self, tensors: list[Tensor], run: Pass) -> PairsPiece:
        """One view of the prompts of this pass that the reservoir keeps."""
        if run.is_second and run.first is None:
            raise ArgumentValueError(
                "pair",
                "expected the pass before to be measured, since it has the other view of each "
                "sample. With probe.track(...), pass passes=2 or another even number.",
            )
        if run.first is not None and self in run.first:
            n, second = run.first[self].n, run.tokens.count(None)
            if second not in (0, n):
                raise ArgumentValueError(
                    "pair",
                    f"expected {n:,} samples, as the pass before had, got {second:,}. Pass the "
                    "second views of the same samples, in the same order.",
                )
        piece = super().reduce(tensors, run)
        # A pair is one sample, and its first view has counted it.
        given = {each.name: getattr(piece, each.name) for each in fields(piece)}
        if run.is_second:
            refused = None if piece.refused is None else of_counted_samples(piece.refused)
            given |= {"n": 0, "values": 0, "refused": refused}
        return PairsPiece(**given, view=int(run.is_second))

    def together(self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None) -> list[Tensor]:
        """The pairs of each whose views are both there, (n, 2, d)."""
        assert reservoir is not None
        pairs = []
        for each in kept:
            if isinstance(each, KeptPairs) and each.samples is not None:
                second = each.second or Samples.none_like(each.samples.values)
                views = together(reservoir, [each.samples, second])
                flat = [v.flatten(1) if v.dim() > 1 else v.unsqueeze(1) for v in views]
                pairs.append(torch.stack(flat, 1))
        return pairs
