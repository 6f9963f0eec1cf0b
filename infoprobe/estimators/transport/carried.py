"""Samples that a map has carried, and what a residual estimator makes of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from infoprobe.estimators.protocols import (
    CrossEntropyEstimator,
    EntropyEstimator,
    InformationEstimator,
)

# The most numbers that go through a map at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Carried:
    """Samples, carried by a map.

    Attributes:
        z: The carried samples, (n, d), in the type of the data.
        exact: The same in float64.
        log_det: The log-determinants of the map there, (n,), float64.
    """

    z: Tensor
    exact: Tensor
    log_det: Tensor

    @property
    def device(self) -> torch.device:
        """Where the samples are."""
        return self.z.device

    @property
    def nll(self) -> Tensor:
        """The negative log-likelihood of each sample by the map, (n,), float64, in nats."""
        return standard_nll(self.exact) - self.log_det

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: Tensor) -> Carried:
        return Carried(self.z[rows], self.exact[rows], self.log_det[rows])


def through(fitted: nn.Module, x: Tensor) -> Carried:
    """What a map makes of samples (n, d)."""
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
    return Carried(z.to(x.dtype), z, log_det)


def standard_nll(z: Tensor) -> Tensor:
    """The negative log-likelihood of each sample (n, d) of a standard Gaussian, (n,)."""
    return (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


def entropy_of(residual: EntropyEstimator, x: Carried) -> Tensor:
    """The entropy of x, before it was carried."""
    return residual.entropy(x.z) - x.log_det.mean()


def information_of(residual: EntropyEstimator, x: Carried, y: Carried) -> Tensor:
    """The information of x and y, each carried by a map of its own."""
    return cast("InformationEstimator", residual).mutual_information(x.z, y.z)


def cross_entropy_of(residual: EntropyEstimator, p: Carried, q: Carried) -> Tensor:
    """The cross-entropy of p and q, both carried by one map."""
    carried = cast("CrossEntropyEstimator", residual).cross_entropy(p.z, q.z)
    return carried - p.log_det.mean()


def divergence_of(residual: EntropyEstimator, own: Carried, p: Carried, q: Carried) -> Tensor:
    """The divergence of p and q, both by the map of q, and of p by its own map."""
    return cross_entropy_of(residual, p, q) - entropy_of(residual, own)


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """Outside of the caller's graph, in full precision, and where modules may be trained."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield
