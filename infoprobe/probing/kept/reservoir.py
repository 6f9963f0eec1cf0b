"""Which samples of a stream are kept: a bounded, seeded choice, the same at every layer."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe.devices import is_here, send
from infoprobe.probing.kept.damage import count_of, counts_of, numbers_of, priorities_of
from infoprobe.probing.kept.marks import UNKNOWN

# How many times as many marks as samples may wait to be read.
_MOST_UNREAD = 2


@dataclass(eq=False)
class Admitted:
    """Which samples of a batch are kept.

    Attributes:
        n: The number of samples in the batch.
        indices: The places in the batch of those that are kept: (m,), int64.
        slots: The slot of each, (m,), int64; -1 for one that is no longer kept.
        numbers: The number of each in the stream: (m,), int64.
        size: The most slots that there may be.
    """

    n: int
    indices: Tensor
    slots: Tensor
    numbers: Tensor
    size: int


class Merging(NamedTuple):
    """How two reservoirs were merged.

    Attributes:
        remaining: The slots of the first one that remain, (m,), int64; they come first.
        added: The slots of the second one that remain, (k,), int64; they follow.
        seen: How many samples the first one had seen, by which the second one's numbers go up.
    """

    remaining: Tensor
    added: Tensor
    seen: int


class Reservoir:
    """Which samples of a stream are kept: at most ``size``, all equally likely.

    Every sample draws a priority, and the samples with the least priorities are kept. So two
    reservoirs can be merged, or one can shrink, and it holds what it would have held if it had
    been so from the start.

    Attributes:
        size: The most samples to be kept.
        seen: The number of samples that have passed.
        numbers: The number in the stream of the sample in each slot: (kept,), int64.
        marks: The mark by which the sample in each slot is known again: (kept,), int64.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size: int = size
        self.seen: int = 0
        self.numbers: Tensor = torch.empty(0, dtype=torch.int64, device="cpu")
        self.marks: Tensor = self.numbers.clone()
        self._priorities = torch.empty(0, dtype=torch.float64, device="cpu")
        self._generator = random_stream(seed)
        self._admitted: weakref.WeakSet[Admitted] = weakref.WeakSet()
        # The numbers of samples, and their marks, which a device has and nobody has read yet.
        self._marked: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode(False)  # what is made in that mode could not be changed outside of it
    def admit(self, n: int) -> Admitted:
        """Decides which of the next ``n`` samples are kept."""
        kept = len(self.numbers)
        drawn = torch.rand(n, generator=self._generator, dtype=torch.float64, device="cpu")
        priorities = torch.cat([self._priorities, drawn])
        chosen = _least(priorities, self.size)
        indices = chosen[kept:].nonzero().squeeze(1)
        freed = (~chosen[:kept]).nonzero().squeeze(1)
        new = torch.arange(kept, kept + len(indices) - len(freed), device="cpu")
        slots = torch.cat([freed, new])
        added = Admitted(n, indices, slots, self.seen + indices, self.size)
        room = torch.zeros(len(indices) - len(freed), device="cpu")
        # All is made before anything is taken over: where memory is short, nothing changes.
        numbers = torch.cat([self.numbers, room.to(torch.int64)])
        marks = torch.cat([self.marks, room.to(torch.int64)])
        priorities = torch.cat([self._priorities, room.to(torch.float64)])
        numbers[slots], priorities[slots] = added.numbers, drawn[indices]
        marks[slots] = UNKNOWN
        self.numbers, self.marks, self._priorities = numbers, marks, priorities
        self.seen += n
        for earlier in self._admitted:  # in passes that are not over
            earlier.slots[torch.isin(earlier.slots, slots)] = -1
        self._admitted.add(added)
        return added

    @torch.inference_mode(False)
    def mark(self, admitted: Admitted, marks: Tensor) -> None:
        """Notes the marks (m,) of the samples that were just admitted."""
        if is_here(marks):
            self.marks[admitted.slots] = marks
            return
        self._marked.append((admitted.numbers, marks))
        if sum(len(numbers) for numbers, _ in self._marked) > _MOST_UNREAD * self.size:
            # Most of them are of samples that are no longer kept.
            numbers = torch.cat([numbers for numbers, _ in self._marked])
            there = torch.isin(numbers, self.numbers).nonzero().squeeze(1)
            unread = torch.cat([send(some, marks.device) for _, some in self._marked])
            kept = unread.index_select(0, send(there, unread.device))
            self._marked = [(numbers[there], kept)]

    @property
    def unread(self) -> list[Tensor]:
        """The marks that are on a device and were not read yet."""
        return [marks for _, marks in self._marked]

    @torch.inference_mode(False)
    def take(self, read: Sequence[Tensor]) -> None:
        """Takes what :attr:`unread` was, read by the host."""
        if not read:
            return
        slots = {number: slot for slot, number in enumerate(self.numbers.tolist())}
        for (numbers, _), marks in zip(self._marked, read, strict=True):
            for number, mark in zip(numbers.tolist(), marks.tolist(), strict=True):
                if number in slots:
                    self.marks[slots[number]] = mark
        self._marked = []

    def still(self, admitted: Admitted) -> Admitted:
        """Those of the admitted samples that are still kept."""
        there = admitted.slots >= 0
        if bool(there.all()):
            return admitted
        left = Admitted(
            admitted.n,
            admitted.indices[there],
            admitted.slots[there],
            admitted.numbers[there],
            admitted.size,
        )
        self._admitted.add(left)
        return left

    def shrink(self, size: int) -> Tensor:
        """Keeps at most ``size`` samples from now on, and returns the slots that remain."""
        self.size = min(self.size, size)
        remain = _least(self._priorities, self.size).nonzero().squeeze(1)
        moved = torch.full((len(self.numbers) + 1,), -1, device="cpu")  # the last is for -1
        moved[remain] = torch.arange(len(remain), device="cpu")
        for admitted in self._admitted:  # in passes that are not over
            admitted.slots = moved[admitted.slots]
            admitted.size = self.size
        self.numbers, self._priorities = self.numbers[remain], self._priorities[remain]
        self.marks = self.marks[remain]
        return remain

    def merge(self, other: Reservoir) -> Merging:
        """Takes in the samples that another stream's reservoir keeps."""
        mine, seen = len(self.numbers), self.seen
        self.size = min(self.size, other.size)
        priorities = torch.cat([self._priorities, other._priorities])
        remain = _least(priorities, self.size).nonzero().squeeze(1)
        self.numbers = torch.cat([self.numbers, other.numbers + self.seen])[remain]
        self.marks = torch.cat([self.marks, other.marks])[remain]
        self._priorities = priorities[remain]
        self.seen += other.seen
        return Merging(remain[remain < mine], remain[remain >= mine] - mine, seen)

    @property
    def priorities(self) -> Tensor:
        """The priority of the sample in each slot: (kept,), float64, from 0 on."""
        return self._priorities

    @classmethod
    def of(
        cls, size: int, seen: int, numbers: Tensor, marks: Tensor, priorities: Tensor
    ) -> Reservoir:
        """A reservoir that keeps these samples; the bits of the priorities are given as int64."""
        reservoir = cls(size, 0)
        reservoir.seen, reservoir.numbers, reservoir.marks = seen, numbers, marks
        reservoir._priorities = priorities.contiguous().view(torch.float64)
        return reservoir

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state as tensors and numbers."""
        return {
            "size": self.size,
            "seen": self.seen,
            "numbers": self.numbers.clone(),
            "marks": self.marks.clone(),
            "priorities": self._priorities.clone(),
            "generator": self._generator.get_state(),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Reservoir:
        """Makes the reservoir that :meth:`state_dict` describes."""
        reservoir = cls(count_of(state["size"]), 0)
        reservoir.seen = count_of(state["seen"])
        kept = min(len(state["numbers"]), reservoir.size, reservoir.seen)
        reservoir.numbers = counts_of(state["numbers"], kept).clone()
        reservoir.marks = numbers_of(state["marks"], kept).clone()
        reservoir._priorities = priorities_of(state["priorities"], kept).clone()
        reservoir._generator.set_state(state["generator"])
        return reservoir


def random_stream(seed: int) -> torch.Generator:
    """A generator of our own, which gives different numbers in each process of a training."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if distributed else 0
    # The generator heeds 32 bits of a seed; an odd multiplier keeps ranks apart in them.
    return torch.Generator().manual_seed((seed + 0x9E3779B1 * rank) % (1 << 32))


def _least(priorities: Tensor, size: int) -> Tensor:
    """Which priorities (n,) are among the ``size`` least: (n,), bool."""
    chosen = torch.ones(len(priorities), dtype=torch.bool, device="cpu")
    if len(priorities) > size:
        chosen[priorities.topk(len(priorities) - size).indices] = False
    return chosen
