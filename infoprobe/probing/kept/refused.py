"""Calls on a device that could not be measured, which is known only when it is read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.devices import send

# The numbers that are added up, before those of the first call that was refused.
_SUMS = 4


class Refused(NamedTuple):
    """How many calls were refused, read from the device.

    Attributes:
        calls: The number of calls.
        n: The number of their samples.
        values: The number of their scalars.
        counted: The number of scalars that were to be counted.
        number: The number of the pass of the first one, from 0.
        low: The least value of the first one.
        high: The greatest value of the first one.
    """

    calls: int
    n: int
    values: int
    counted: int
    number: int
    low: float
    high: float

    @classmethod
    def of(cls, read: Tensor) -> Refused:
        """What :func:`refused_call` and :func:`together` have made, on the CPU."""
        calls, n, values, counted, number, low, high = read.tolist()
        return cls(int(calls), int(n), int(values), int(counted), int(number), low, high)


def refused_call(
    refused: Tensor, ends: Tensor, n: int, values: int, counted: int, number: int
) -> Tensor:
    """What is known of one call, if it is refused: (7,), float64.

    Arguments:
        refused: Whether it is: 0-dim, bool.
        ends: The least and the greatest value, (2,), float64.
        n: As in :class:`Refused`, and likewise the others.
        values: As in :class:`Refused`.
        counted: As in :class:`Refused`.
        number: As in :class:`Refused`.
    """
    numbers = [
        torch.full((), float(x), dtype=torch.float64, device=ends.device)
        for x in (1, n, values, counted, number)
    ]
    return torch.where(refused, torch.cat([torch.stack(numbers), ends]), 0.0)


def of_counted_samples(refused: Tensor) -> Tensor:
    """What is known of a call whose samples another call has counted."""
    return torch.cat([refused[:1], torch.zeros_like(refused[1:_SUMS]), refused[_SUMS:]])


def together(before: Tensor | None, later: Tensor) -> Tensor:
    """What is known of all calls: the sums, and the first one."""
    if before is None:
        return later
    later = send(later, before.device)
    first = torch.where(before[0] > 0, before, later)
    return torch.cat([(before + later)[:_SUMS], first[_SUMS:]])
