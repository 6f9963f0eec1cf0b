"""What the methods of a histogram are given, checked: values or samples, and their extent."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.histogram import compiled
from infoprobe.estimators.histogram.counts import in_memory_order


class Argument(NamedTuple):
    """A checked argument.

    Attributes:
        name: What the method calls it.
        tensor: Its values of any shape, exact in floating point or a type of at most 16 bits; or
            samples (n, d).
        low: The least value.
        high: The greatest value.
        labels: Whether each of its n integers is a symbol by itself, whatever the bins.
    """

    name: str
    tensor: Tensor
    low: float
    high: float
    labels: bool = False


def values(x: object, name: str) -> Argument:
    """An argument whose values are pooled, of any shape."""
    tensor = checks.as_tensor(x, name)
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.element_size() > 2 or tensor.dtype == torch.bool:
        tensor = checks.exact_float(tensor, name)
    known = None
    if tensor.numel() >= compiled.FEWEST:
        known = compiled.extent(in_memory_order(tensor))
    low, high = known or checks.extent(tensor, name)
    return Argument(name, tensor, float(low), float(high))


def samples(x: object, name: str, *, symbols: bool) -> Argument:
    """An argument of samples, (n, d).

    Arguments:
        x: The argument as given.
        name: What the method calls it.
        symbols: Whether a sample is one symbol, so that a vector of integers holds labels.
    """
    tensor = checks.as_tensor(x, name).detach()
    labels = symbols and tensor.dim() == 1 and not tensor.is_floating_point()
    tensor = checks.samples(tensor, name)
    return Argument(name, tensor, *checks.extent(tensor, name), labels)
