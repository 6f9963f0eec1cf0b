"""The entropy of attention that is kept: its average over the queries of all sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from infoprobe.devices import to_compute_with
from infoprobe.estimators.sequences.attention import attention_entropies, visible_keys
from infoprobe.estimators.sequences.outcomes import Outcomes
from infoprobe.findings import Finding
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.averages import Average, AveragePiece, KeptAverage
from infoprobe.probing.kept.base import CallReduction, Kept, Problem
from infoprobe.probing.kept.reservoir import Reservoir
from infoprobe.probing.selection import DoesNotApplyError
from infoprobe.probing.shards import local
from infoprobe.taps.sink import Event
from infoprobe.taps.tensors import tensors_in
from infoprobe.torch_internals import outside_of_transforms, plain, under_vmap

_OVER_HEADS = Finding(
    "warning",
    "the layer returns the mean of its heads' probabilities, whose entropy is higher than theirs",
    1.0,
    "Call torch.nn.MultiheadAttention with average_attn_weights=False.",
    code="heads-averaged",
)


@dataclass(frozen=True, eq=False)
class Attending(CallReduction):
    """The average entropy of the attention that a layer returns is kept.

    Attributes:
        head: The head, from 0; ``None`` for all.
        normalize: Whether each entropy is divided by the most that it can be.
    """

    head: int | None
    normalize: bool

    takes_for_independent: ClassVar[bool] = True

    def empty(self) -> KeptAverage:
        """Nothing kept yet."""
        return KeptAverage()

    def reduce(self, event: Event, run: Pass) -> AveragePiece | Problem:
        """The average over the queries of one call, on the device where they are."""
        if under_vmap():
            return Problem("Under torch.func.vmap tensors have no values.", applies=False)
        with outside_of_transforms():
            p, averaged = _probabilities(event)
            n, _, queries, _ = p.shape
            there = run.places(p[:, 0]).to(p.device, non_blocking=True)
            keys = visible_keys(p, run.mask_of(p[:, 0])) if self.normalize else None
            found = attention_entropies(self._chosen(p, averaged), keys)
            values, kinds = (
                each.movedim(1, 2).flatten(0, 1).index_select(0, there) for each in found
            )
            sequences = (there // queries).repeat_interleave(values.shape[1])
            average = Average.of(Outcomes(values.flatten(), kinds.flatten()), sequences, n)
        note = str(_OVER_HEADS) if averaged else ""
        padding = None if run.padding is None else run.padding.counted(None, [p[:, 0]])
        number = sum(x.numel() for x in event.outputs)
        return AveragePiece(n, number, average, note, padding=padding)

    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> list[Average | None]:
        """The average of each."""
        return [x.average for x in kept if isinstance(x, KeptAverage)]

    def _chosen(self, p: Tensor, averaged: bool) -> Tensor:
        if self.head is None:
            return p
        if averaged:
            raise DoesNotApplyError(
                "head",
                "It does not apply: the layer returns the mean over its heads alone. Call "
                "torch.nn.MultiheadAttention with average_attn_weights=False.",
            )
        if self.head >= p.shape[1]:
            raise DoesNotApplyError(
                "head",
                f"It does not apply: the layer has {p.shape[1]} heads, from 0 on, and no head "
                f"{self.head}.",
            )
        return p[:, self.head : self.head + 1]


def _probabilities(event: Event) -> tuple[Tensor, bool]:
    """The attention probabilities among what a layer has returned.

    Returns:
        The probabilities, (n, heads, queries, keys), and whether they are the mean over several
        heads, which then count as one.

    Raises:
        DoesNotApplyError: There are none.
    """
    found = list(_candidates(event))
    if not found:
        raise DoesNotApplyError(
            "x",
            "It does not apply: the layer returns no attention probabilities. Choose attention "
            "layers by layers=; load models of transformers with attn_implementation='eager', and "
            "call torch.nn.MultiheadAttention with need_weights=True.",
        )
    if len(found) > 1:
        # Where keys and values are returned, too, only a look at the sums tells them apart.
        found.sort(key=lambda x: abs(float(x[0].sum(-1).mean()) - 1))
    p = found[0]
    if p.dim() == 4:
        return p, False
    return p.unsqueeze(1), getattr(event.module, "num_heads", 1) != 1


def _candidates(event: Event) -> Iterator[Tensor]:
    """What might be probabilities by its shape: (n, heads, queries, keys), or without heads.

    The layer's output is (n, queries, d), or (queries, n, d), or (queries, d) of one sequence.
    """
    output = event.outputs[0]
    if output.dim() not in (2, 3):
        return
    n, queries = (1, *output.shape)[-3:-1]
    for given in tensors_in(event.returned):
        if given is output or not given.is_floating_point():
            continue
        x = to_compute_with(plain(local(given)))
        x = x.unsqueeze(0) if output.dim() == 2 else x
        if x.dim() in (3, 4) and (x.shape[0], x.shape[-2]) in ((n, queries), (queries, n)):
            yield x
