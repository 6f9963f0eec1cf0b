"""A Lightning callback that logs the entropies and divergences of all layers over training.

    python examples/lightning_callback.py

trains a small classifier on scikit-learn's digits and writes what it logged, beside the loss, to
--out/metrics.csv. Copy the class into your project: it works with any module and any logger, and
the trained weights are bit-for-bit identical with and without it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import lightning
import torch
from command_line import callback_options
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import infoprobe as ip


class InfoprobeCallback(lightning.Callback):
    """Logs `probe.report().scalars()` of every N-th training batch to the trainer's loggers.

    Validation and the sanity check before it are not measured. In a distributed run, each process
    measures its own batches, and the loggers write what the first process measured.

    Arguments:
        layers: The layers to measure, as for `ip.probe`; their names are those in the
            LightningModule (`"model.fc*"`).
        measures: The measures, as for `ip.probe`.
        every: N, the number of training batches from one measured batch to the next.
    """

    def __init__(self, layers: Any = None, measures: Any = None, every: int = 100) -> None:
        self.layers, self.measures, self.every = layers, measures, every
        self.probe: ip.Probe | None = None
        self._pause = contextlib.ExitStack()
        self._batches = self._step = 0

    def on_fit_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Attaches the probe, which is paused except during training batches."""
        self.probe = ip.probe(pl_module, self.layers, self.measures).track(every=self.every)
        self._pause.enter_context(self.probe.pause())
        self._batches = 0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Resumes the probe."""
        self._step = trainer.global_step  # the step whose weights this batch meets
        self._pause.close()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Pauses the probe, and logs if this batch was measured."""
        if self.probe is None:
            return
        self._pause.enter_context(self.probe.pause())
        if self._batches % self.every == 0:
            scalars = self.probe.report().scalars()
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=self._step)
        self._batches += 1

    def on_fit_end(self, *_: Any) -> None:
        """Removes the hooks from the module. `probe.report()` remains available."""
        if self.probe is not None:
            self.probe.remove()

    def on_exception(self, *_: Any) -> None:
        """Removes the hooks if training fails or is interrupted."""
        self.on_fit_end()


class Classifier(lightning.LightningModule):
    """Maps images of digits to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of images in [0, 1]."""
        logits: Tensor = self.model(x)
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Returns and logs the loss of a batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam."""
        return torch.optim.Adam(self.parameters(), 1e-3)


def main(arguments: list[str] | None = None) -> None:
    """Trains the classifier with these arguments, or with those of the command line."""
    options = callback_options(__doc__, arguments)

    lightning.seed_everything(options.seed)
    images, labels = ip.datasets.load("digits", split="train")
    batches = DataLoader(TensorDataset(images / 16, labels), batch_size=64, shuffle=True)
    callback = InfoprobeCallback(layers="model.*", every=options.every)
    trainer = lightning.Trainer(
        max_steps=options.steps,
        accelerator="cpu",
        callbacks=[callback],
        logger=CSVLogger(options.out, name="", version=""),
        log_every_n_steps=options.every,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), batches)
    assert callback.probe is not None
    print(callback.probe.report())
    print(f"\nWhat was logged is in {options.out / 'metrics.csv'}")


if __name__ == "__main__":
    main()
