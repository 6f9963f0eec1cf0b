"""Samples that are kept: those that a reservoir chose, of one layer's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infoprobe.devices import is_here, send
from infoprobe.errors import ArgumentValueError
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import MERGED, Kept, Piece, Problem
from infoprobe.probing.kept.damage import numbers_of
from infoprobe.probing.kept.refused import Refused
from infoprobe.probing.kept.reservoir import Admitted, Merging, Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, total
from infoprobe.probing.processes.survivors import Survivors


class Samples:
    """What one layer had for the samples that a reservoir keeps, on the device of the layer.

    Attributes:
        values: The sample in each slot: (slots, ...).
        numbers: The number in the stream of each of them: (slots,), int64, on the CPU; -1 in an
            empty slot.
        refused: Where only the device knows, which of them must not be kept: (slots,), int64.
    """

    def __init__(self, values: Tensor, numbers: Tensor) -> None:
        self.values: Tensor = values
        self.numbers: Tensor = numbers
        self.refused: Tensor | None = None

    @classmethod
    def none_like(cls, x: Tensor) -> Samples:
        """No samples yet, of the shape and type of those in ``x`` (n, ...)."""
        none = torch.empty((0, *x.shape[1:]), dtype=x.dtype, device=x.device)
        return cls(none, torch.empty(0, dtype=torch.int64, device="cpu"))

    @property
    def sample_bytes(self) -> int:
        """How many bytes one sample takes."""
        return self.values.element_size() * self.values.shape[1:].numel()

    @torch.inference_mode(False)
    def add(self, admitted: Admitted, x: Tensor, refused: Tensor | None = None) -> None:
        """Keeps the samples ``x`` (m, ...) that were admitted.

        Arguments:
            admitted: Where they are to be kept.
            x: The samples.
            refused: Where only their device knows, whether they must not be kept: 0-dim, bool.
        """
        if x.shape[1:] != self.values.shape[1:]:
            raise ArgumentValueError(
                "x",
                f"expected samples of shape {tuple(self.values.shape[1:])} as before, got "
                f"{tuple(x.shape[1:])}. Pad the data to one shape, or choose other layers.",
            )
        self.values = send(self.values, x.device)
        self.values = self.values.to(torch.promote_types(self.values.dtype, x.dtype))
        there = (admitted.slots >= 0).nonzero().squeeze(1)
        slots = admitted.slots[there]
        if len(slots):
            self._grow(int(slots.max()) + 1, admitted.size)
            places = send(slots, x.device)
            if len(there) < len(x):
                x = x.index_select(0, send(there, x.device))
            self.values.index_copy_(0, places, x.to(self.values.dtype))
            self.numbers[slots] = admitted.numbers[there]
            if refused is not None:
                marked = torch.zeros(len(self.numbers), dtype=torch.int64, device=x.device)
                if self.refused is not None:
                    marked[: len(self.refused)] = send(self.refused, x.device)
                self.refused = marked.index_copy_(
                    0, places, refused.to(torch.int64).expand(len(slots))
                )

    def at(self, slots: Tensor) -> Samples:
        """What there is in these slots, some of which may be empty."""
        values = self.values.new_zeros((len(slots), *self.values.shape[1:]))
        numbers = torch.full_like(slots, -1)
        there = slots < len(self.numbers)
        values[there] = self.values[slots[there]]
        numbers[there] = self.numbers[slots[there]]
        return Samples(values, numbers)

    def keep(self, slots: Tensor) -> None:
        """Drops all slots but these."""
        there = slots[slots < len(self.numbers)]
        places = send(there, self.values.device)
        self.values, self.numbers = self.values.index_select(0, places), self.numbers[there]
        if self.refused is not None:
            self.refused = self.refused.index_select(0, places)

    def merge(self, other: Samples, merging: Merging) -> None:
        """Takes in samples of another stream and the same shape, as the reservoirs were merged.

        The slots that remain here must have been chosen before, by :meth:`keep`.
        """
        self.values = self.values.to("cpu")
        there = merging.added[merging.added < len(other.numbers)]
        numbers = other.numbers[there]
        start = len(merging.remaining)
        end = start + len(there)
        self.values = self.values.to(torch.promote_types(self.values.dtype, other.values.dtype))
        self._grow(end, end)
        self.values[start:end] = other.values.to("cpu")[there].to(self.values.dtype)
        self.numbers[start:end] = numbers + merging.seen * (numbers >= 0)

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state as tensors."""
        values = self.values.clone() if is_here(self.values) else self.values.to("cpu")
        return {"values": values, "numbers": self.numbers.clone()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Samples:
        """Makes the samples that :meth:`state_dict` describes."""
        values = state["values"].clone()
        return cls(values, numbers_of(state["numbers"], len(values)).clone())

    def _grow(self, slots: int, size: int) -> None:
        """Makes room, by an eighth at least: else many small batches would copy it all often."""
        there = len(self.numbers)
        if slots > there:
            missing = max(slots - there, min(there // 8, size - there))
            room = self.values.new_zeros((missing, *self.values.shape[1:]))
            self.values = torch.cat([self.values, room])
            self.numbers = torch.cat([self.numbers, self.numbers.new_full((missing,), -1)])


def together(reservoir: Reservoir, samples: Sequence[Samples]) -> list[Tensor]:
    """The samples that all of them have, sample for sample, in the order in which they came."""
    places = shared(reservoir, samples)
    return [each.values.to("cpu")[places] for each in samples]


def shared(reservoir: Reservoir, samples: Sequence[Samples]) -> Tensor:
    """The slots in which all of them have the sample that the reservoir keeps, as they came.

    Neighbours in time may resemble each other, which estimators look for.
    """
    slots = min(len(reservoir.numbers), min(len(each.numbers) for each in samples))
    there = torch.ones(slots, dtype=torch.bool, device="cpu")
    for each in samples:
        there &= each.numbers[:slots] == reservoir.numbers[:slots]
    places = there.nonzero().squeeze(1)
    return places[reservoir.numbers[places].argsort()]


@dataclass(frozen=True, eq=False)
class SamplesPiece(Piece):
    """The samples of one call that are kept.

    Attributes:
        x: The samples, (m, ...).
        admitted: Where they are to be kept.
        doubtful: Where only their device knows, whether they must not be kept: 0-dim, bool.
    """

    x: Tensor
    admitted: Admitted
    doubtful: Tensor | None = None


@dataclass(eq=False)
class KeptSamples(Kept[SamplesPiece]):
    """Samples of the tensors that had one role at one call of a layer.

    Attributes:
        samples: The samples; ``None`` before the first call.
    """

    samples: Samples | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return self.samples is None

    @property
    def bytes_per_sample(self) -> int:
        """How many bytes each further sample takes."""
        return 0 if self.samples is None else self.samples.sample_bytes

    def keep(self, slots: Tensor) -> None:
        """Drops all slots but these."""
        if self.samples is not None:
            self.samples.keep(slots)

    def _add(self, piece: SamplesPiece, run: Pass) -> bool:
        samples = Samples.none_like(piece.x) if self.samples is None else self.samples
        before = self.bytes_per_sample
        samples.add(piece.admitted, piece.x, piece.doubtful)
        self.samples = samples
        return self.bytes_per_sample != before

    @property
    def _views(self) -> list[Samples | None]:
        """All that is kept of each sample."""
        return [self.samples]

    def _unread(self) -> list[Tensor]:
        return [x.refused for x in self._views if x is not None and x.refused is not None]

    def _take(self, read: Sequence[Tensor], refused: Refused) -> None:
        doubtful = [x for x in self._views if x is not None and x.refused is not None]
        for samples, marked in zip(doubtful, read, strict=True):
            samples.numbers[: len(marked)][marked > 0] = -1
            samples.refused = None
        if not self.n:  # no call was measured
            self.samples = None

    def _merge(self, other: KeptSamples, merging: Merging | None) -> None:
        if other.samples is None or merging is None:
            return
        if self.samples is None:
            self.samples = Samples.none_like(other.samples.values)
        shape, others = (tuple(x.samples.values.shape[1:]) for x in (self, other) if x.samples)
        if shape == others:
            self.samples.merge(other.samples, merging)
        else:
            self.leave_out(Problem(_other_shape(shape, others)), MERGED)
            self._uncount(other.n, other.values)

    def outline(self) -> dict[str, Any]:
        """What processes must agree on: the shapes of samples, and the type of those of each."""
        x = None if self.samples is None else self.samples.values
        shapes = {} if x is None else {tuple(x.shape[1:]): x.dtype}
        return {**super().outline(), "shapes": shapes}

    def _disagreement(self, agreed: Mapping[str, Any]) -> str:
        shapes = list(agreed["shapes"])
        if len(shapes) < 2:
            return ""
        return f"{MERGED} could not be measured: {_other_shape(*shapes[:2])}"

    def _is_odd(self, agreed: Mapping[str, Any]) -> bool:
        shape = next(iter(agreed["shapes"]), None)
        return self.samples is not None and tuple(self.samples.values.shape[1:]) != shape

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[KeptSamples, KeptSamples]]:
        if survivors is None or not agreed["shapes"]:  # nobody has kept any
            return KeptSamples(), KeptSamples()
        (shape, dtype), *_ = agreed["shapes"].items()
        values = torch.zeros((survivors.number, *shape), dtype=dtype, device="cpu")
        numbers = torch.zeros(survivors.number, dtype=torch.int64, device="cpu")
        if self.samples is not None and not self._is_odd(agreed):
            mine = self.samples.at(survivors.slots)
            values[survivors.places] = mine.values.to("cpu", dtype)
            numbers[survivors.places] = mine.numbers + 1
            numbers[survivors.places] += survivors.seen * (mine.numbers >= 0)
        # All but one process have zeros in each place: so sums of the bits are exact.
        values = _from_bits((yield total(_bits(values))), values)
        numbers = (yield total(numbers)) - 1
        others = survivors.others
        whole, rest = Samples(values, numbers), Samples(values[others], numbers[others])
        return KeptSamples(samples=whole), KeptSamples(samples=rest)

    def _state(self) -> dict[str, Any]:
        return {"samples": None if self.samples is None else self.samples.state_dict()}

    def _load(self, state: Mapping[str, Any]) -> None:
        samples = state["samples"]
        self.samples = None if samples is None else Samples.from_state_dict(samples)


def _other_shape(expected: tuple[int, ...], got: tuple[int, ...]) -> str:
    return f"expected samples of shape {expected}, got {got}."


def _bits(x: Tensor) -> Tensor:
    """The bits of a tensor as whole numbers, with zeros at the end."""
    flat = x.reshape(-1).view(torch.uint8)
    return torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(torch.int64)


def _from_bits(bits: Tensor, like: Tensor) -> Tensor:
    """The tensor of this shape and type with these bits."""
    return bits.view(torch.uint8)[: like.nbytes].view(like.dtype).view(like.shape)
