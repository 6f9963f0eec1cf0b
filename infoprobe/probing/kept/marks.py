"""Marks by which a sample is known when it comes again."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.devices import send

# The mark of a sample of which nothing is known.
UNKNOWN = 0

# The most values of a sample that its mark is made of.
_VALUES = 1024
_LARGEST = 2**63 - 1
# An odd number, by which the marks of a sequence's tokens differ.
_PLACE = 0x1E3779B97F4A7C15
# By how much results of one sample may differ, relative to the largest value: sums are added up
# in another order when a sample comes in another batch.
_ROUNDING = 1e-4


def marked_values(x: Tensor) -> Tensor:
    """The values of samples (n, ...) of which their marks are made: (n, d)."""
    values = x.detach().flatten(1) if x.dim() > 1 else x.detach().unsqueeze(1)
    return values[:, :: -(-values.shape[1] // _VALUES)]


def marks_of(x: Tensor, places: Tensor) -> Tensor:
    """A number for each of the samples (n, ...): (n,), int64, on their device.

    Equal samples have equal marks, and others have other marks, unless they differ only in
    values that are left out.

    Arguments:
        x: What the model was given for each sample, (n, ...): the whole sequence for a token; or
            the :func:`marked_values` of that.
        places: Which of its tokens each sample is, (n,), int64; 0 for the first.
    """
    values = marked_values(x)
    if values.is_complex():
        values = torch.view_as_real(values).flatten(1)
    # Adding 0 makes one of the two zeros.
    bits = (values.double() + 0.0).view(torch.int64)
    mixed = (bits ^ (bits >> 32)) * _weights(bits.shape[1], bits.device)
    hashed: Tensor = (mixed ^ (mixed >> 29)).sum(1)
    hashed += send(places * _PLACE, hashed.device)
    return torch.where(hashed == UNKNOWN, 1, hashed)


@functools.lru_cache(maxsize=16)
def _weights(number: int, device: torch.device) -> Tensor:
    """Odd random numbers, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):  # a tensor made in that mode cannot leave it
        weights = torch.randint(-_LARGEST, _LARGEST, (number,), generator=generator, device="cpu")
        return send(weights | 1, device)


def copies(marks: Tensor, samples: Sequence[Tensor]) -> Tensor:
    """Which samples came before, with the same results: (n,), bool.

    Arguments:
        marks: The marks of the samples, (n,).
        samples: What was kept of them at a layer, each (n, ...).
    """
    numbers = torch.arange(len(marks), device="cpu")
    kinds, inverse = torch.unique(marks, return_inverse=True)
    first = torch.full_like(kinds, len(marks))
    first.scatter_reduce_(0, inverse, numbers, "amin")
    again = first[inverse]
    found = (again < numbers) & (marks != UNKNOWN)
    (places,) = found.nonzero(as_tuple=True)
    for x in samples if len(places) else ():
        now, before = x[places].double(), x[again[places]].double()
        apart = (now - before).abs().flatten(1).amax(1) if x.dim() > 1 else (now - before).abs()
        eps = torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
        found[places] &= apart <= max(_ROUNDING, 4 * eps) * float(before.abs().max())
    return found
