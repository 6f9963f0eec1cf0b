"""Which samples of several processes' reservoirs remain when they become one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.probing.kept.reservoir import Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, most, total

# Priorities are found digit by digit; in so many bits each.
_DIGIT = 8
_DIGITS = 64 // _DIGIT


class Survivors(NamedTuple):
    """The samples that remain of this process's reservoir, and where they go.

    Attributes:
        slots: Their slots in this process's reservoir, (m,), int64, in ascending order.
        start: The slot of the first of them in the common reservoir; the others follow.
        number: How many samples of all processes remain.
        seen: How many samples the processes before this one had seen.
    """

    slots: Tensor
    start: int
    number: int
    seen: int

    @property
    def places(self) -> slice:
        """The slots in the common reservoir that have this process's samples."""
        return slice(self.start, self.start + len(self.slots))

    @property
    def others(self) -> Tensor:
        """Which slots of the common reservoir have samples of other processes: (number,), bool."""
        found = torch.ones(self.number, dtype=torch.bool, device="cpu")
        found[self.places] = False
        return found


def pooled(own: Reservoir, exchange: Exchange) -> Answered[tuple[Reservoir, Reservoir, Survivors]]:
    """The reservoir of all processes, that of all but this one, and which samples remain.

    The samples with the least priorities remain, as when reservoirs are merged. The processes
    agree on the largest priority that remains, and each then knows which of its samples do: what
    is exchanged depends on the size of a reservoir, not on the number of processes.
    """
    size = -int((yield most(torch.tensor([-own.size], device="cpu"))))
    bits = own.priorities.view(torch.int64)  # from 0 on, they are in the order of the numbers
    # Of each process: how many samples it has seen, and how many it keeps.
    numbers = yield total(_of_one(exchange, own.seen, len(bits)))
    seen, kept = numbers[:, 0], numbers[:, 1]
    remains = torch.ones(len(bits), dtype=torch.bool, device="cpu")
    if int(kept.sum()) > size:
        remains = yield from _least(bits, size, exchange)
    staying = (yield total(_of_one(exchange, int(remains.sum()))))[:, 0]
    (slots,) = remains.nonzero(as_tuple=True)
    survivors = Survivors(
        slots=slots,
        start=int(staying[: exchange.rank].sum()),
        number=int(staying.sum()),
        seen=int(seen[: exchange.rank].sum()),
    )
    common = torch.zeros((3, survivors.number), dtype=torch.int64, device="cpu")
    mine = torch.stack([own.numbers + survivors.seen, own.marks, bits])
    common[:, survivors.places] = mine[:, slots]
    everything = yield total(common)
    everyones = int(seen.sum())
    whole = Reservoir.of(size, everyones, *everything.unbind())
    rest = Reservoir.of(size, everyones - own.seen, *everything[:, survivors.others].unbind())
    return whole, rest, survivors


def _least(bits: Tensor, size: int, exchange: Exchange) -> Answered[Tensor]:
    """Which of this process's numbers (n,) are among the ``size`` least of all processes."""
    prefix, missing = 0, size  # of all numbers that begin with these digits, so many are wanted
    for digit in reversed(range(_DIGITS)):
        shift = digit * _DIGIT
        fits = (bits >> (shift + _DIGIT - 1) >> 1) == prefix  # no shift may be by 64
        digits = (bits[fits] >> shift) & ((1 << _DIGIT) - 1)
        counts = yield total(torch.bincount(digits, minlength=1 << _DIGIT))
        up_to = counts.cumsum(0)
        here = int((up_to < missing).sum())
        missing -= int(up_to[here] - counts[here])
        prefix = prefix << _DIGIT | here
    # Equal priorities remain in the order of the processes.
    equal = bits == prefix
    ties = (yield total(_of_one(exchange, int(equal.sum()))))[:, 0]
    mine = missing - int(ties[: exchange.rank].sum())
    return (bits < prefix) | (equal & (equal.cumsum(0) <= mine))


def _of_one(exchange: Exchange, *numbers: int) -> Tensor:
    """This process's numbers in its row of a table of all processes, which is zero elsewhere."""
    table = torch.zeros((exchange.world, len(numbers)), dtype=torch.int64, device="cpu")
    table[exchange.rank] = torch.tensor(numbers, device="cpu")
    return table
