"""A Lightning callback that logs the entropies and divergences of all layers over training.

    python examples/lightning_callback.py

trains a small classifier on scikit-learn's digits and writes what it logged, beside the loss, to
--out/metrics.csv. Copy the class into your project: it works with any module and any logger, and
training ends in the same bits as without it.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import infoprobe as ip


class InfoprobeCallback(lightning.Callback):
    """Logs `probe.report().scalars()` to the trainer's loggers, every so many training batches.

    Validation and the sanity check before it are not measured. Each process of a distributed run
    measures what it sees itself, and loggers write what the first one measured.

    Arguments:
        layers: As in `ip.probe`; names are those of the LightningModule (`"model.fc*"`).
        measures: As in `ip.probe`.
        every: How many training batches lie between two measured ones.
    """

    def __init__(self, layers: Any = None, measures: Any = None, every: int = 100) -> None:
        self.layers, self.measures, self.every = layers, measures, every
        self.probe: ip.Probe | None = None
        self._pause = contextlib.ExitStack()
        self._batches = self._step = 0

    def on_fit_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Attaches the probe, which rests outside of training batches."""
        self.probe = ip.probe(pl_module, self.layers, self.measures).track(every=self.every)
        self._pause.enter_context(self.probe.pause())
        self._batches = 0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Wakes the probe."""
        self._step = trainer.global_step  # of the weights that the batch meets
        self._pause.close()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Logs if this batch was a measured one."""
        if self.probe is None:
            return
        self._pause.enter_context(self.probe.pause())
        if self._batches % self.every == 0:
            scalars = self.probe.report().scalars()
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=self._step)
        self._batches += 1

    def on_fit_end(self, *_: Any) -> None:
        """Takes the hooks off the module. `probe.report()` remains."""
        if self.probe is not None:
            self.probe.remove()

    def on_exception(self, *_: Any) -> None:
        """Likewise where training fails or is interrupted."""
        self.on_fit_end()


class Classifier(lightning.LightningModule):
    """Digits in, logits out."""

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
        """The logits of images in [0, 1]."""
        logits: Tensor = self.model(x)
        return logits

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """The loss of a batch, which is logged."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 1e-3)


def main(arguments: list[str] | None = None) -> None:
    """Trains the classifier; ``arguments`` as on the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--every", type=int, default=20, help="training batches a measurement")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order of the images")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write into")
    options = parser.parse_args(arguments)
    for name in ("steps", "every"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: expected at least 1, got {getattr(options, name):,}")

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
