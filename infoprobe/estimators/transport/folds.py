"""Folds of samples, and means over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.estimators.splits import split_apart
from infoprobe.estimators.transport.carried import standard_nll
from infoprobe.estimators.transport.report import UpperBound

# One in eight of the samples that are not measured tells when to stop fitting.
_STOP = 8


class Fold(NamedTuple):
    """The indices of the samples that a map is fitted to, is stopped by, and measures."""

    fit: Tensor
    stop: Tensor
    measure: Tensor


def split(factors: Sequence[Tensor], folds: int, seed: int) -> list[Fold]:
    """Folds of a random order of samples (n, d_f), in which copies stay together."""
    generator = torch.Generator("cpu").manual_seed(seed)
    n, device = len(factors[0]), factors[0].device
    order = torch.randperm(n, generator=generator, device="cpu").to(device)
    parts = split_apart(order, [len(part) for part in order.tensor_split(folds)], factors)
    found = []
    for i, part in enumerate(parts):
        others = torch.cat([*parts[:i], *parts[i + 1 :]])
        few = len(others) // _STOP
        stop, fit = split_apart(others, [few, len(others) - few], factors)
        found.append(Fold(fit, stop, part))
    return found


def gaussian_nll(x: Tensor, known: Tensor) -> Tensor:
    """The same of a Gaussian with the mean and covariance of the known samples."""
    x, known = x.double(), known.double()
    mean = known.mean(0)
    centred = known - mean
    factor = torch.linalg.cholesky(centred.T @ centred / len(known))
    z = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False).T
    nll: Tensor = standard_nll(z) + factor.diagonal().log().sum()
    return nll


def bound_of(values: Tensor) -> UpperBound:
    """The mean of independent values (n,) and its standard error."""
    return UpperBound(values.mean(), values.std() / math.sqrt(len(values)))


def weighted_mean(values: Sequence[Tensor], weights: Sequence[int]) -> Tensor:
    """The mean of 0-dim values, 0-dim float64."""
    shares = torch.tensor(weights, dtype=torch.float64, device=values[0].device) / sum(weights)
    return torch.stack(list(values)).double() @ shares
