"""The images that a training is given: in memory, or read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

# The number of images that are copied at a time.
_PART = 1024


class Images(Protocol):
    """Images that are read when they are needed, such as those of a folder.

    In a training with a checkpoint, an index must give the same image each time: draw
    augmentations in the loss. Images with a method ``fingerprint()`` are recognised by the text
    that it returns as well, as those of an :class:`~infoprobe.datasets.ImageFiles` are by the
    names and the sizes of all files.
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

    Raises:
        TypeError: The data do not give images for a tensor of indices, or give integers other
            than uint8.
    """
    sample: object = images[torch.arange(16, device="cpu") * (len(images) - 1) // 15]
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


def fingerprint(images: Tensor | Images) -> str:
    """Returns a checksum of images, which is the same in every run.

    Of a tensor it is that of all values. Of images that are read when they are needed it is that
    of 64 images, evenly spaced from the first to the last, and of what their own method
    ``fingerprint()`` returns, if they have one.
    """
    checksum = hashlib.sha256()
    if not isinstance(images, Tensor):
        own = getattr(images, "fingerprint", None)
        checksum.update(str(own()).encode() if callable(own) else b"")
        images = images[torch.arange(64, device="cpu") * (len(images) - 1) // 63]
    checksum.update(f"{images.dtype} {tuple(images.shape)}".encode())
    for start in range(0, len(images), _PART):
        part = images[start : start + _PART].detach().cpu()
        values = part.contiguous().flatten().view(torch.uint8)
        checksum.update(values.numpy().data)
    return checksum.hexdigest()
