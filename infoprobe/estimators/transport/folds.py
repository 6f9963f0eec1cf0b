"""Folds of samples, and what maps that were fitted to the others make of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infoprobe.estimators.splits import split_apart
from infoprobe.estimators.transport.report import UpperBound

# One in eight of the samples that are not measured tells when to stop fitting.
_STOP = 8
# The most numbers that go through a map at a time.
_BLOCK = 1 << 20


class Part(NamedTuple):
    """The samples of a fold, carried by a map.

    Attributes:
        z: The carried samples, (n, d), in the type of the data.
        nll: The negative log-likelihood of each by the map, (n,), float64, in nats.
        reference: Their negative log-likelihood by a Gaussian, (n,), float64, in nats.
    """

    z: Tensor
    nll: Tensor
    reference: Tensor


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


def through(fitted: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a map makes of samples (n, d), and its log-determinants (n,), both float64."""
    rows = max(1, _BLOCK // x.shape[1])
    blocks = [fitted(block.double()) for block in torch.split(x, rows)]
    z, log_det = (torch.cat(part).double() for part in zip(*blocks, strict=True))
    bad = int((~(z.isfinite().all(1) & log_det.isfinite())).sum())
    if bad:
        raise FloatingPointError(
            f"x: expected a map that carries all samples to finite values, got {bad:,} of "
            f"{len(x):,} that are not: the fit diverged, or samples lie far beyond those it was "
            "fitted to. Remove outliers, or rescale."
        )
    return z, log_det


def standard_nll(z: Tensor) -> Tensor:
    """The negative log-likelihood of each sample (n, d) of a standard Gaussian, (n,)."""
    return (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


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
