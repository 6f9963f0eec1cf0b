r"""Random projections that need no matrix.

A matrix of random directions takes ``width x dimensions`` numbers, which for a wide layer are more
than all samples that are kept. The directions here come from two random diagonals, a permutation
and the Hadamard transform (Le, Sarlós & Smola, *Fastfood*, ICML 2013):
:math:`y = H G P H B x / \sqrt{w\,k}` for samples that are filled up with zeros to a width w that
is a power of two, k dimensions, random signs B, a random permutation P and normal numbers G.
Given the signs, each coordinate of y is a normal combination of those of x, and lengths are kept
in the mean.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from infoprobe.devices import send

# About how many numbers are worked on at once.
_BLOCK = 1 << 22


def projected(samples: Tensor, dimensions: int, seed: int) -> Tensor:
    """Samples (n, ...) in a few random directions: (n, dimensions), float32.

    The directions depend on the width of the samples and on the seed alone. A sample is added up
    in one order, whatever samples come with it: so it is projected to the same bits in each batch,
    process and thread.

    Arguments:
        samples: The samples, wider than ``dimensions``.
        dimensions: The number of directions.
        seed: The seed of the directions.
    """
    flat = samples.flatten(1)
    width = 1 << (flat.shape[1] - 1).bit_length()
    diagonals = _diagonals(width, seed)
    signs, order, normal = (send(x, flat.device) for x in diagonals)
    parts = []
    for block in torch.split(flat, max(1, _BLOCK // width)):
        x = torch.zeros((len(block), width), dtype=torch.float32, device=flat.device)
        x[:, : flat.shape[1]] = block
        x = _hadamard(x.mul_(signs))
        x = x.index_select(1, order).mul_(normal)
        parts.append(_hadamard(x)[:, :dimensions].clone())
    return torch.cat(parts).div_(math.sqrt(width * dimensions))


@functools.lru_cache(maxsize=8)
def _diagonals(width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random signs, a random order, and normal numbers; all (width,)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False):
        signs = torch.randint(0, 2, (width,), generator=generator, device="cpu").mul_(2).sub_(1)
        order = torch.randperm(width, generator=generator, device="cpu")
        normal = torch.randn(width, generator=generator, dtype=torch.float32, device="cpu")
        return signs.to(torch.float32), order, normal


def _hadamard(x: Tensor) -> Tensor:
    """The Hadamard transform of the rows (n, 2**m), in place of them."""
    half, scratch = 1, x.new_empty(x.numel() // 2)
    while half < x.shape[1]:
        pairs = x.view(len(x), x.shape[1] // (2 * half), 2, half)
        first, second = pairs.unbind(2)
        difference = torch.sub(first, second, out=scratch.view(first.shape))
        first += second
        second.copy_(difference)
        half *= 2
    return x
