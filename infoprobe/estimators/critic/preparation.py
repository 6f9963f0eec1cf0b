"""What a critic is given: samples, split and standardised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from infoprobe.devices import ascending
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.splits import split_apart

_MOST_VALIDATION = 2000  # samples, since all pairs of them are looked at
_OUTLIER = 5.0  # standard deviations beyond which a value is clipped

Split: TypeAlias = tuple[Tensor, Tensor, Tensor]


def sizes(n: int, validation: float, held_out: float, name: str) -> tuple[int, int, int]:
    """How many of ``n`` samples are for training, validation and the value.

    Raises:
        ValueError: There are too few samples for these shares.
    """
    smallest = min(validation, held_out, 1 - validation - held_out)
    needed = math.ceil(3 / smallest)  # leaves two, whichever way shares are rounded
    if n < needed:
        raise ArgumentValueError(
            name,
            f"expected at least {needed:,} samples with "
            f"validation={validation} and held_out={held_out}, got {n:,}. "
            "A neural bound is worth little below some thousands.",
        )
    validating = min(round(n * validation), _MOST_VALIDATION)
    valued = round(n * held_out)
    return n - validating - valued, validating, valued


def split(
    factors: Sequence[Tensor],
    validation: float,
    held_out: float,
    name: str,
    generator: torch.Generator,
) -> Split:
    """The indices of the three parts of samples (n, d_f), drawn at random, copies together."""
    n = len(factors[0])
    order = torch.randperm(n, generator=generator, device="cpu").to(factors[0].device)
    parts = split_apart(order, sizes(n, validation, held_out, name), factors)
    training, validating, valued = (part.cpu() for part in parts)
    if min(len(training), len(validating), len(valued)) < 2:
        raise ArgumentValueError(
            name,
            f"expected different samples to be held out, but nearly all {n:,} are copies of few "
            "rows. Remove the copies.",
        )
    return training, validating, valued


def standardised(x: Tensor, training: Tensor, name: str) -> Tensor:
    r"""``x`` as float32, with the tails of its features shortened, at mean 0 and deviation 1.

    With the training samples' median m and distance s of their quartiles, a feature becomes
    :math:`\operatorname{arsinh}((x - m) / s)`, whose mean and deviation in training are then taken
    out. Such bijections keep information and divergence. Where the quartiles are equal, s is the
    span. Features that are constant in training become 0, since a critic has learned nothing about
    them, and outliers are clipped.
    """
    line = ascending(training.detach(), 0).double()
    low, first, median, third, high = (line[(len(line) - 1) * i // 4] for i in range(5))
    constant = low == high
    span = torch.where(constant, 1, high - low)
    if not span.isfinite().all() or float(span.max()) > torch.finfo(x.dtype).max:
        raise ArgumentValueError(
            name,
            f"the values span {low.min().item()} to {high.max().item()}, which overflows "
            f"{x.dtype}. Rescale them.",
        )
    scale = torch.where(first == third, span, third - first)
    unit = ((line - median) / scale).asinh()
    deviation = torch.where(constant, math.inf, unit.std(0))
    tamed = ((x.double() - median) / scale).asinh()
    return ((tamed - unit.mean(0)) / deviation).clamp(-_OUTLIER, _OUTLIER).float()
