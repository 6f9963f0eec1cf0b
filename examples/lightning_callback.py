"""A Lightning callback that logs the entropies and divergences of all layers over training.

    python examples/lightning_callback.py

trains a small classifier on scikit-learn's digits and writes what it logged, beside the loss, to
--out/metrics.csv. The callback works with any
module and any logger, and the trained weights are bit-for-bit identical with and without it.
"""

from __future__ import annotations

import lightning
import torch
from command_line import callback_options
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import infoprobe as ip
from infoprobe.integrations.lightning import ProbeCallback


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
    callback = ProbeCallback(layers="model.*", every=options.every)
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
