"""A Lightning callback that logs what a probe measures of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import infoprobe as ip
from infoprobe.integrations.needed import needed
from infoprobe.taps.layout import LayerSpec

if TYPE_CHECKING:
    import lightning
else:
    with needed("lightning", "a callback of Lightning"):
        try:
            import lightning
        except ModuleNotFoundError:  # the package may go by its older name
            import pytorch_lightning as lightning


class ProbeCallback(lightning.Callback):
    """Logs ``probe.report().scalars()`` of some training batches to the trainer's loggers.

    Validation and the sanity check before it are not measured, and the trained weights are
    bit-for-bit the same with and without the callback. In a distributed run, each process
    measures its own batches, and the loggers write what the first process measured.

    Arguments:
        layers: The layers to measure, as for :func:`infoprobe.probe`; their names are those in
            the LightningModule (``"model.fc*"``).
        measures: The measures, as for :func:`infoprobe.probe`.
        every: The number of training batches from the first of some measured batches to the
            first of the next ones.
        target: A function that takes a batch and returns the labels or other targets of its
            samples, for ``ip.MutualInformation(reference="target")``, as in
            ``target=lambda batch: batch[1]``.
        passes: The number of batches that are measured together and logged once, with the step
            of the first. More of them give estimators more to estimate from.

    Attributes:
        probe: The probe of the last training, or ``None`` before the first.
    """

    def __init__(
        self,
        layers: LayerSpec | Iterable[LayerSpec] | None = None,
        measures: ip.Measure | Iterable[ip.Measure] | None = None,
        every: int = 100,
        target: Callable[[Any], Any] | None = None,
        passes: int = 1,
    ) -> None:
        self.layers: LayerSpec | Iterable[LayerSpec] | None = layers
        self.measures: ip.Measure | Iterable[ip.Measure] | None = measures
        self.every: int = every
        self.passes: int = passes
        self.target = target
        self.probe: ip.Probe | None = None
        self._pause = contextlib.ExitStack()
        self._batches = self._step = 0

    def on_fit_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Attaches the probe, which is paused except during training batches."""
        probe = ip.probe(pl_module, self.layers, self.measures)
        self.probe = probe.track(every=self.every, passes=self.passes)
        self._pause.enter_context(self.probe.pause())
        self._batches = 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, *_: Any
    ) -> None:
        """Resumes the probe, and gives it the targets of the batch."""
        if self._batches % self.every == 0:
            self._step = trainer.global_step  # the step whose weights this batch meets
        self._pause.close()
        if self.probe is not None and self.target is not None:
            self.probe.target(self.target(batch))

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Pauses the probe, and logs if this batch was the last of those measured together."""
        if self.probe is None:
            return
        self._pause.enter_context(self.probe.pause())
        if self._batches % self.every == self.passes - 1:
            scalars = self.probe.report().scalars()
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=self._step)
        self._batches += 1

    def on_fit_end(self, *_: Any) -> None:
        """Removes the hooks from the module. ``probe.report()`` remains available."""
        if self.probe is not None:
            self.probe.remove()

    def on_exception(self, *_: Any) -> None:
        """Removes the hooks if training fails or is interrupted."""
        self.on_fit_end()
