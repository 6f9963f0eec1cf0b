"""Marks by which a sample is known when it comes again."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.devices import send
from infoprobe.findings import Finding

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
# From which share of repetitions on they are worth a finding.
_MANY = 0.01
# Inputs that meet by chance are taken for copies once in a thousand times.
_UNLIKELY = math.log(1000)


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


class Repeats(NamedTuple):
    """Samples of inputs that had come before.

    Attributes:
        same: Which samples came before with the same results: (n,), bool.
        changed: Which came before with other results, as under dropout: (n,), bool.
    """

    same: Tensor
    changed: Tensor

    def findings(self) -> Iterator[Finding]:
        """What a reader should know of them; those with the same results were left out."""
        n = len(self.same)
        left_out, changed = int(self.same.sum()), int(self.changed.sum())
        if left_out and left_out >= _MANY * n:
            yield Finding(
                "warning",
                f"{left_out:,} of the {n:,} samples that were kept had come before, with the same "
                "result, and were left out",
                left_out / n,
                "Pass each sample once.",
                code="seen-twice",
            )
        if changed and changed >= _MANY * n:
            yield Finding(
                "warning",
                f"{changed:,} of the {n:,} samples that were kept had come before, with another "
                "result, as under dropout: they are not independent, so that they may look like "
                "information, and the error is too small",
                changed / n,
                "Pass each sample once.",
                code="seen-again",
            )


def repeats(marks: Tensor, samples: Sequence[Tensor]) -> Repeats:
    """Which samples were seen before, as in a second epoch; none if inputs meet by chance.

    Arguments:
        marks: The marks of the samples in the order in which they came, (n,).
        samples: What was kept of them at a layer, each (n, ...).
    """
    (known,) = (marks != UNKNOWN).nonzero(as_tuple=True)
    kinds, inverse = torch.unique(marks[known], return_inverse=True)
    places = torch.arange(len(known), device="cpu")
    first = torch.full_like(kinds, len(known)).scatter_reduce_(0, inverse, places, "amin")
    (again,) = (first[inverse] < places).nonzero(as_tuple=True)
    same, changed = (torch.zeros(len(marks), dtype=torch.bool, device="cpu") for _ in range(2))
    if len(again) == 0 or _by_chance(torch.bincount(inverse), int(again[0])):
        return Repeats(same, changed)
    now, before = known[again], known[first[inverse[again]]]
    equal = torch.ones(len(now), dtype=torch.bool, device="cpu")
    for x in samples:
        a, b = x[now].double(), x[before].double()
        apart = (a - b).abs().flatten(1).amax(1) if x.dim() > 1 else (a - b).abs()
        eps = torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
        equal &= apart <= max(_ROUNDING, 4 * eps) * float(b.abs().max())
    same[now[equal]], changed[now[~equal]] = True, True
    return Repeats(same, changed)


def _by_chance(times: Tensor, before: int) -> bool:
    r"""Whether inputs repeat as those of a discrete variable do, rather than as in epochs.

    An epoch has each sample once, so that the first repetition comes after all of them. Had
    inputs met by chance, c of them would differ with a probability of
    :math:`e^{-\lambda c^2 / 2}`, where :math:`\lambda` is the share of pairs that are equal.

    Arguments:
        times: How often each input came.
        before: How many inputs came before the first repetition.
    """
    n = float(times.sum())
    equal = float((times * (times - 1)).sum()) / (n * (n - 1))
    return equal * before**2 / 2 < _UNLIKELY
