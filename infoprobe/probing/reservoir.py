"""A bounded, seeded sample of a stream, the same at every place that the stream passes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError


@dataclass(eq=False)
class Admitted:
    """What becomes of a batch.

    Attributes:
        n: Samples in the batch.
        rows: Those of them that are kept.
        slots: Where each is kept; -1 for one that is no longer.
        numbers: Their numbers in the stream.
        size: How many slots there are at most.
    """

    n: int
    rows: Tensor
    slots: Tensor
    numbers: Tensor
    size: int


class Reservoir:
    """Which samples of a stream are kept: at most ``size``, all equally likely.

    Every sample draws a priority, and those with the least are kept. So two reservoirs can be
    merged, and one can shrink, and what is left is what would have been kept all along.

    Attributes:
        size: The most samples to be kept.
        seen: How many there were.
        numbers: The number in the stream of the sample in each slot: (kept,), int64.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seen = 0
        self.numbers = torch.empty(0, dtype=torch.int64, device="cpu")
        self._priorities = torch.empty(0, dtype=torch.float64, device="cpu")
        self._generator = random_stream(seed)
        self._admitted: weakref.WeakSet[Admitted] = weakref.WeakSet()

    @torch.inference_mode(False)  # what is made in that mode could not be changed outside of it
    def admit(self, n: int) -> Admitted:
        """Decides on the next ``n`` samples."""
        kept = len(self.numbers)
        drawn = torch.rand(n, generator=self._generator, dtype=torch.float64, device="cpu")
        priorities = torch.cat([self._priorities, drawn])
        chosen = _least(priorities, self.size)
        rows = chosen[kept:].nonzero().squeeze(1)
        freed = (~chosen[:kept]).nonzero().squeeze(1)
        new = torch.arange(kept, kept + len(rows) - len(freed), device="cpu")
        slots = torch.cat([freed, new])
        added = Admitted(n, rows, slots, self.seen + rows, self.size)
        room = torch.zeros(len(rows) - len(freed), device="cpu")
        self.numbers = torch.cat([self.numbers, room.to(torch.int64)])
        self._priorities = torch.cat([self._priorities, room.to(torch.float64)])
        self.numbers[slots], self._priorities[slots] = added.numbers, drawn[rows]
        self.seen += n
        for earlier in self._admitted:  # in passes that are not over
            earlier.slots[torch.isin(earlier.slots, slots)] = -1
        self._admitted.add(added)
        return added

    def shrink(self, size: int) -> Tensor:
        """Keeps at most ``size`` from now on; gives the slots that remain."""
        self.size = min(self.size, size)
        remain = _least(self._priorities, self.size).nonzero().squeeze(1)
        moved = torch.full((len(self.numbers) + 1,), -1, device="cpu")  # the last is for -1
        moved[remain] = torch.arange(len(remain), device="cpu")
        for admitted in self._admitted:  # in passes that are not over
            admitted.slots = moved[admitted.slots]
            admitted.size = self.size
        self.numbers, self._priorities = self.numbers[remain], self._priorities[remain]
        return remain

    def merge(self, other: Reservoir) -> tuple[Tensor, Tensor]:
        """Takes in another stream's sample; gives the slots that remain of this and of that.

        The numbers of the other's samples go on from those of this one's.
        """
        mine = len(self.numbers)
        self.size = min(self.size, other.size)
        priorities = torch.cat([self._priorities, other._priorities])
        remain = _least(priorities, self.size).nonzero().squeeze(1)
        self.numbers = torch.cat([self.numbers, other.numbers + self.seen])[remain]
        self._priorities = priorities[remain]
        self.seen += other.seen
        return remain[remain < mine], remain[remain >= mine] - mine

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and numbers."""
        return {
            "size": self.size,
            "seen": self.seen,
            "numbers": self.numbers.clone(),
            "priorities": self._priorities.clone(),
            "generator": self._generator.get_state(),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Reservoir:
        """What :meth:`state_dict` describes."""
        reservoir = cls(state["size"], 0)
        reservoir.seen = state["seen"]
        reservoir.numbers = state["numbers"].clone()
        reservoir._priorities = state["priorities"].clone()
        reservoir._generator.set_state(state["generator"])
        return reservoir


class Rows:
    """What one place had for the samples that a reservoir keeps, on the CPU.

    Attributes:
        values: A row for each slot: (slots, ...).
        numbers: Which sample each row belongs to: (slots,), int64; -1 for none.
    """

    def __init__(self, values: Tensor, numbers: Tensor) -> None:
        self.values = values
        self.numbers = numbers

    @classmethod
    def none_like(cls, rows: Tensor) -> Rows:
        """No rows yet, of this shape."""
        none = torch.empty((0, *rows.shape[1:]), dtype=rows.dtype, device="cpu")
        return cls(none, torch.empty(0, dtype=torch.int64, device="cpu"))

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        return self.values.element_size() * self.values.shape[1:].numel()

    @torch.inference_mode(False)
    def add(self, admitted: Admitted, rows: Tensor) -> None:
        """Keeps the rows of the samples that were admitted."""
        if rows.shape[1:] != self.values.shape[1:]:
            raise ArgumentValueError(
                "x",
                f"expected rows of shape {tuple(self.values.shape[1:])} as before, got "
                f"{tuple(rows.shape[1:])}. Pad the data to one shape, or choose other layers.",
            )
        self.values = self.values.to(torch.promote_types(self.values.dtype, rows.dtype))
        there = admitted.slots >= 0
        slots = admitted.slots[there]
        if len(slots):
            self._grow(int(slots.max()) + 1, admitted.size)
            self.values[slots] = rows[there].to(self.values.dtype)
            self.numbers[slots] = admitted.numbers[there]

    def keep(self, slots: Tensor) -> None:
        """Drops all slots but these."""
        there = slots[slots < len(self.numbers)]
        self.values, self.numbers = self.values[there], self.numbers[there]

    def merge(self, other: Rows, start: int, slots: Tensor, seen: int) -> None:
        """Takes in rows of another stream and of the same shape, as the reservoirs were merged.

        Arguments:
            other: All of that stream's rows.
            start: The slot from which on they go.
            slots: The slots of theirs that remain.
            seen: How many samples this stream had, from which their numbers go on.
        """
        there = slots[slots < len(other.numbers)]
        numbers = other.numbers[there]
        end = start + len(there)
        self.values = self.values.to(torch.promote_types(self.values.dtype, other.values.dtype))
        self._grow(end, end)
        self.values[start:end] = other.values[there].to(self.values.dtype)
        self.numbers[start:end] = numbers + seen * (numbers >= 0)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"values": self.values.clone(), "numbers": self.numbers.clone()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Rows:
        """What :meth:`state_dict` describes."""
        return cls(state["values"].clone(), state["numbers"].clone())

    def _grow(self, slots: int, size: int) -> None:
        """Makes room, by an eighth at least: else many small batches would copy it all often."""
        there = len(self.numbers)
        if slots > there:
            missing = max(slots - there, min(there // 8, size - there))
            room = self.values.new_zeros((missing, *self.values.shape[1:]))
            self.values = torch.cat([self.values, room])
            self.numbers = torch.cat([self.numbers, self.numbers.new_full((missing,), -1)])


def together(reservoir: Reservoir, rows: Sequence[Rows]) -> list[Tensor]:
    """The rows of the samples that all places had, sample for sample."""
    slots = min(len(reservoir.numbers), min(len(each.numbers) for each in rows))
    there = torch.ones(slots, dtype=torch.bool, device="cpu")
    for each in rows:
        there &= each.numbers[:slots] == reservoir.numbers[:slots]
    return [each.values[:slots][there] for each in rows]


def random_stream(seed: int) -> torch.Generator:
    """Random numbers of our own, other ones in each process that takes part in a training."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if distributed else 0
    # The generator heeds 32 bits of a seed; an odd multiplier keeps ranks apart in them.
    return torch.Generator().manual_seed((seed + 0x9E3779B1 * rank) % (1 << 32))


def _least(priorities: Tensor, size: int) -> Tensor:
    """Whether each is among the ``size`` least."""
    chosen = torch.ones(len(priorities), dtype=torch.bool, device="cpu")
    if len(priorities) > size:
        chosen[priorities.topk(len(priorities) - size).indices] = False
    return chosen
