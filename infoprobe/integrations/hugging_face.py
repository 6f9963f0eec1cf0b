"""A callback of Hugging Face's Trainer that logs what a probe measures of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

import infoprobe as ip
from infoprobe.integrations.needed import needed
from infoprobe.taps.layout import LayerSpec

with needed("transformers", "a callback of Hugging Face's Trainer"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class ProbeCallback(TrainerCallback):
    """Adds ``probe.report().scalars()`` of the latest measured passes to the logs of the loss.

    Evaluations are not measured, and the trained weights are bit-for-bit the same with and
    without the callback. The history in ``trainer.state.log_history`` always contains the
    scalars. The Trainer calls its own reporters (``report_to``) before other callbacks, so that
    they do not see the scalars unless they are named after this callback:
    ``report_to="none", callbacks=[ProbeCallback(), TensorBoardCallback()]``.

    The Trainer does not call its callbacks when training fails; ``remove()`` then removes the
    hooks from the model.

    Arguments:
        layers: The layers to measure, as for :func:`infoprobe.probe`
            (``"bert.encoder.layer.?"``).
        measures: The measures, as for :func:`infoprobe.probe`.
        every: The number of forward passes from the first of some measured passes to the first
            of the next ones.
        target: The name of the model's argument that holds the labels or other targets, for
            ``ip.MutualInformation(reference="target")``, as in ``target="labels"``.
        passes: The number of passes that are measured together. More of them give estimators
            more to estimate from.

    Attributes:
        probe: The probe of the last training, or ``None`` before the first.
    """

    def __init__(
        self,
        layers: LayerSpec | Iterable[LayerSpec] | None = None,
        measures: ip.Measure | Iterable[ip.Measure] | None = None,
        every: int = 100,
        target: str | None = None,
        passes: int = 1,
    ) -> None:
        self.layers: LayerSpec | Iterable[LayerSpec] | None = layers
        self.measures: ip.Measure | Iterable[ip.Measure] | None = measures
        self.every: int = every
        self.passes: int = passes
        self.target = target
        self.probe: ip.Probe | None = None
        self._handle: RemovableHandle | None = None
        self._pause = contextlib.ExitStack()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Attaches the probe, which is paused except during training steps."""
        self.remove()
        model: nn.Module = kwargs["model"]
        probe = ip.probe(model, self.layers, self.measures)
        self.probe = probe.track(every=self.every, passes=self.passes)
        if self.target is not None:
            # Before the probe's own hook, with which the pass begins.
            self._handle = model.register_forward_pre_hook(
                self._give_target, prepend=True, with_kwargs=True
            )
        self._pause.enter_context(self.probe.pause())

    def _give_target(self, _: nn.Module, __: Any, arguments: dict[str, Any]) -> None:
        if self.probe is not None and self.target in arguments:
            self.probe.target(arguments[self.target])

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Resumes the probe."""
        self._pause.close()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Pauses the probe."""
        if self.probe is not None:
            self._pause.enter_context(self.probe.pause())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Adds the scalars to the logs and to the history."""
        if self.probe is not None and "loss" in kwargs["logs"]:
            scalars = self.probe.report().scalars()
            kwargs["logs"].update(scalars)
            state.log_history[-1].update(scalars)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Removes the hooks from the model. ``probe.report()`` remains available."""
        self.remove()

    def remove(self) -> None:
        """Removes the hooks from the model, if there are any."""
        if self.probe is not None:
            self.probe.remove()
        if self._handle is not None:
            self._handle.remove()
