"""Taps and measures make one measuring session."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor, nn

from infoprobe.binning import Counts
from infoprobe.estimators import Histogram
from infoprobe.measures import Divergence, Entropy, Measure, Role
from infoprobe.report import Report
from infoprobe.taps.module import Layer, LayerSpec, ModuleTap, select_layers


def probe(
    model: nn.Module,
    layers: LayerSpec | Iterable[LayerSpec] | None = None,
    measures: Measure | Iterable[Measure] | None = None,
) -> Probe:
    r"""Attaches measures to the layers of a model, at once.

    Every tensor is reduced to counts while it passes by; nothing else of it is kept, so memory
    stays at a few counts a bin and layer however long the data are. The model is left as found:
    its outputs, gradients, parameters and flags are untouched, no random number is drawn, and
    the hooks are gone at the end of the ``with`` block or after :meth:`Probe.remove`.

    Arguments:
        model: Any module, or a FrEIA graph, whose inverse pass is told apart by ``direction``.
            Both ways may happen in one pass, as in an autoencoder that inverts its encoder.
        layers: ``None`` for the leaf modules, and for FrEIA graphs their nodes and their own
            inputs and outputs; or one or several of: a glob pattern on names (``"conv*"``), a
            module, a class of modules, a predicate ``f(name, module)``.
        measures: ``None`` for the entropy of every layer's output and its divergences from the
            layer's and from the model's input, on shared dyadic bins; or one or several of
            :class:`~infoprobe.Entropy` and :class:`~infoprobe.Divergence`.

    Of a plain module's output, the first tensor is measured; of an invertible module's, all of
    them together, without the log-determinant.

    Raises:
        TypeError: ``layers`` or ``measures`` holds something else.
        ValueError: A layer matches nothing, or an estimator needs all the values at once.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with ip.probe(model) as probe:
        ...     for _ in range(10):
        ...         _ = model(torch.randn(50, 3))
        >>> sorted(probe.report().scalars())[:2]
        ['0/forward/divergence_input', '0/forward/divergence_previous']
    """
    if measures is None:
        measures = (Entropy(), Divergence(reference="previous"), Divergence(reference="input"))
    elif isinstance(measures, Iterable):
        measures = tuple(measures)
    else:
        measures = (measures,)
    for measure in measures:
        _check_measure(measure)
    return Probe(model, select_layers(model, layers), measures)


def _check_measure(measure: Any) -> None:
    if not isinstance(measure, Measure):
        raise TypeError(
            "measures: expected ip.Entropy(...) or ip.Divergence(...), got "
            f"{measure!r} of type {type(measure).__name__}."
        )
    if not measure.estimator.streams:
        raise ValueError(
            f"measures: {measure.estimator} needs all the values at once, which a probe does not "
            "keep. Use range='dyadic' or an explicit (low, high) here, or call the estimator on "
            "tensors that you keep."
        )


class Probe:
    """One measuring session, made by :func:`probe`.

    A context manager: hooks are on the model until the end of the ``with`` block, whatever is
    raised in it. The report stays readable afterwards.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[Layer], measures: Sequence[Measure]
    ) -> None:
        self._layers = list(layers)
        self._measures = list(measures)
        self._recorder = _Recorder(self._measures)
        self._tap = ModuleTap(model, self._layers, self._recorder)

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "attached" if self._tap.attached else "removed"
        return (
            f"Probe({len(self._layers)} layers, {len(self._measures)} measures, {state}, "
            f"{self._recorder.passes} passes)"
        )

    def remove(self) -> None:
        """Takes the hooks off the model. What was measured remains."""
        self._tap.remove()

    def reset(self) -> None:
        """Forgets what was measured; the hooks stay."""
        self._recorder.reset()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """A ``with`` block during which nothing is measured."""
        before, self._recorder.paused = self._recorder.paused, True
        try:
            yield
        finally:
            self._recorder.paused = before

    def report(self) -> Report:
        """What was measured so far, one row a layer, direction, call and measure.

        Warns of layers that gave no output, with the likely causes.
        """
        self._warn_of_silent_layers()
        return Report(
            [
                self._row(order, visit, measure, states[measure.estimator.counting])
                for order, (visit, states) in enumerate(self._recorder.states.items())
                for measure in self._measures
            ]
        )

    def counts(self, layer: str, direction: str = "forward", call: int = 0) -> Counts:
        """The counts of a layer's output, under the bins of the first measure.

        They stand for the tensors in every method of the estimator, so that any two layers can be
        compared after the fact, on exactly shared bins.

        Example:
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
            >>> with ip.probe(model) as probe:
            ...     y = model(torch.randn(50, 3))
            >>> h = ip.Histogram()
            >>> h.js_divergence(probe.counts("0"), probe.counts("1")) == h.js_divergence(
            ...     probe.counts("0"), y
            ... )
            tensor(True)

        Raises:
            ValueError: Nothing was counted there; the message lists where something was.
        """
        estimator = self._measures[0].estimator.counting
        counted = {
            (visit.layer.name, visit.direction, visit.call): states[estimator].summaries["output"]
            for visit, states in self._recorder.states.items()
            if states[estimator].summaries
        }
        if (layer, direction, call) not in counted:
            raise ValueError(
                f"layer: nothing was counted at {layer!r} ({direction}, call {call}), but at: "
                f"{', '.join(f'{name} ({way}, call {i})' for name, way, i in counted)}."
            )
        return counted[layer, direction, call]

    def _row(self, order: int, visit: _Visit, measure: Measure, state: _State) -> dict[str, Any]:
        value: float | None = None
        findings: list[str] = []
        if state.summaries:
            value, findings = measure.compute(state.summaries)
        if state.left_out:
            findings = [*findings, f"{state.left_out} calls left out; {state.why_left_out}"]
        return {
            "layer": visit.layer.name,
            "type": visit.layer.type,
            "direction": visit.direction,
            "call": visit.call,
            "order": order,
            "step": None,
            "measure": measure.name,
            "estimator": repr(measure.estimator),
            "reference": measure.reference,
            "value": value,
            "stderr": None,
            "unit": "nats",
            "kind": measure.kind,
            "n": state.n,
            "d": state.width,
            "findings": findings,
        }

    def _warn_of_silent_layers(self) -> None:
        fired = {visit.layer for visit in self._recorder.states}
        silent = [layer.name for layer in self._layers if layer not in fired]
        if not silent:
            return
        if not fired:
            message = (
                "the probe has seen no pass through the model. Call the model itself, not "
                "model.forward(...), while the probe is attached; a model that torch.compile "
                "compiled before ignores hooks."
            )
        else:
            message = (
                f"{len(silent)} probed layers gave no output: {', '.join(silent)}. Likely "
                "causes: the forward pass skips them, calls their .forward(...) or uses their "
                "weights directly, or the model was compiled before it was probed."
            )
        warnings.warn(message, stacklevel=3)


