"""The images that a training is given: in memory, or read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError


class Images(Protocol):
    """Images that are read when they are needed, such as those of a folder.

    In a training with a checkpoint, an index must give the same image each time: draw
    augmentations in the loss.
    """

    def __len__(self) -> int:
        """Returns the number of images."""

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Returns the images (m, C, H, W) with the indices (m,)."""


def as_images(data: Tensor | np.ndarray | Images, name: str) -> Tensor | Images:
    """Returns images as a tensor, or as they are if they are read when needed.

    Raises:
        TypeError: The data are not images, or are images together with their labels.
        ValueError: There are no images.
    """
    if isinstance(data, tuple):
        raise ArgumentTypeError(
            name,
            f"expected images (n, C, H, W), got a tuple of {len(data)}. Pass the images "
            "without their labels: images, labels = ip.datasets.load(...).",
        )
    in_memory = isinstance(data, (Tensor, np.ndarray, Sequence))
    if in_memory or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return checks.as_tensor(data, name)
    if len(data) == 0:
        raise ArgumentValueError(name, f"expected at least one image, got an empty {type(data)}.")
    images: Images = data
    return images


def spread_sample(images: Tensor | Images, name: str) -> Tensor:
    """Returns sixteen images, evenly spaced from the first to the last.

    Hardly any other data share them, so that they can tell trainings apart.

    Raises:
        TypeError: The data do not give images for a tensor of indices, or give integers other
            than uint8.
    """
    sample: object = images[torch.arange(16) * (len(images) - 1) // 15]
    if not isinstance(sample, Tensor) or len(sample) != 16:
        got = (
            f"shape {tuple(sample.shape)}" if isinstance(sample, Tensor) else type(sample).__name__
        )
        raise ArgumentTypeError(
            name,
            f"expected images (16, C, H, W) for a tensor of 16 indices, got {got}. Give the data "
            "a __getitem__ that stacks the images of many indices, without their labels.",
        )
    if sample.dtype != torch.uint8 and not sample.is_floating_point():
        raise ArgumentTypeError(
            name,
            f"expected images of uint8 or floating-point values, got {sample.dtype}. "
            "Convert them: x.to(torch.uint8), if their values are 0 to 255.",
        )
    return sample
