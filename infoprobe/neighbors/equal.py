"""Points that are equal, found by sorting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

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
        parts = torch.split(drawn.to(x.device) | 1, _COLUMNS, 1)
        for (spread, weights), some in zip(
            parts, torch.split(x.detach(), _COLUMNS, 1), strict=True
        ):
            # Adding 0 makes one of the two zeros.
            bits = (some.double() + 0.0).view(torch.int64)
            mixed = (bits ^ (bits >> 32)) * spread
            hashes += ((mixed ^ (mixed >> 29)) * weights).sum(1)
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
    if max(x.shape[1] for x in factors) >= 4 * _FEW:
        few = [x[:, :: max(1, x.shape[1] // _FEW)] for x in factors]
        equals = Equals(fingerprints(*few))
        if equals.all_differ:
            return equals
    return Equals(fingerprints(*factors))


class Equals:
    """Groups of equal numbers (n,) int64.

    Attributes:
        order: The positions of the numbers, one group after the other, (n,).
        begins: Where each of the groups starts in that order.
    """

    def __init__(self, marks: Tensor) -> None:
        line, self.order = sort(marks)
        first = torch.ones_like(line, dtype=torch.bool)
        torch.ne(line[1:], line[:-1], out=first[1:])
        self.begins = first.nonzero().squeeze(1)

    @property
    def all_differ(self) -> bool:
        """Whether no two of the numbers are equal."""
        return len(self.begins) == len(self.order)

    @cached_property
    def times(self) -> Tensor:
        """How many numbers each is equal to, itself among them, (n,)."""
        if self.all_differ:
            return torch.ones_like(self.order)
        return self._back(self._lengths.repeat_interleave(self._lengths))

    @cached_property
    def ranks(self) -> Tensor:
        """The place of each number among its equals, from 0, (n,)."""
        if self.all_differ:
            return torch.zeros_like(self.order)
        places = torch.arange(len(self.order), device=self.order.device)
        return self._back(places) - self.starts

    @cached_property
    def starts(self) -> Tensor:
        """Where the group of each number starts in the order, (n,)."""
        return self._back(self.begins.repeat_interleave(self._lengths))

    @property
    def _lengths(self) -> Tensor:
        return torch.diff(self.begins, append=self.begins.new_tensor([len(self.order)]))

    def _back(self, in_order: Tensor) -> Tensor:
        """What belongs to each place in the order, at the positions of the numbers."""
        return torch.empty_like(in_order).scatter_(0, self.order, in_order)
