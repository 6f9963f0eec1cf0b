"""What a critic is given: samples, split and standardised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

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
    """``x`` as float32, less the training samples' mean and over their standard deviation.

    Features that are constant in training become 0, since a critic has learned nothing about
    them, and outliers are clipped.
    """
    low, high = training.detach().aminmax(dim=0)
    constant = low == high
    span = torch.where(constant, 1, high - low)
    if not span.isfinite().all():
        raise ArgumentValueError(
            name,
            f"the values span {low.min().item()} to {high.max().item()}, which overflows "
            f"{x.dtype}. Rescale them.",
        )
    unit = ((training.detach() - low) / span).double()  # whose squares are within range
    deviation = torch.where(constant, math.inf, unit.std(0))
    standardised = ((x - low) / span - unit.mean(0)) / deviation
    return standardised.clamp(-_OUTLIER, _OUTLIER).float()
