"""What all data sets of images have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError

#: Images (n, C, H, W), uint8, and their labels (n,), int64.
LabelledImages = tuple[Tensor, Tensor]


def labelled(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    """Returns images as uint8 and labels as int64 tensors, in memory of their own."""
    return (
        torch.from_numpy(images.astype(np.uint8, order="C")),
        torch.from_numpy(labels.astype(np.int64, order="C")),
    )


def damaged(path: Path, why: str) -> ValueError:
    """Returns the error of a file that does not hold what its format says."""
    return ArgumentValueError(str(path), f"{why}. Delete it and fetch it again.")
