"""Samples that are the same up to rounding, and how many different ones there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Equal results of a transformer of 6 blocks were at most 4 roundings apart in float32, since sums
# are added up in another order. In half precision, whose sums are added up in float32 and then
# rounded, they were at most 1.5 roundings apart.
_ROUNDINGS, _ROUNDINGS_OF_HALVES = 16, 2
_HALF = 1e-4


def rounding_of(eps: float) -> float:
    """How far equal results of a network may be apart, as a share of their size.

    Arguments:
        eps: The rounding of their type.
    """
    return eps * (_ROUNDINGS_OF_HALVES if eps > _HALF else _ROUNDINGS)


def kinds(x: Tensor) -> Tensor:
    """Numbers (n,) int64 that are the same for samples (n, d) that differ by rounding alone.

    Samples in the order of a random direction are compared with the next one, so that it takes
    n d steps. Whether samples are so near that only rounding can have made them different depends
    on their type: in float64 they must be nearer than in float32. In half precision, which has so
    few numbers that different samples may be neighbours, they must be equal.
    """
    generator = torch.Generator().manual_seed(0)
    rows = x.detach().to(torch.float64)
    direction = torch.randn(
        rows.shape[1], generator=generator, dtype=torch.float64, device="cpu"
    ).to(rows.device)
    order = (rows @ direction).argsort(stable=True)
    apart = (rows[order[1:]] - rows[order[:-1]]).norm(dim=1)
    eps = torch.finfo(x.dtype).eps
    rounding = rounding_of(eps) * rows.norm(dim=1).max() if eps <= _HALF else 0.0
    found = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    found[order[1:]] = (apart > rounding).cumsum(0)
    return found


def entropy_of_kinds(numbers: Tensor) -> float:
    """The entropy of :func:`kinds`, in nats: ln n if all n samples are different."""
    n = len(numbers)
    times = torch.bincount(numbers).double()
    # A sum that is exactly 0 where all are different.
    return math.log(n) - float((times * times.log()).sum() / n)
