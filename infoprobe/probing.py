"""Taps and measures make one measuring session."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from torch import nn

from infoprobe.binning import Counts
from infoprobe.measures import Divergence, Entropy, Measure
from infoprobe.recording import Recorder, State, Visit
from infoprobe.report import Report
from infoprobe.taps.freia import Direction
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
    the hooks are gone at the end of the ``with`` block or after :meth:`Probe.remove`. (A model in
    training mode moves its own BatchNorm statistics, probed or not.)

    Of a plain module's inputs and outputs, the first floating-point tensor is measured; of an
    invertible module's, all of them together, without conditions and the log-determinant.

    Arguments:
        model: Any module, or a FrEIA graph, whose inverse pass is told apart by ``direction``.
            Both ways may happen in one pass, as in an autoencoder that inverts its encoder.
        layers: ``None`` for the leaf modules (attention counts as one), and for FrEIA graphs
            their nodes and their own inputs and outputs; or one or several of: a glob pattern on
            names (``"conv*"``) that chooses among these or, where it matches none of them, among
            all modules; a module; a class of modules; a predicate ``f(name, module)``.
        measures: ``None`` for the entropy of every layer's output, and the divergences of the
            layer's input and of the model's input from it, on shared dyadic bins; or one or
            several of :class:`~infoprobe.Entropy` and :class:`~infoprobe.Divergence`.

    Limits: a layer counts whenever it is called, so activation checkpointing, which calls layers
    again during the backward pass, counts them twice. A model that ``torch.compile`` compiled
    and ran before it is probed may ignore the hooks. Under ``torch.func.vmap`` tensors have no
    values to count, and the calls are left out. ``torch.compile(fullgraph=True)`` refuses hooks
    that it cannot compile. One thread at a time may run the model. A copy
    made of a probed model has hooks that do nothing.

    Raises:
        TypeError: ``layers`` or ``measures`` holds something else.
        ValueError: A layer matches nothing.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with ip.probe(model) as probe:
        ...     for _ in range(10):
        ...         _ = model(torch.randn(50, 3))
        >>> sorted(probe.report().scalars())[:2]
        ['0/forward/divergence_input', '0/forward/divergence_previous']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
    if measures is None:
        measures = (Entropy(), Divergence(reference="previous"), Divergence(reference="input"))
    elif isinstance(measures, Iterable):
        measures = tuple(dict.fromkeys(measures))
    else:
        measures = (measures,)
    for measure in measures:
        if not isinstance(measure, Measure):
            raise TypeError(
                "measures: expected ip.Entropy(...) or ip.Divergence(...), got "
                f"{measure!r} of type {type(measure).__name__}."
            )
    return Probe(model, select_layers(model, layers), measures)


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
        self._recorder = Recorder(self._measures)
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
                self._row(order, visit, measure, state)
                for order, (visit, states) in enumerate(self._recorder.states.items())
                for measure, state in states.items()
            ]
        )

    def counts(self, layer: str, direction: Direction = "forward", call: int = 0) -> Counts:
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
        counted = {
            (visit.layer.name, visit.direction, visit.call): state.summaries["output"]
            for visit, states in self._recorder.states.items()
            for state in list(states.values())[:1]
            if state.summaries
        }
        if (layer, direction, call) not in counted:
            there = [f"{name!r} ({way}, call {i})" for name, way, i in counted]
            raise ValueError(
                f"layer: nothing was counted at {layer!r} ({direction}, call {call}), but at: "
                f"{', '.join(there) or 'no layer yet'}."
            )
        return counted[layer, direction, call]

    def _row(self, order: int, visit: Visit, measure: Measure, state: State) -> dict[str, Any]:
        value: float | None = None
        findings: list[str] = []
        if state.summaries:
            try:
                value, findings = measure.compute(state.summaries)
            except ValueError as error:  # one layer without a value must not hide the others
                findings = [str(error)]
        elif not state.left_out:
            findings = ["nothing was counted, since the probe was paused when the passes began."]
        if measure.reference == "input" and state.entrances:
            findings = [
                *findings,
                f"some passes entered by {', '.join(sorted(state.entrances))} instead of the "
                "model: its input was the reference.",
            ]
        if state.left_out:
            findings = [*findings, f"calls left out: {state.left_out}; {state.why_left_out}"]
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
                f"some probed layers gave no output: {', '.join(silent)}. Likely "
                "causes: the forward pass skips them, calls their .forward(...) or uses their "
                "weights directly, or the model was compiled before it was probed."
            )
        warnings.warn(message, stacklevel=3)
