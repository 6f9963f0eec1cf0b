"""The means of what all processes have, about which their sums of squares can be added up."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.probing.processes.asking import Answered, most, total


class Means(NamedTuple):
    """Means of some groups of numbers or vectors.

    Attributes:
        n: How many there are in each group, (groups,), float64.
        mean: Their means, (groups, d), float64; 0 where there are none.
    """

    n: Tensor
    mean: Tensor


def common_means(own: Means) -> Answered[tuple[Means, Means]]:
    """The means of what all processes have, and of what all but this one have."""
    n, means = own.n, own.mean
    there = (n > 0).unsqueeze(1)
    # Means are added up as distances from one of them: so equal ones stay as they are.
    center = yield most(torch.where(there, means, -math.inf))
    numbers = yield total(n)
    apart = torch.where(there, n.unsqueeze(1) * (means - center), 0.0)
    distances = yield total(apart)

    def around(n: Tensor, distances: Tensor) -> Means:
        n = n.unsqueeze(1)
        mean = torch.where(n > 0, center + distances / n.clamp(min=1), 0.0)
        return Means(n.squeeze(1), mean)

    return around(numbers, distances), around(numbers - n, distances - apart)
