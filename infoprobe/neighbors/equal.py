"""Points that are equal, found by sorting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.neighbors.points import sort

_LARGEST = 2**63 - 1

# Coordinates hashed at a time.
_COLUMNS = 64
_FEW = 16


def fingerprints(*factors: Tensor) -> Tensor:
    """Numbers (n,) int64 that are the same for equal rows of factors (n, d_f), and for no others.

    Rows of another type are equal if their values are, and the two zeros are one value. (Hashes
    of 64 bits: that two of a million different rows have the same has a chance of 1 to 40
    million.)
    """
    # Integers wrap around: exact sums, in whatever order.
    generator = torch.Generator().manual_seed(0)
    hashes = torch.zeros(len(factors[0]), dtype=torch.int64, device=factors[0].device)
    for x in factors:
        shape = (2, x.shape[1])
        drawn = torch.randint(-_LARGEST, _LARGEST, shape, generator=generator, device="cpu")
        spread, weights = drawn.to(x.device) | 1
        for some in torch.split(torch.arange(x.shape[1], device=x.device), _COLUMNS):
            # Adding 0 makes one of the two zeros.
            bits = (x.detach()[:, some].double() + 0.0).view(torch.int64)
            mixed = (bits ^ (bits >> 32)) * spread[some]
            hashes += ((mixed ^ (mixed >> 29)) * weights[some]).sum(1)
    return hashes


def occurrences(marks: Tensor) -> Tensor:
    """How often each of the numbers (n,) occurs among them, (n,) int64."""
    return Equals(marks).times


def occurrences_in(marks: Tensor, asked: Tensor) -> Tensor:
    """How often each number (m,) that is asked for occurs among the numbers (n,): (m,) int64."""
    line, _ = sort(marks)
    return torch.searchsorted(line, asked, right=True) - torch.searchsorted(line, asked)


def equal_rows(factors: Sequence[Tensor]) -> Equals:
    """Which rows of the factors (n, d_f) are equal."""
    # Rows that differ in some of many features need no look at the others.
    few = [x[:, :: max(1, x.shape[1] // _FEW)] for x in factors]
    if sum(x.shape[1] for x in factors) > 4 * sum(x.shape[1] for x in few):
        equals = Equals(fingerprints(*few))
        if (equals.times == 1).all():
            return equals
    return Equals(fingerprints(*factors))


class Equals:
    """Groups of equal numbers (n,) int64.

    Attributes:
        times: How many numbers each is equal to, itself among them, (n,).
        ranks: The place of each number among its equals, from 0, (n,).
        order: The positions of the numbers, one group after the other, (n,).
        starts: Where the group of each number starts in that order, (n,).
    """

    times: Tensor
    ranks: Tensor
    order: Tensor
    starts: Tensor

    def __init__(self, marks: Tensor) -> None:
        line, self.order = sort(marks)
        first = torch.ones_like(line, dtype=torch.bool)
        torch.ne(line[1:], line[:-1], out=first[1:])
        begins = first.nonzero().squeeze(1)
        lengths = torch.diff(begins, append=begins.new_tensor([len(line)]))
        sorted_starts = begins.repeat_interleave(lengths)
        places = torch.arange(len(line), device=line.device)
        self.times, self.ranks, self.starts = (torch.empty_like(marks) for _ in range(3))
        self.times[self.order] = lengths.repeat_interleave(lengths)
        self.ranks[self.order] = places - sorted_starts
        self.starts[self.order] = sorted_starts
