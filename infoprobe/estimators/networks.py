"""Networks that are trained in passing: their weights, and batches, without a trace elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def linear_layer(inputs: int, outputs: int) -> nn.Linear:
    """In float32 on the CPU, whatever the user's defaults."""
    return nn.Linear(inputs, outputs, device="cpu", dtype=torch.float32)


@contextlib.contextmanager
def drawing_weights(seed: int) -> Iterator[None]:
    """Seeds weights drawn on the CPU, to be trained, and leaves all generators as they were.

    ``torch.manual_seed`` would seed those of other devices too.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def batches_of(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of ``n`` samples in batches without end, in a new order each time."""
    size = min(size, n)
    while True:
        order = torch.randperm(n, generator=generator, device="cpu")
        yield from torch.split(order, size)[: n // size]
