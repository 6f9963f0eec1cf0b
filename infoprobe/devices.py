"""Tensors on other devices than the CPU, of which the host learns values only by waiting.

Whoever is called in the middle of somebody's computation must not wait: it starts work on the
device and goes on. What that work has found is read back later, at once for everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# These have no float64, without which few results would be exact.
_NO_FLOAT64 = ("mps",)


def is_here(x: Tensor) -> bool:
    """Whether the host can read the values of a tensor without waiting for a device."""
    return x.device.type == "cpu"


def to_compute_with(x: Tensor) -> Tensor:
    """The tensor where it can be computed with exactly: on its device, or on the CPU."""
    return x.to("cpu") if x.device.type in _NO_FLOAT64 else x


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the host does not wait for it to arrive."""
    if x.device == device:
        return x
    if is_here(x) and device.type == "cuda" and torch.cuda.is_available():
        x = x.pin_memory()  # from other memory it would wait
    return x.to(device, non_blocking=device.type != "cpu")


def read(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors of int64 and float64 on the CPU, of each device with a single copy."""
    found = list(tensors)
    for device in {x.device for x in tensors if not is_here(x)}:
        there = [i for i, x in enumerate(tensors) if x.device == device]
        flat = torch.cat([found[i].reshape(-1).view(torch.int64) for i in there]).cpu()
        parts = torch.split(flat, [found[i].numel() for i in there])
        for i, part in zip(there, parts, strict=True):
            found[i] = part.clone().view(tensors[i].dtype).view(tensors[i].shape)
    return found


def cumsum(x: Tensor, dim: int) -> Tensor:
    """The sums of floating-point values up to each place along an axis.

    CUDA has no deterministic way to find them, so where one is demanded, the CPU finds them.
    """
    if is_here(x) or not torch.are_deterministic_algorithms_enabled():
        return x.cumsum(dim)
    return x.cpu().cumsum(dim).to(x.device)


def ascending(x: Tensor, dim: int) -> Tensor:
    """The values of a tensor in ascending order along an axis; differentiable."""
    graph = x.requires_grad and torch.is_grad_enabled()
    if graph or not is_here(x) or x.dtype == torch.bfloat16:
        return x.sort(dim).values
    # NumPy sorts many times faster.
    return torch.from_numpy(np.sort(x.detach().resolve_neg().numpy(), dim))


def extremes(tensors: Sequence[Tensor]) -> Tensor:
    """The least and the greatest value of some tensors, NaN if there are any: (2,), float64."""
    device = tensors[0].device
    ends = [
        torch.stack([x.amin(), x.amax()]).to(torch.float64).to(device, non_blocking=True)
        for x in tensors
    ]
    if len(ends) == 1:
        return ends[0]
    stacked = torch.stack(ends)
    return torch.stack([stacked[:, 0].amin(), stacked[:, 1].amax()])
