"""What all data sets of images have in common."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infoprobe import files
from infoprobe.errors import ArgumentValueError

#: Images (n, C, H, W), uint8, and their labels (n,), int64.
LabelledImages = tuple[Tensor, Tensor]


def labelled(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    """Returns images as uint8 and labels as int64 tensors, in memory of their own."""
    return (
        torch.from_numpy(images.astype(np.uint8, order="C")),
        torch.from_numpy(labels.astype(np.int64, order="C")),
    )


def content(path: Path, most: int) -> bytes:
    """Returns the bytes of a file.

    Raises:
        ValueError: There are more than ``most``, the size of the largest such file.
    """
    if (size := path.stat().st_size) > most:
        raise damaged(path, f"it holds {size:,} bytes, and no such file more than {most:,}")
    return files.read(path, str(path))


def unpacked(stream: gzip.GzipFile, path: Path, most: int) -> bytes:
    """Returns the bytes that a stream unpacks from a file, and unpacks no more than the most.

    Raises:
        ValueError: There are more than ``most``, what is in the largest such file.
    """
    data = stream.read(most + 1)
    if len(data) > most:
        raise damaged(path, f"it unpacks to more than {most:,} bytes, and no such file does")
    return data


def damaged(path: Path, why: str) -> ValueError:
    """Returns the error of a file that does not hold what its format says."""
    return ArgumentValueError(str(path), f"{why}. Delete it and fetch it again.")
