"""What passes through a model, reduced while it passes by and folded into a record."""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentError, ArgumentValueError
from infoprobe.probing.additions import Addition, warn_of
from infoprobe.probing.choices import Choices, Pass
from infoprobe.probing.circumstances import Facts, hold_integers, random_state
from infoprobe.probing.kept.base import (
    Problem,
)
from infoprobe.probing.kept.damage import count_of
from infoprobe.probing.kept.reservoir import Admitted, random_stream
from infoprobe.probing.measures.base import Measure
from infoprobe.probing.occurrences import marks_of_samples
from infoprobe.probing.one_width import from_state, state_of
from infoprobe.probing.padding import Padding
from infoprobe.probing.plan import Plan
from infoprobe.probing.record import Record
from infoprobe.probing.reducing import reported
from infoprobe.probing.roles import Role, role_of
from infoprobe.probing.run import Entered, Named, Pieces, Returned, Run
from infoprobe.probing.selection import Tokens
from infoprobe.probing.shards import local_if_whole, opening_of
from infoprobe.probing.windows import Windows
from infoprobe.rows import LayerCall
from infoprobe.taps.arguments import Arguments
from infoprobe.taps.sink import Event
from infoprobe.torch_internals import asked_as_tensors, under_vmap, version

_NO_TARGET = Problem(
    "there is none. Call probe.target(y) before the forward pass; of a callback, set target=."
)


