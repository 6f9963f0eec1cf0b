"""What a probe has measured: additive states, from which the rows of a report are computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from infoprobe.directions import Direction
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators import Histogram
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.probing.measures import Keeping, Kept, Measure, Role, Sampling
from infoprobe.probing.moments import Moments
from infoprobe.probing.reservoir import Reservoir, Rows, together
from infoprobe.rows import Row
from infoprobe.taps.sink import TAP, Place

_VERSION = 1


class Visit(NamedTuple):
    """One of the calls of a layer within a pass."""

    place: Place
    direction: Direction
    call: int


@dataclass
class Store:
    """What was kept, in one way, of the tensors that had one role at one visit.

    Attributes:
        kept: The counts or the rows.
        n: Samples: entries along the first axis.
        values: Scalars.
        counted: Scalars that were counted; fewer where random ones stand for all.
        left_out: How many calls could not be measured.
        why_left_out: What was wrong with the first of them.
        entrances: Parts of the model by which passes entered instead of through the model.
        doubts: Why not to believe what the layer says of itself.
    """

    kept: Counts | Rows | Moments | None = None
    n: int = 0
    values: int = 0
    counted: int = 0
    left_out: int = 0
    why_left_out: str = ""
    entrances: set[str] = field(default_factory=set)
    doubts: str = ""

    def merge(self, other: Store) -> None:
        """Adds what another store has; but for rows, which a reservoir decides on."""
        self.n += other.n
        self.values += other.values
        self.counted += other.counted
        self.left_out += other.left_out
        self.why_left_out = self.why_left_out or other.why_left_out
        self.entrances |= other.entrances
        self.doubts = self.doubts or other.doubts
        if isinstance(other.kept, (Counts, Moments)):
            self.kept = other.kept if self.kept is None else self.kept + other.kept  # type: ignore

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {
            "kept": None
            if self.kept is None
            else {"type": type(self.kept).__name__, "state": self.kept.state_dict()},
            "n": self.n,
            "values": self.values,
            "counted": self.counted,
            "left_out": self.left_out,
            "why_left_out": self.why_left_out,
            "entrances": sorted(self.entrances),
            "doubts": self.doubts,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Store:
        """What :meth:`state_dict` describes."""
        kept = state["kept"]
        if kept is not None:
            (kind,) = (cls for cls in _KINDS if cls.__name__ == kept["type"])
            kept = kind.from_state_dict(kept["state"])
        return cls(**{**state, "kept": kept, "entrances": set(state["entrances"])})


_KINDS: tuple[Any, ...] = (Counts, Rows, Moments)


class Record:
    """All that was measured over some passes.

    Attributes:
        measures: What to compute.
        ways: In which ways something is kept for them.
        needs: In which of these ways, by its number, which role's tensors are kept.
        visits: What was kept for each of the needs, visit by visit in the order of their first
            appearance.
        reservoirs: For each way of keeping rows, which samples are kept.
        passes: How many passes there were.
        seed: Of all random choices.
    """

    def __init__(self, measures: Sequence[Measure], seed: int) -> None:
        self.measures = list(measures)
        self.ways = list(dict.fromkeys(measure.keeping for measure in measures))
        self.needs = list(
            dict.fromkeys(
                (self.ways.index(measure.keeping), role)
                for measure in measures
                for role in measure.roles
            )
        )
        self.visits: dict[Visit, list[Store]] = {}
        self.reservoirs = {
            way: Reservoir(way.samples, seed) for way in self.ways if isinstance(way, Sampling)
        }
        self.passes = 0
        self.seed = seed

    def stores(self, visit: Visit) -> list[Store]:
        """What was kept at a visit, for each of the needs."""
        stores = self.visits.get(visit)
        if stores is None:
            stores = self.visits[visit] = [Store() for _ in self.needs]
        return stores

    def _rows(self, keeping: Keeping) -> Iterator[Rows]:
        for stores in list(self.visits.values()):  # other threads may add to them
            for (way, _), store in zip(self.needs, stores, strict=True):
                if self.ways[way] == keeping and isinstance(store.kept, Rows):
                    yield store.kept

    def shrink(self, memory: int) -> None:
        """Keeps so few rows, from now on, that they take at most so many bytes.

        All reservoirs get the same size, unless they need less.
        """
        widths = {
            keeping: sum(rows.row_bytes for rows in self._rows(keeping))
            for keeping in self.reservoirs
        }
        if sum(widths[k] * reservoir.size for k, reservoir in self.reservoirs.items()) <= memory:
            return
        size = memory // sum(widths.values())
        for keeping, reservoir in self.reservoirs.items():
            if size < reservoir.size:
                slots = reservoir.shrink(size)
                for rows in self._rows(keeping):
                    rows.keep(slots)

    def merge(self, other: Record) -> None:
        """Takes in what another record has of other data.

        Rows of another shape are left out, as they are when they come in the same record.

        Raises:
            ValueError: They have projected rows in different ways.
        """
        if self.seed != other.seed and any(keeping.project for keeping in self.reservoirs):
            raise ArgumentValueError(
                "other",
                f"expected rows projected with seed={self.seed}, got seed={other.seed}. "
                "Give both probes the same seed.",
            )
        moves = {}
        for sampling, reservoir in self.reservoirs.items():
            seen = reservoir.seen
            remaining, added = reservoir.merge(other.reservoirs[sampling])
            moves[sampling] = (len(remaining), added, seen)
            for rows in self._rows(sampling):
                rows.keep(remaining)
        for visit, stores in other.visits.items():
            own = self.stores(visit)
            for (way, _), mine, theirs in zip(self.needs, own, stores, strict=True):
                keeping = self.ways[way]
                mine.merge(theirs)
                if isinstance(theirs.kept, Rows) and isinstance(keeping, Sampling):
                    if not isinstance(mine.kept, Rows):
                        mine.kept = Rows.none_like(theirs.kept.values)
                    if mine.kept.values.shape[1:] == theirs.kept.values.shape[1:]:
                        mine.kept.merge(theirs.kept, *moves[keeping])
                    else:
                        mine.left_out += 1
                        mine.why_left_out = mine.why_left_out or (
                            f"in what was merged: expected rows of shape "
                            f"{tuple(mine.kept.values.shape[1:])}, got "
                            f"{tuple(theirs.kept.values.shape[1:])}."
                        )
        self.passes += other.passes

    def counts(self) -> dict[tuple[str, Direction, int], Counts]:
        """The counts of each visit's output, under the first bins that were counted in."""
        return {
            (visit.place.name, visit.direction, visit.call): counted[0]
            for visit, stores in list(self.visits.items())
            if (
                counted := [
                    store.kept
                    for (_, role), store in zip(self.needs, stores, strict=True)
                    if role == "output" and isinstance(store.kept, Counts)
                ]
            )
        }

    # From what was kept to the rows of a report.

    def rows(self, step: int | None = None) -> list[Row]:
        """One row a layer, direction, call and measure; a row's ``step`` is what is given."""
        return [
            self._row(order, visit, measure, stores, step)
            for order, (visit, stores) in enumerate(list(self.visits.items()))
            for measure in self.measures
        ]

    def _row(
        self, order: int, visit: Visit, measure: Measure, stores: list[Store], step: int | None
    ) -> Row:
        way = self.ways.index(measure.keeping)
        used = {role: stores[self.needs.index((way, role))] for role in measure.roles}
        output = used[measure.roles[-1]]
        value: float | None = None
        stderr: float | None = None
        findings: list[str] = []
        n = output.n
        if all(store.kept is not None for store in used.values()):
            kept = self._kept(measure, used)
            if isinstance(kept[0], Tensor):
                n = len(kept[0])
            try:
                value, findings, stderr = measure.compute(*kept)
            except Exception as error:
                # One layer without a value must not hide the others, nor stop a training.
                expected = isinstance(error, (TypeError, ValueError))
                findings = [str(error) if expected else f"{type(error).__name__}: {error}"]
        findings = [*findings, *self._remarks(visit, measure, used, n)]
        return {
            "layer": visit.place.name,
            "type": visit.place.type,
            "direction": visit.direction,
            "call": visit.call,
            "order": order,
            "step": step,
            "measure": measure.name,
            "estimator": repr(measure.estimator),
            "reference": measure.reference,
            "value": value,
            "stderr": stderr,
            "unit": "nats",
            "kind": measure.kind,
            "n": n,
            "d": _width(output),
            "findings": findings,
        }

    def _kept(self, measure: Measure, used: Mapping[Role, Store]) -> list[Kept]:
        """What the measure's estimator takes, in the order of its roles."""
        keeping = measure.keeping
        if not isinstance(keeping, Sampling):
            return [x.kept for x in used.values() if isinstance(x.kept, (Counts, Moments))]
        rows = [store.kept for store in used.values() if isinstance(store.kept, Rows)]
        return list(together(self.reservoirs[keeping], rows))

    def _remarks(
        self, visit: Visit, measure: Measure, used: Mapping[Role, Store], n: int
    ) -> Iterator[str]:
        """What a reader should know of the data."""
        keeping, output = measure.keeping, used[measure.roles[-1]]
        if isinstance(keeping, Sampling):
            reservoir = self.reservoirs[keeping]
            if reservoir.seen > reservoir.size:
                limit = (
                    "samples is" if reservoir.size == keeping.samples else "memory had room for"
                )
                yield (
                    f"from {n:,} of {output.n:,} samples, drawn at random (seed {self.seed}), "
                    f"the same at every layer: {limit} {reservoir.size:,}."
                )
            elif n < output.n:
                yield f"from the {n:,} of {output.n:,} samples of which all that is needed came."
            wide = [
                f"the {role} ({_width(store):,g} dimensions)"
                for role, store in used.items()
                if keeping.project is not None and (_width(store) or 0) > keeping.project
            ]
            if wide:
                yield f"{' and '.join(wide)} projected onto {keeping.project} random directions."
        elif isinstance(keeping, Histogram) and output.counted < output.values:
            yield (
                f"from {output.counted:,} of {output.values:,} values, drawn at random in every "
                f"batch (seed {self.seed})."
            )
        if "input" in used and used["input"].entrances:
            yield (
                f"some passes entered by {', '.join(sorted(used['input'].entrances))} instead of "
                "the model: its input was the reference."
            )
        for role, store in used.items():
            if role == "previous" and visit.place.type == TAP:
                yield "a tap has no input of its own that it could be compared with."
            elif store.left_out:
                yield f"calls left out: {store.left_out}; {store.why_left_out}"
            elif store.doubts:
                yield f"{visit.place.type}: {store.doubts}"

    # To and from files and other processes.

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors, numbers and strings in lists and dictionaries."""
        return {
            "version": _VERSION,
            "measures": [repr(measure) for measure in self.measures],
            "seed": self.seed,
            "passes": self.passes,
            "reservoirs": [reservoir.state_dict() for reservoir in self.reservoirs.values()],
            "visits": [
                {
                    "layer": visit.place.name,
                    "type": visit.place.type,
                    "direction": visit.direction,
                    "call": visit.call,
                    "stores": [store.state_dict() for store in stores],
                }
                for visit, stores in list(self.visits.items())
            ],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], measures: Sequence[Measure]) -> Record:
        """What :meth:`state_dict` describes.

        Raises:
            ValueError: It is of other measures, or of another version.
        """
        _check_state(state, measures)
        record = cls(measures, state["seed"])
        record.passes = state["passes"]
        for keeping, reservoir in zip(record.reservoirs, state["reservoirs"], strict=True):
            record.reservoirs[keeping] = Reservoir.from_state_dict(reservoir)
        for visit in state["visits"]:
            place = Place(visit["layer"], visit["type"])
            record.visits[Visit(place, visit["direction"], visit["call"])] = [
                Store.from_state_dict(store) for store in visit["stores"]
            ]
        return record


def _check_state(state: Mapping[str, Any], measures: Sequence[Measure]) -> None:
    if not isinstance(state, Mapping) or state.get("version") != _VERSION:
        raise ArgumentValueError(
            "state",
            f"expected what Probe.state_dict() gave, of version {_VERSION}, got "
            f"{type(state).__name__}. Save it again with this version of infoprobe.",
        )
    expected = [repr(measure) for measure in measures]
    if state["measures"] != expected:
        raise ArgumentValueError(
            "state",
            f"expected the measures of this probe, {', '.join(expected)}; got "
            f"{', '.join(state['measures'])}. Make the probe with the same measures.",
        )


def _width(store: Store) -> float | None:
    """The values of one sample; a mean where samples differ."""
    if not store.n:
        return None
    return store.values / store.n if store.values % store.n else store.values // store.n
