"""What a probe has measured: additive states, from which rows are drafted (``drafting.py``)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from infoprobe import checks, devices
from infoprobe.directions import OPPOSITE, Direction
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.probing.choices import Turns
from infoprobe.probing.circumstances import Circumstances, Facts
from infoprobe.probing.kept.base import Kept, Problem
from infoprobe.probing.kept.counts import KeptCounts
from infoprobe.probing.kept.damage import count_of, text_of
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.kept.samples import KeptSamples
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.measures.base import Measure, Need
from infoprobe.probing.occurrences import Occurrences
from infoprobe.probing.roles import described
from infoprobe.rows import LayerCall

_VERSION = 5


class Record:
    """All that was measured over some passes.

    Attributes:
        measures: The measures to compute.
        needs_of: What each of them needs.
        needs: What is kept for them, each need once.
        calls: What was kept for each need, call by call in the order of first appearance.
        reservoirs: For each way of keeping samples, which ones are kept.
        circumstances: In which circumstances each call happened.
        passes: The number of passes.
        turns: Which groups get the next samples.
        seed: The seed of all random choices.
        opening: The marks of the first samples of the first pass, if they are known: (m,), int64.
        doubts: Findings on all rows.
        occurrences: How often samples came; ``None`` if no error depends on it.
    """

    def __init__(self, measures: Sequence[Measure], seed: int) -> None:
        self.measures: list[Measure] = list(measures)
        self.needs_of = [measure.required_needs() for measure in self.measures]
        self.needs: list[Need] = list(
            dict.fromkeys(need for needs in self.needs_of for need in needs)
        )
        self.calls: dict[LayerCall, dict[Need, Kept[Any]]] = {}
        self.circumstances: dict[LayerCall, Circumstances] = {}
        self._noted: dict[LayerCall, Facts] = {}
        self.reservoirs: dict[Hashable, Reservoir] = {
            need.reduction: Reservoir(need.reduction.samples, seed)
            for need in self.needs
            if isinstance(need.reduction, Sampling)
        }
        self.passes: int = 0
        self.turns: Turns = Turns()
        self.seed = seed
        self.opening: Tensor | None = None
        self.doubts: list[str] = []
        independent = any(need.reduction.takes_for_independent for need in self.needs)
        self.occurrences: Occurrences | None = Occurrences() if independent else None

    def at(self, call: LayerCall) -> dict[Need, Kept[Any]]:
        """What was kept at a call, for each of the needs."""
        kept = self.calls.get(call)
        if kept is None:
            kept = self.calls[call] = {need: need.reduction.empty() for need in self.needs}
        return kept

    def note(self, call: LayerCall, facts: Facts) -> None:
        """Notes what is known of a call, which is mostly what was known of it before."""
        if self._noted.get(call) != facts:
            self._noted[call] = facts
            self._add_circumstances(call, facts.circumstances)

    def _add_circumstances(self, call: LayerCall, circumstances: Circumstances) -> None:
        if call in self.circumstances:
            self.circumstances[call].add(circumstances)
        else:
            self.circumstances[call] = circumstances

    def _samples(self, reduction: Hashable) -> Iterator[KeptSamples]:
        for kept in list(self.calls.values()):  # other threads may add to them
            for need, of_need in kept.items():
                if isinstance(of_need, KeptSamples) and need.reduction == reduction:
                    yield of_need

    def shrink(self, memory: int, least: Mapping[Hashable, int] | None = None) -> None:
        """Shrinks the reservoirs so that all samples fit into ``memory`` bytes.

        All reservoirs get the same size, unless they need less.

        Arguments:
            memory: The number of bytes.
            least: How many bytes each sample of a reservoir will take at least.
        """
        widths = {
            reduction: sum(x.bytes_per_sample for x in self._samples(reduction))
            for reduction in self.reservoirs
        }
        for reduction, width in (least or {}).items():
            widths[reduction] = max(widths[reduction], width)
        if sum(widths[r] * reservoir.size for r, reservoir in self.reservoirs.items()) <= memory:
            return
        size = memory // sum(widths.values())
        for reduction, reservoir in self.reservoirs.items():
            if size < reservoir.size:
                slots = reservoir.shrink(size)
                for samples in self._samples(reduction):
                    samples.keep(slots)

    def merge(self, other: Record) -> None:
        """Takes in what another record has of other data.

        Samples of another shape are left out, as they are when they come in the same record.

        Raises:
            ValueError: They have projected samples in different ways.
        """
        self.require_same_projection(other)
        merged: dict[Hashable, Merging] = {}
        for reduction, reservoir in self.reservoirs.items():
            merged[reduction] = reservoir.merge(other.reservoirs[reduction])
            for samples in self._samples(reduction):
                samples.keep(merged[reduction].remaining)
        for call, theirs in other.calls.items():
            for need, mine in self.at(call).items():
                mine.merge(theirs[need], merged.get(need.reduction))
        for call, circumstances in other.circumstances.items():
            self._add_circumstances(call, copy.deepcopy(circumstances))
        self.passes += other.passes
        self.turns.merge(other.turns)
        self.doubts += other.doubts
        if self.occurrences is not None and other.occurrences is not None:
            self.occurrences = self.occurrences + other.occurrences

    @property
    def projects(self) -> bool:
        """Whether samples are projected, in a way that depends on the seed."""
        return any(isinstance(r, Sampling) and r.project for r in self.reservoirs)

    @property
    def extent(self) -> tuple[int, ...]:
        """Numbers of which one at least grows with all that is measured."""
        kept = [x for at_call in list(self.calls.values()) for x in at_call.values()]
        return (
            self.passes,
            len(kept),
            sum(x.n for x in kept),
            sum(x.left_out for x in kept),
            sum(x.inapplicable for x in kept),
        )

    def require_same_projection(self, other: Record) -> None:
        """Raises a ValueError if both have projected samples, and in different ways."""
        if self.seed != other.seed and self.projects:
            raise ArgumentValueError(
                "other",
                f"expected samples projected with seed={self.seed}, got seed={other.seed}. "
                "Give both probes the same seed.",
            )

    def settle(self) -> Iterator[tuple[LayerCall, Kept[Any], str]]:
        """Reads all that devices know, with one copy from each of them.

        Yields:
            Each call and what was kept of it where something was left out for the first time, and
            the kind of the problem.
        """
        kept = [
            (call, need, of_need)
            for call, at_call in list(self.calls.items())
            for need, of_need in at_call.items()
        ]
        unread = [of_need.unread for _, _, of_need in kept]
        marks = [reservoir.unread for reservoir in self.reservoirs.values()]
        times = [] if self.occurrences is None else self.occurrences.unread
        everything = [*unread, *marks, times]
        parts = iter(devices.read([x for tensors in everything for x in tensors]))
        for (call, need, of_need), tensors in zip(kept, unread, strict=True):
            refused = of_need.take(list(itertools.islice(parts, len(tensors))))
            if refused is not None:
                new = not of_need.left_out
                reason = need.reduction.why_refused(refused.low, refused.high)
                where = f"In pass {refused.number + 1}, {described(need.role)}"
                of_need.leave_out(Problem(reason), where, refused.calls)
                if new:
                    yield call, of_need, Problem(reason).kind
        for reservoir, tensors in zip(self.reservoirs.values(), marks, strict=True):
            reservoir.take(list(itertools.islice(parts, len(tensors))))
        if self.occurrences is not None:
            self.occurrences.take(list(parts))

    def counts(self) -> dict[tuple[str, Direction, int], Counts]:
        """The counts of each call's output, under the first bins that were counted in."""
        found: dict[tuple[str, Direction, int], Counts] = {}
        for call, kept in list(self.calls.items()):
            for need, of_need in kept.items():
                if need.role == "output" and isinstance(of_need, KeptCounts) and of_need.counts:
                    found[call.layer, call.direction, call.call] = of_need.counts
                    break
        return found

    # To and from files and other processes.

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state as tensors, numbers and strings in lists and dictionaries."""
        return {
            "version": _VERSION,
            "measures": [measure.identity for measure in self.measures],
            "seed": self.seed,
            "passes": self.passes,
            "turns": asdict(self.turns),
            "occurrences": None if self.occurrences is None else self.occurrences.state_dict(),
            "reservoirs": [reservoir.state_dict() for reservoir in self.reservoirs.values()],
            "calls": [
                {
                    **call._asdict(),
                    "circumstances": self.circumstances.get(call, Circumstances()).state_dict(),
                    "kept": [kept[need].state_dict() for need in self.needs],
                }
                for call, kept in list(self.calls.items())
            ],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], measures: Sequence[Measure]) -> Record:
        """Makes the record that :meth:`state_dict` describes.

        Raises:
            ValueError: It is of other measures, or of another version.
        """
        _check_state(state, measures)
        record = cls(measures, state["seed"])
        record.passes = count_of(state["passes"])
        record.turns = Turns(**state["turns"])
        if record.occurrences is not None:
            record.occurrences = Occurrences.from_state_dict(state["occurrences"])
        for reduction, reservoir in zip(record.reservoirs, state["reservoirs"], strict=True):
            record.reservoirs[reduction] = Reservoir.from_state_dict(reservoir)
        for call in state["calls"]:
            layer_call = LayerCall(*(call[key] for key in LayerCall._fields))
            text_of(layer_call.layer), text_of(layer_call.type), count_of(layer_call.call)
            checks.require_one_of(layer_call.direction, OPPOSITE, "state")
            circumstances = Circumstances.from_state_dict(call["circumstances"])
            record._add_circumstances(layer_call, circumstances)
            kept = record.at(layer_call)
            for need, part in zip(record.needs, call["kept"], strict=True):
                kept[need].load_state_dict(part)
        return record


def _check_state(state: Mapping[str, Any], measures: Sequence[Measure]) -> None:
    version = state.get("version") if isinstance(state, Mapping) else None
    if type(version) is not int or version != _VERSION:
        given = type(state).__name__ if version is None else f"version {checks.shown(version)}"
        raise ArgumentValueError(
            "state",
            f"expected what Probe.state_dict() gave, of version {_VERSION}, got {given}. "
            "Measure again with this version of infoprobe: others keep something else.",
        )
    if state["measures"] != [measure.identity for measure in measures]:
        raise ArgumentValueError(
            "state",
            f"expected the measures of this probe, {', '.join(map(repr, measures))}; got "
            f"{', '.join(map(str, state['measures']))}. Make the probe with the same measures.",
        )
