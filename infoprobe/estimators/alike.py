"""Samples that are the same up to rounding, and how many different ones there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Results of one sample differ by a few roundings of the largest one, since sums are added up in
# another order when it comes in another batch.
_ROUNDINGS = 100


def kinds(x: Tensor) -> Tensor:
    """Numbers (n,) int64 that are the same for samples (n, d) that differ by rounding alone.

    Samples in the order of a random direction are compared with the next one, so that it takes
    n d steps. Whether samples are so near that only rounding can have made them different depends
    on their type: in float64 they must be nearer than in float32.
    """
    generator = torch.Generator().manual_seed(0)
    rows = x.detach().to(torch.float64)
    direction = torch.randn(
        rows.shape[1], generator=generator, dtype=torch.float64, device="cpu"
    ).to(rows.device)
    order = (rows @ direction).argsort(stable=True)
    apart = (rows[order[1:]] - rows[order[:-1]]).norm(dim=1)
    rounding = _ROUNDINGS * torch.finfo(x.dtype).eps * rows.norm(dim=1).max()
    found = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    found[order[1:]] = (apart > rounding).cumsum(0)
    return found


def entropy_of_kinds(numbers: Tensor) -> float:
    """The entropy of :func:`kinds`, in nats: ln n if all n samples are different."""
    n = len(numbers)
    times = torch.bincount(numbers).double()
    # A sum that is exactly 0 where all are different.
    return math.log(n) - float((times * times.log()).sum() / n)
