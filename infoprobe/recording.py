"""What a tap catches, folded into one state for each layer, direction, call and measure."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from infoprobe.binning import Counts
from infoprobe.estimators import Histogram
from infoprobe.measures import Measure, Role
from infoprobe.taps.freia import Direction
from infoprobe.taps.module import Layer


class Visit(NamedTuple):
    """One of the calls of a layer within a pass."""

    layer: Layer
    direction: Direction
    call: int


@dataclass
class State:
    """What one measure has seen at one visit.

    Attributes:
        n: Samples: entries along the first axis of the output.
        values: Scalars in the output.
        summaries: The counts of each role's tensors.
        left_out: How many calls could not be measured.
        why_left_out: What was wrong with the first of them.
        entrances: Parts of the model by which passes entered instead of through the model.
    """

    n: int = 0
    values: int = 0
    summaries: dict[Role, Counts] = field(default_factory=dict)
    left_out: int = 0
    why_left_out: str = ""
    entrances: set[str] = field(default_factory=set)

    def fold(self, outputs: list[Tensor], summaries: Mapping[Role, Counts]) -> None:
        """Adds one call."""
        self.n += outputs[0].size(0) if outputs[0].dim() else 1
        self.values += sum(tensor.numel() for tensor in outputs)
        for role, counts in summaries.items():
            seen = self.summaries.get(role)
            self.summaries[role] = counts if seen is None else seen + counts

    @property
    def width(self) -> float | None:
        """The values of one sample; a mean where samples differ."""
        if not self.n:
            return None
        return self.values / self.n if self.values % self.n else self.values // self.n


class _Problem(NamedTuple):
    """Why a tensor could not be summarised."""

    role: Role
    message: str


class _Seen(NamedTuple):
    """The counts of a tensor that may pass by again, and how to tell that it is unchanged."""

    tensor: weakref.ref[Tensor]
    version: int
    counts: Counts


# By estimator without its pseudo-count: what is counted once serves all measures.
_Summaries = dict[Histogram, Counts | _Problem]


class Recorder:
    """The sink of a tap: summarises each tensor once and folds the summaries into states.

    Attributes:
        states: For each visit, the state of each measure.
        passes: How many passes have begun.
        paused: Whether to ignore what passes by.
    """

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._counter = {measure: measure.estimator.uncorrected for measure in measures}
        self._roles: dict[Histogram, set[Role]] = {}
        for measure, counter in self._counter.items():
            self._roles.setdefault(counter, set()).update(measure.roles)
        self._input: _Summaries = {}
        self._entrance: str | None = None
        self._seen: dict[tuple[int, Histogram], _Seen] = {}
        self.paused = False
        self.reset()

    def reset(self) -> None:
        """Forgets all states."""
        self.states: dict[Visit, dict[Measure, State]] = {}
        self.passes = 0

    def start(self, inputs: list[Tensor], entrance: str | None) -> None:
        """Counts the model's input."""
        self._seen.clear()
        self._input = {}
        self._entrance = entrance
        if not self.paused:
            self.passes += 1
            self._input = self._summarise("input", inputs)

    def enter(self, inputs: list[Tensor]) -> _Summaries:
        """Counts the layer's input, which the layer may overwrite."""
        return {} if self.paused else self._summarise("previous", inputs)

    def exit(
        self,
        layer: Layer,
        direction: Direction,
        call: int,
        entered: _Summaries,
        outputs: list[Tensor],
    ) -> None:
        """Counts the layer's output and folds all counts into the visit's states."""
        if self.paused:
            return
        visit = Visit(layer, direction, call)
        states = self.states.setdefault(visit, {measure: State() for measure in self._counter})
        by_role: dict[Role, _Summaries] = {
            # A layer may change a tensor behind our back and return it; a graph's end does not.
            "output": self._summarise("output", outputs, afresh=layer.end is None),
            "previous": entered,
            "input": self._input,
        }
        for measure, state in states.items():
            counter = self._counter[measure]
            found = {role: by_role[role].get(counter) for role in measure.roles}
            problems = [x for x in found.values() if isinstance(x, _Problem)]
            summaries = {role: x for role, x in found.items() if isinstance(x, Counts)}
            if problems:
                self._leave_out(state, visit, problems[0])
            elif len(summaries) == len(found):  # else the pass began while the probe was paused
                state.fold(outputs, summaries)
                if self._entrance is not None:
                    state.entrances.add(self._entrance)

    def _leave_out(self, state: State, visit: Visit, problem: _Problem) -> None:
        # A measure must not stop somebody's training: it warns once a visit and goes on.
        state.left_out += 1
        if state.left_out == 1:
            state.why_left_out = f"in pass {self.passes}, {problem.role}: {problem.message}"
            if sum(other.left_out > 0 for other in self.states[visit].values()) == 1:
                warnings.warn(
                    f"layer {visit.layer.name!r} ({visit.direction}): a call is left out of its "
                    f"measures, {state.why_left_out}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _summarise(self, role: Role, tensors: list[Tensor], afresh: bool = False) -> _Summaries:
        """Counts of some tensors together, for every estimator that needs this role."""
        count = self._count if afresh else self._count_once
        summaries: _Summaries = {}
        for estimator, roles in self._roles.items():
            if role not in roles:
                continue
            try:
                counts = [count(estimator, tensor) for tensor in tensors]
            except Exception as error:  # reported on the row, not raised in the user's forward
                summaries[estimator] = _Problem(role, str(error).removeprefix("x: "))
                continue
            if counts:
                summaries[estimator] = sum(counts[1:], counts[0])
            else:
                summaries[estimator] = _Problem(role, "there is no tensor.")
        return summaries

    def _count_once(self, estimator: Histogram, tensor: Tensor) -> Counts:
        """The counts of a tensor, at hand if it left another layer in this pass as it is now.

        In-place operations raise a tensor's version. Inference tensors have none and are counted
        again; a change through ``tensor.data`` between two layers goes unnoticed.
        """
        seen = self._seen.get((id(tensor), estimator))
        if (
            seen is not None
            and seen.tensor() is tensor
            and not tensor.is_inference()
            and seen.version == tensor._version
        ):
            return seen.counts
        return self._count(estimator, tensor)

    def _count(self, estimator: Histogram, tensor: Tensor) -> Counts:
        counts = estimator.count(tensor).to("cpu")
        if not tensor.is_inference():
            seen = _Seen(weakref.ref(tensor), tensor._version, counts)
            self._seen[id(tensor), estimator] = seen
        return counts
