r"""Bijections of samples (n, d) in closed form, and chains of any.

Each is a module whose ``forward(x)`` gives z, (n, d), and :math:`\ln |\det J|`, (n,), both
float64, and whose ``inverse(z)`` gives x and the log-determinants of the way back.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentValueError

# Standard deviations from the median where tails begin to be drawn in.
_BEND = 3.0

_ICA_STEPS, _ICA_TOLERANCE = 100, 1e-4
# White samples are rounded to multiples of 1 / so many, before independent components are sought.
_ICA_GRID = 1 << 16

# A correlation matrix with a smaller eigenvalue is singular up to rounding.
_SINGULAR = 1e-13


class Affine(nn.Module):
    r"""The map :math:`z = A (x - \mu)`.

    Arguments:
        shift: :math:`\mu`, (d,), float64.
        matrix: A, (d, d), invertible, float64.
    """

    shift: Tensor
    matrix: Tensor
    log_det: Tensor

    def __init__(self, shift: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("matrix", matrix)
        self.register_buffer("log_det", torch.linalg.slogdet(matrix).logabsdet)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, d) to (n, d), and the log-determinants (n,), all float64."""
        return (x.double() - self.shift) @ self.matrix.T, self.log_det.expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, with the log-determinants of this direction."""
        x = torch.linalg.solve(self.matrix, z.double().T).T + self.shift
        return x, -self.log_det.expand(len(z))


class Tails(nn.Module):
    r""":math:`y = b \sinh^{-1}((x - m) / (b s))` for median m and robust deviation s.

    Almost linear among most samples; heavy tails become such that Gaussians fit.

    Arguments:
        x: Samples (n, d), from which m and s are taken; b is 3.
    """

    middle: Tensor
    width: Tensor

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        low, middle, high = (_quantile(x, q) for q in (0.16, 0.5, 0.84))
        # Where most values coincide, the standard deviation must do.
        width = torch.where(high > low, (high - low) / 2, x.std(0))
        self.register_buffer("middle", middle)
        self.register_buffer("width", width * _BEND)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, d) to (n, d), and the log-determinants (n,), all float64."""
        u = (x.double() - self.middle) / self.width
        return _BEND * torch.asinh(u), self._log_det(u)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, with the log-determinants of this direction."""
        u = torch.sinh(y.double() / _BEND)
        return u * self.width + self.middle, -self._log_det(u)

    def _log_det(self, u: Tensor) -> Tensor:
        log_det: Tensor = (math.log(_BEND) - self.width.log() - torch.log1p(u * u) / 2).sum(1)
        return log_det


def _quantile(x: Tensor, q: float) -> Tensor:
    """A quantile of each feature; ``torch.quantile`` takes no more than 2^24 numbers."""
    return x.kthvalue(1 + round(q * (len(x) - 1)), dim=0).values


class Chain(nn.Sequential):
    """Maps, one after the other, that return ``(z, log_det)`` and have an ``inverse``."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, d) to (n, d), and the log-determinants (n,), all float64."""
        z, total = x.double(), x.new_zeros(len(x), dtype=torch.float64)
        for step in self:
            z, log_det = step(z)
            total = total + log_det
        return z, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, with the log-determinants of this direction."""
        x, total = z.double(), z.new_zeros(len(z), dtype=torch.float64)
        steps: list[Any] = list(self)
        for step in reversed(steps):
            x, log_det = step.inverse(x)
            total = total + log_det
        return x, total


def whitening(x: Tensor) -> Affine:
    """The map of samples (n, d) to mean 0 and covariance I, along axes of their correlations.

    Raises:
        ValueError: A feature is constant or a linear combination of others, as all features are
            where there are no more samples than features.
    """
    checks.require_varying(x, "x_fit")
    mean, deviation = x.mean(0), x.std(0)
    scores = (x - mean) / deviation
    values, axes = torch.linalg.eigh(scores.T @ scores / len(x))
    if values[0] < _SINGULAR * len(values):
        raise ArgumentValueError(
            "x_fit",
            f"expected linearly independent features, but of d={x.shape[1]:,} and with "
            f"n={len(x):,} samples, at least one is a linear combination of others (up to "
            "rounding). Drop such features, pass more samples, or add the noise that the "
            "measurement has.",
        )
    # An axis has no direction of its own, so that the last digits would decide: of its large
    # entries, the first is positive.
    first = (axes.abs() > axes.abs().amax(0) / 2).int().argmax(0)
    axes = axes * axes.gather(0, first.unsqueeze(0)).sign()
    return Affine(mean, (axes / values.sqrt()).T / deviation)


def independent_components(x: Tensor, rotation: Tensor, deadline: float = math.inf) -> Tensor:
    """The rotation (d, d) of white samples (n, d) to independent components, as rows.

    By the symmetric FastICA with tanh (Hyvärinen, 1999), which begins at ``rotation``, and ends
    when it stands still, after 100 steps, or when ``time.monotonic()`` is past the deadline.

    Where no components are independent, as in Gaussian data, it wanders about, and the last digits
    would decide where it ends. The samples are therefore rounded first, so that it ends at the
    same rotation in whatever units the features are.
    """
    x = (x * _ICA_GRID).round() / _ICA_GRID
    for _ in range(_ICA_STEPS):
        values = torch.tanh(x @ rotation.T)
        slopes = (1 - values.square()).mean(0)
        u, _, v = torch.linalg.svd(values.T @ x / len(x) - slopes.unsqueeze(1) * rotation)
        before, rotation = rotation, u @ v
        if ((rotation * before).sum(1).abs() > 1 - _ICA_TOLERANCE).all():
            break
        if time.monotonic() > deadline:
            break
    return rotation