class Recorder:
    """The sink of the taps: reduces each tensor once and folds what results into a record.

    Attributes:
        measures: The measures to compute.
        record: What was measured; if steps are tracked, since the last window of them.
        passes: The number of passes, measured or not.
        paused: Whether the passes that begin are ignored.
        wants_log_determinants: Whether layers are to be asked for their log|det J|.
        wants_arguments: Whether events must have the arguments of the calls.
        generators: Generators of random numbers that the model has of its own.
    """

    def __init__(
        self,
        measures: Sequence[Measure],
        values_per_batch: int | None,
        memory: int,
        seed: int,
    ) -> None:
        self.measures: list[Measure] = list(measures)
        self._plan = Plan.of(measures, Record(measures, seed).needs)
        of_calls = self._plan.of_calls
        self.wants_log_determinants: bool = any(
            x.wants_log_determinants for x in of_calls.values()
        )
        self.wants_arguments: bool = bool(of_calls)
        self._choices = Choices(seed, values_per_batch)
        # What was measured of calls, until it is added to the record: then in one go, since a
        # model leaves the processor's caches cold.
        self._waiting: deque[Addition] = deque()
        self._lock = self._choices.lock
        self._memory = memory
        self._every, self._window = 1, 0
        self.generators: list[torch.Generator] = []
        self.paused = False
        self.reset()

    def reset(self) -> None:
        """Forgets all that was measured."""
        self.record: Record = Record(self.measures, self._choices.seed)
        self._windows = Windows()
        self.passes: int = 0
        self._begun = 0
        self._target: list[Tensor] = []
        self._mask: Tensor | None = None
        self._is_second = False
        # Of the last pass the record, which samples were kept, and whether it was a second view.
        self._last: tuple[Record, Mapping[Hashable, Admitted], bool] | None = None
        self._choices.restart()

    @property
    def step(self) -> int:
        """The number of the pass with which the present window began."""
        return (self._begun - 1) // self._every * self._every

    @property
    def measures_next(self) -> bool:
        """Whether the pass that begins next is measured."""
        outside = self.tracking and self._begun % self._every >= self._window
        return not (self.paused or outside)

    @property
    def tracking(self) -> bool:
        """Whether measures are computed window by window."""
        return self._window > 0

    def track(self, every: int, passes: int) -> None:
        """From now on measures ``passes`` passes of each ``every``, window by window."""
        self.reset()
        self._every, self._window = every, passes

    def target(self, target: Tensor) -> None:
        """Takes the labels, or other targets, of the next pass."""
        self._target = [target]

    def mask(self, mask: Tensor) -> None:
        """Takes the mask of the tokens in the next pass, (n, t), bool, on the CPU."""
        self._mask = mask

    def pair(self) -> None:
        """The next pass has the second views of the samples of the pass before.

        Raises:
            ValueError: There is no pass before, or it has second views itself.
        """
        if not self.passes or (self._last is not None and self._last[2]):
            raise ArgumentValueError(
                "pair",
                "expected a pass with the first views before, got "
                f"{'one with second views' if self.passes else 'none'}. Run the model on the "
                "first views, call probe.pair(), and run it on the second.",
            )
        self._is_second = True

    @property
    def waiting(self) -> list[str]:
        """The methods by which something was given for the next pass, which has not begun."""
        given = {"target": self._target, "mask": self._mask is not None, "pair": self._is_second}
        return [name for name, there in given.items() if there]

    # What the taps tell.

    def begin(
        self,
        inputs: list[Tensor],
        entrance: str | None,
        several: str,
        arguments: Arguments,
    ) -> Run | None:
        """Reduces the model's input and the target."""
        with self._lock, asked_as_tensors(inputs):
            target, self._target = self._target, []
            mask, self._mask = self._mask, None
            is_second, self._is_second = self._is_second, False
            last, self._last = self._last, None
            if self.paused:
                return None
            number = self._begun
            self._begun += 1
            self.passes += 1
            if self.tracking and number % self._every >= self._window:
                return None
            held = [local_if_whole(x) for x in inputs]
            n = checks.length(held[0]) if held and not under_vmap() else 0
            groups = self.record.turns.take(n)
            notes = {several} - {""}
            if entrance is not None:
                notes.add(
                    f"Some passes entered by {entrance} instead of the model; the input of that "
                    "part was the reference."
                )
            tokens = Tokens(mask, held[0] if n else None)
            padding = Padding.of(arguments.masks, held[0], tokens) if n else None
            has_first = is_second and last is not None and last[0] is self.record
            common = Pass(
                self._choices,
                self.record.reservoirs,
                groups,
                tokens,
                functools.partial(_make_room, self.record, self._memory),
                number,
                is_second=is_second,
                first=last[1] if has_first and last is not None else None,
                padding=padding,
            )
            self._last = self.record, common.admissions, is_second
            run = Run(number, notes, self.record, common, under_vmap())
            if self.record.passes == 0 and n:
                self.record.opening = opening_of(held[0])
            self.record.passes += 1
            if inputs and not run.under_vmap:
                common.admit_all(held[0])
            if self.record.occurrences is not None and n:
                marks = marks_of_samples(arguments, n, padding)
                if marks is not None:
                    self.record.occurrences.add(marks)
            if hold_integers(inputs):
                run.integers.add("input")
            run.random_state = self._random_state(inputs)
        run.input = self._plan.reduce(run, "input", inputs)
        run.target = self._plan.reduce(run, "target", target, missing=_NO_TARGET)
        return run

    def end(self, run: Run, completed: bool) -> None:
        """Finishes what had to wait for the end, and at the end of a window its measures."""
        self._add_waiting()
        with self._lock:
            for reduction, pieces in run.common.unfinished.items():
                reduction.finish(pieces, completed)
            run.common.unfinished.clear()
            last = self.tracking and run.number % self._every == self._window - 1
            if last and run.record is self.record:  # else it was reset meanwhile
                self._windows.add(self.step, self.record)
                self.record = Record(self.measures, self._choices.seed)

    def settle(self) -> None:
        """Makes the record and the rows complete: reads what devices know, and warns of it."""
        self._windows.wait()
        self._add_waiting()
        with self._lock:
            warned = set[str]()
            for call, kept, kind in self.record.settle():
                if kind not in warned:
                    warned.add(kind)
                    warn_of(call, kept)

    @property
    def windows(self) -> Windows:
        """The windows that are over, as far as they were computed."""
        return self._windows

    def enter(self, run: Run, inputs: list[Tensor]) -> Entered | None:
        """Reduces the layer's input, which the layer may overwrite."""
        if not self._plan.sources:
            return None
        return Entered(
            self._plan.reduce(run, "previous", inputs),
            run.source(inputs) if self._plan.asks_for_sources else None,
            self._plan.asks_for_facts and hold_integers(inputs),
            self._random_state(inputs),
        )

    def exit(self, run: Run, event: Event) -> None:
        """Reduces the layer's output; everything is added to what was kept of such calls."""
        if not self._plan.sources:
            return
        call = LayerCall(*event.place, event.direction, event.call)
        entered: Entered | None = event.entered
        source = None if entered is None else entered.source
        pieces: dict[Role, Pieces] = {
            # A layer may change a tensor behind our back and return it.
            "output": self._plan.reduce(run, "output", event.outputs, afresh=not event.unchanged),
            "previous": self._plan.nothing_before if entered is None else entered.pieces,
            "input": run.input,
            "target": run.target,
            "layer": {i: reported(run, each, event) for i, each in self._plan.of_calls.items()},
            "unmeasured": {},
        }
        for layer, missing in self._plan.named.items():
            pieces[role_of(layer)] = run.named[layer].pieces if layer in run.named else missing
        if call.layer in self._plan.named:
            run.named[call.layer] = self._named_layer(event, pieces["output"])
        if entered is not None:
            known = source is not None and source == run.last.get(event.direction)
            if event.log_determinant is not None and not known:
                pieces["unmeasured"] = entered.pieces
            run.last[event.direction] = call
            self._remember(run, event.outputs, call)
        facts = self._facts(run, event, source) if self._plan.asks_for_facts else None
        self._waiting.append(Addition(run, self.record, call, facts, pieces))
        if not self._plan.can_wait:
            self._add_waiting()

    def _add_waiting(self) -> None:
        """Adds the calls that are waiting to what was kept of such calls."""
        with self._lock:
            while self._waiting:
                self._waiting.popleft().add(self._plan, self._memory)

    def _named_layer(self, event: Event, pieces: Pieces) -> Named:
        state = self._random_state(event.outputs)
        return Named(pieces, state, hold_integers(event.outputs))

    def _random_state(self, tensors: list[Tensor]) -> bytes | None:
        known = self._plan.asks_for_noise and not under_vmap()
        return random_state(tensors, self.generators) if known else None

    def _facts(self, run: Run, event: Event, source: LayerCall | None) -> Facts:
        entered: Entered | None = event.entered
        now = self._random_state(event.outputs)
        return Facts(
            source,
            now is None or now != run.random_state,
            now is None or entered is None or now != entered.random_state,
            "input" in run.integers,
            hold_integers(event.outputs),
            entered is not None and entered.integers,
            *(self._facts_of_named(run, now) if self._plan.named else ()),
        )

    def _facts_of_named(
        self, run: Run, now: bytes | None
    ) -> tuple[frozenset[Role], frozenset[Role]]:
        return (
            frozenset(role_of(x) for x in self._plan.named if run.noise_since(x, now)),
            frozenset(role_of(x) for x, named in run.named.items() if named.integers),
        )

    def _remember(self, run: Run, outputs: list[Tensor], call: LayerCall) -> None:
        """Notes which call has returned a tensor, until it changes."""
        if len(outputs) == 1 and self._plan.asks_for_sources:
            (tensor,) = outputs
            changes = version(tensor)
            if changes is not None:
                run.returned[id(tensor)] = Returned(weakref.ref(tensor), changes, call)

    # With others, and to and from files.

    def merge(self, other: Recorder) -> None:
        """Takes in what another recorder has of other data."""
        if [measure.identity for measure in other.measures] != [
            measure.identity for measure in self.measures
        ]:
            raise ArgumentValueError(
                "other",
                f"expected a probe with the measures {self.measures}, got "
                f"{other.measures}. Make both with the same measures.",
            )
        self.settle()
        other.settle()
        with self._lock:
            theirs = other.record
            if other is self:
                theirs = Record.from_state_dict(theirs.state_dict(), self.measures)
            self.record.merge(theirs)
            self.record.shrink(self._memory)
            self._windows.rows += [row.copy() for row in other.windows.rows]
            self.passes += other.passes

    def state_dict(self) -> dict[str, Any]:
        """All that was measured, and the state of the random choices."""
        self.settle()
        return {
            "record": self.record.state_dict(),
            "rows": [state_of(row) for row in self._windows.rows],
            "passes": [self.passes, self._begun],
            "tracking": [self._every, self._window],
            "generator": self._choices.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` gave."""
        if not isinstance(state, Mapping) or "record" not in state:
            raise ArgumentValueError(
                "state",
                f"expected what Probe.state_dict() gave, got {type(state).__name__} "
                "without a record. Pass what was saved, as it was.",
            )
        # All is made before anything is taken over: a damaged state changes nothing.
        try:
            record = Record.from_state_dict(state["record"], self.measures)
            rows = [from_state(row) for row in state["rows"]]
            passes, begun = map(count_of, state["passes"])
            every, window = map(count_of, state["tracking"])
            resumed = random_stream(0)
            resumed.set_state(state["generator"])
        except ArgumentError:
            raise
        except Exception as error:
            raise ArgumentValueError(
                "state",
                f"expected what Probe.state_dict() gave, got something damaged "
                f"({type(error).__name__}: {error}). Load what was saved, as it was.",
            ) from error
        with self._lock:
            self.record, self._windows = record, Windows(rows)
            self.record.shrink(self._memory)
            self.passes, self._begun = passes, begun
            self._every, self._window = every, window
            self._choices.resume(self.record.seed, state["generator"])


def _make_room(record: Record, memory: int, sampling: Hashable, sample_bytes: int) -> None:
    record.shrink(memory, {sampling: sample_bytes})
