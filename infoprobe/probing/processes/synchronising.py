"""What several processes have measured becomes one record, by a few reductions.

The processes agree on layers and bins first. Then counts are added up by an ``all_reduce`` on
common bins, and of the samples those that remain are put into their places by another one. So
what a process sends, receives and holds depends on the layers, not on the number of processes.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.errors import GROUPS
from infoprobe.probing.choices import Turns
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.occurrences import Occurrences
from infoprobe.probing.processes import survivors
from infoprobe.probing.processes.asking import Answered, side_by_side, total
from infoprobe.probing.processes.group import Group
from infoprobe.probing.processes.outlines import (
    Outline,
    joined,
    outline_of,
    signature,
    signature_of,
)
from infoprobe.probing.record import Record
from infoprobe.probing.shards import doubt_about
from infoprobe.probing.windows import Windows


@dataclass(frozen=True, eq=False)
class Together:
    """What the processes of a group had measured when they last told each other.

    Attributes:
        own: The record of this process, which may have grown since.
        extent: How far it went then.
        whole: What all processes had measured.
        rest: What all but this one had measured.
        twins: Two processes that began with the same samples; none if there are none.
    """

    own: Record
    extent: tuple[int, ...]
    whole: Record
    rest: Record
    twins: tuple[int, ...] = ()

    def now(self) -> Record:
        """What this process has measured until now, and the others until then."""
        if self.own.extent == self.extent:
            return self.whole
        merged = Record(self.own.measures, self.own.seed)
        merged.merge(self.rest)
        merged.merge(self.own)
        return merged


@torch.inference_mode(False)
@torch.no_grad()
def synchronised(own: Record, group: Group) -> Together:
    """What this process and the others of a group have measured.

    All processes get the same, as if their records had been merged one by one. Nothing changes
    here if it fails, since a process has died or has another probe.

    Raises:
        RuntimeError: A process does not answer, or cannot take part.
        ValueError: The processes have other measures, or have projected with other seeds.
    """
    extent = own.extent
    agreed = _agreed(own, group)
    reservoirs = side_by_side(group, [survivors.pooled(x, group) for x in own.reservoirs.values()])
    remaining = {
        reduction: found
        for reduction, (_, _, found) in zip(own.reservoirs, reservoirs, strict=True)
    }
    places = [(call, need) for call in agreed for need in own.needs]
    works: list[Answered[Any]] = [
        (own.calls[call][need] if call in own.calls else need.reduction.empty()).pooled(
            agreed[call][1][i % len(own.needs)], remaining.get(need.reduction), group
        )
        for i, (call, need) in enumerate(places)
    ]
    found = side_by_side(group, works)
    (numbers,) = side_by_side(group, [_numbers(own)])
    occurrences: list[Occurrences | None] = [None, None]
    if own.occurrences is not None:
        everyones = group.joined(own.occurrences, operator.add)
        occurrences = [everyones, everyones.without(own.occurrences)]
    (twins,) = side_by_side(group, [_twins(own, group)])
    records = []
    for i in range(2):
        record = Record(own.measures, own.seed)
        record.passes, record.turns = numbers[i]
        record.occurrences = occurrences[i]
        record.doubts = [str(doubt_about(*twins))] if twins else []
        record.circumstances = {
            call: Circumstances.from_state_dict(known.state_dict())
            for call, (known, _) in agreed.items()
        }
        for (call, need), kept in zip(places, found, strict=True):
            record.calls.setdefault(call, {})[need] = kept[i]
        for reduction, (*reservoir, _) in zip(own.reservoirs, reservoirs, strict=True):
            record.reservoirs[reduction] = reservoir[i]
        records.append(record)
    whole, rest = records
    return Together(own, extent, whole, rest, twins)


def synchronise_window(windows: Windows, group: Group) -> tuple[int, ...]:
    """Lets the last window that is over be reported for all processes of a group.

    Returns:
        Two processes that began it with the same samples; none if there are none.

    Raises:
        RuntimeError: A process does not answer, or cannot take part.
        ValueError: The processes have finished different windows, or as :func:`synchronised`.
    """
    step, record = windows.last or (-1, None)
    numbers = torch.tensor([step, -step, step not in windows.of_all], device="cpu")
    latest, earliest, news = group.most(numbers).tolist()
    if latest != -earliest:
        raise ArgumentValueError(
            "sync",
            "expected all processes to have finished the same window of track(...), but the last "
            f"windows began with passes {-earliest:,} to {latest:,} (-1: none is over). Call "
            "sync() after as many passes in each process.",
        )
    if record is None or not news:
        return ()
    together = synchronised(record, group)
    windows.replace_last(together.whole)
    return together.twins


def _agreed(own: Record, group: Group) -> Outline:
    """The outline of all processes, if their probes go together."""
    problem: Exception | None = None
    checked = [0, 0, 0]
    outline: Outline = {}
    try:
        outline = outline_of(own)
        seed = own.seed if own.projects else 0
        identities = [measure.identity for measure in own.measures]
        checked = [signature(identities), seed, signature_of(outline)]
    except Exception as error:  # raised once the others know, who would wait forever
        problem = error
    numbers = [int(problem is not None), *checked, *(-number for number in checked)]
    failed, *found = group.most(torch.tensor(numbers, device="cpu")).tolist()
    if problem is not None:
        raise problem
    if failed:
        raise RuntimeError("sync: a process cannot tell what it measures; its own error says why.")
    measures, seeds, outlines = (found[i] + found[i + len(checked)] for i in range(len(checked)))
    if measures:
        raise ArgumentValueError(
            "measures",
            "expected probes with the same measures in all processes, got others; process "
            f"{group.rank} has {own.measures}. Make all probes with the same measures.",
        )
    if seeds:
        raise ArgumentValueError(
            "seed",
            "expected samples that were projected with one seed in all processes, got seeds from "
            f"{-found[1 + len(checked)]} to {found[1]}; process {group.rank} has {own.seed}. "
            "Give all probes the same seed: each process chooses its samples for itself.",
        )
    return group.joined(outline, joined) if outlines else outline


def _twins(own: Record, group: Group) -> Answered[tuple[int, ...]]:
    """Two processes that began with the same samples, the first ones that did."""
    table = torch.zeros(group.world, dtype=torch.int64, device="cpu")
    if own.opening is not None:
        table[group.rank] = signature(own.opening.tolist()) + 1
    openings = (yield total(table)).tolist()
    for rank, opening in enumerate(openings):
        if opening and opening in openings[:rank]:
            return openings.index(opening), rank
    return ()


def _numbers(own: Record) -> Answered[list[tuple[int, Turns]]]:
    """The number of passes, and the turns of the groups, of all and of the other processes."""
    numbers = torch.tensor([own.passes, own.turns.samples, own.turns.next], device="cpu")
    everything = yield total(numbers)
    return [
        (passes, Turns(samples, turn % GROUPS))
        for passes, samples, turn in (everything.tolist(), (everything - numbers).tolist())
    ]
