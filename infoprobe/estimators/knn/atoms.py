"""Atoms: samples that coincide, where a density cannot have them.

Estimates from nearest neighbours take logarithms of distances, so that samples without a distance
between them decide the estimate, or make it infinite.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.neighbors import sort

REMEDY = (
    "A density has no such atoms, and the estimate would be minus infinity or decided by them. "
    "Dequantise the data (add uniform noise as wide as their resolution), drop constant units, "
    "give labels as integers, or use an estimator of discrete variables such as ip.Histogram."
)

_LARGEST = 2**63 - 1

# Features hashed at a time.
_COLUMNS = 64


def require_no_atoms(factors: Iterable[Tensor], k: int, name: str) -> None:
    """Raises a ValueError if in any of the factors (n, d) a sample coincides with k others."""
    require_untied(torch.stack([tied(factor, k) for factor in factors], 1), k, name)


def require_untied(tied: Tensor, k: int, name: str) -> None:
    """Raises a ValueError if any of the samples, in any of the factors, is tied: (n, f)."""
    if not tied.any():
        return
    rows, features = int(tied.any(1).sum()), int(tied.any(0).sum())
    where = f" in one of its features ({features:,} have such)" if tied.shape[1] > 1 else ""
    raise ArgumentValueError(
        name,
        f"expected samples of a continuous variable, but {rows:,} of {len(tied):,} "
        f"coincide with at least k={k} others{where}. {REMEDY}",
    )


def tied(x: Tensor, k: int) -> Tensor:
    """Which samples of (n, d) coincide with at least k others: (n,), bool."""
    # Hashes of bits, in integers that wrap around: exact sums, in whatever order.
    generator = torch.Generator().manual_seed(0)
    shape = (2, x.shape[1])
    factors = torch.randint(-_LARGEST, _LARGEST, shape, generator=generator, device="cpu")
    spread, weights = factors.to(x.device) | 1
    hashes = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for some in torch.split(torch.arange(x.shape[1], device=x.device), _COLUMNS):
        # Adding 0 makes one of the two zeros.
        bits = (x.detach()[:, some].double() + 0.0).view(torch.int64)
        mixed = (bits ^ (bits >> 32)) * spread[some]
        hashes += ((mixed ^ (mixed >> 29)) * weights[some]).sum(1)
    line, order = sort(hashes)
    runs = (line[k:] == line[:-k]).nonzero().squeeze(1)
    result = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    result[order[runs.unsqueeze(1) + torch.arange(k + 1, device=x.device)]] = True
    return result