class _Visit(NamedTuple):
    """The identity of a row: one of the calls of a layer within a pass."""

    layer: Layer
    direction: str
    call: int


class _Problem(NamedTuple):
    """Why a tensor could not be summarised."""

    role: Role
    message: str


_Summaries = dict[Histogram, "Counts | _Problem"]


@dataclass
class _State:
    """What one estimator has seen at one visit."""

    n: int = 0
    values: int = 0
    summaries: dict[Role, Counts] = field(default_factory=dict)
    left_out: int = 0
    why_left_out: str = ""

    def fold(self, outputs: list[Tensor], summaries: Mapping[Role, Counts]) -> None:
        self.n += outputs[0].shape[0] if outputs[0].dim() else 1
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


class _Seen(NamedTuple):
    """The counts of a tensor that may pass by again, and whether it is still the same."""

    tensor: weakref.ref[Tensor]
    version: int
    counts: Counts


class _Recorder:
    """Folds what a tap catches into the states of all visits."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        # Each tensor is counted once, however many measures share the counts.
        self._roles: dict[Histogram, set[Role]] = {}
        for measure in measures:
            self._roles.setdefault(measure.estimator.counting, set()).update(measure.roles)
        self.paused = False
        self.reset()

    def reset(self) -> None:
        self.states: dict[_Visit, dict[Histogram, _State]] = {}
        self.passes = 0
        self._input: _Summaries = {}
        self._seen: dict[tuple[int, Histogram], _Seen] = {}

    def start(self, inputs: list[Tensor]) -> None:
        self._seen.clear()
        if not self.paused:
            self.passes += 1
            self._input = self._summarise("input", inputs)

    def enter(self, layer: Layer, inputs: list[Tensor]) -> _Summaries:
        # Now, since the layer may overwrite its input.
        return {} if self.paused else self._summarise("previous", inputs)

    def exit(
        self, layer: Layer, direction: str, call: int, entered: _Summaries, outputs: list[Tensor]
    ) -> None:
        if self.paused:
            return
        visit = _Visit(layer, direction, call)
        states = self.states.setdefault(visit, {key: _State() for key in self._roles})
        by_role: dict[Role, _Summaries] = {
            "output": self._summarise("output", outputs),
            "previous": entered,
            "input": self._input,
        }
        for estimator, roles in self._roles.items():
            summaries: dict[Role, Counts] = {}
            problem: _Problem | None = None
            for role, seen in by_role.items():
                if role not in roles:
                    continue
                summary = seen[estimator]
                if isinstance(summary, _Problem):
                    problem = problem or summary
                else:
                    summaries[role] = summary
            if problem is None:
                states[estimator].fold(outputs, summaries)
            else:
                self._leave_out(states[estimator], visit, problem)

    def _leave_out(self, state: _State, visit: _Visit, problem: _Problem) -> None:
        # A measure must not stop somebody's training: it warns once a row and goes on.
        state.left_out += 1
        if state.left_out == 1:
            state.why_left_out = f"first pass {self.passes}, {problem.role}: {problem.message}"
            warnings.warn(
                f"layer {visit.layer.name!r} ({visit.direction}), pass {self.passes}: left out of "
                f"the measures. {problem.role}: {problem.message}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _summarise(self, role: Role, tensors: list[Tensor]) -> _Summaries:
        """Counts of some tensors together, for every estimator that needs this role."""
        summaries: _Summaries = {}
        for estimator, roles in self._roles.items():
            if role not in roles:
                continue
            try:
                counts = [self._count(estimator, tensor) for tensor in tensors]
            except (TypeError, ValueError) as error:
                summaries[estimator] = _Problem(role, str(error).removeprefix("x: "))
                continue
            if counts:
                summaries[estimator] = sum(counts[1:], counts[0])
            else:
                summaries[estimator] = _Problem(role, "there is no tensor.")
        return summaries

    def _count(self, estimator: Histogram, tensor: Tensor) -> Counts:
        """The counts of a tensor, at hand if it was counted before in this pass.

        What leaves one layer enters the next. In-place changes raise a tensor's version, which
        inference tensors do not have; those are counted again.
        """
        if tensor.is_inference():
            return estimator.count(tensor).to("cpu")
        key = id(tensor), estimator
        seen = self._seen.get(key)
        if seen and seen.tensor() is tensor and seen.version == tensor._version:
            return seen.counts
        counts = estimator.count(tensor).to("cpu")
        self._seen[key] = _Seen(weakref.ref(tensor), tensor._version, counts)
        return counts
