r"""Means and covariances, and unbiased estimates of what depends on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError

# A feature whose part that the others do not explain is below this many roundings is redundant.
_ROUNDINGS = 64
# Squares below it have fewer digits than others, and the least have none.
_LEAST_SQUARE = torch.finfo(torch.float64).tiny / torch.finfo(torch.float64).eps


def at_unit_scale(x: Tensor, dim: int | None = 0) -> Tensor:
    """Samples (n, d) in float64, in units in which squares neither overflow nor vanish.

    The units are powers of two, so that no digit is lost.

    Arguments:
        x: The samples.
        dim: 0 for a unit for each feature; ``None`` for one that all have in common.
    """
    x = x.double()
    largest = x.abs().amax() if dim is None else x.abs().amax(dim)
    exponents = torch.frexp(largest).exponent
    half = exponents // 2  # the power as a whole may be too large
    return torch.ldexp(torch.ldexp(x, -half), half - exponents)


def rank_of(x: Tensor) -> int:
    """How many dimensions samples (n, d) span up to rounding, if no feature is constant."""
    scaled = at_unit_scale(x)
    centred = scaled - scaled.mean(0)
    singular: Tensor = torch.linalg.svdvals(centred / centred.norm(dim=0))
    return int((singular > math.sqrt(_ROUNDINGS * x.shape[1]) * torch.finfo(x.dtype).eps).sum())


def ledoit_wolf(centred: Tensor) -> Tensor:
    """The weight that minimises the expected squared error of a shrunk covariance."""
    n, d = centred.shape
    # The products of samples have the same trace and the same squares as those of features.
    products = (centred.T @ centred if d <= n else centred @ centred.T) / n
    squares = products.square().sum()
    distance = squares - products.trace().square() / d
    error = (centred.square().sum(1).square().mean() - squares) / n
    # Where the covariance is the target, any weight will do.
    given = distance > 0
    weight = (error / torch.where(given, distance, 1.0)).clamp(max=1)
    return torch.where(given, weight, 0.0)


@dataclass(frozen=True, eq=False)
class Fit:
    """A mean and a scatter matrix, for unbiased estimates; or a covariance to plug in."""

    n: int
    mean: Tensor
    matrix: Tensor
    unbiased: bool
    name: str
    rounding: float

    @property
    def d(self) -> int:
        """The number of features."""
        return len(self.mean)

    def marginal(self, features: Tensor) -> Fit:
        """The fit of some of the features."""
        matrix = self.matrix[features][:, features]
        return replace(self, mean=self.mean[features], matrix=matrix)

    def entropy(self) -> Tensor:
        """The entropy of a Gaussian with this covariance."""
        return (self.d * math.log(2 * math.pi * math.e) + self.log_det) / 2

    @property
    def entropy_of_features(self) -> Tensor:
        """The sum of the entropies that Gaussians with the variances of single features have."""
        log_variances = self.matrix.diagonal().log()
        if self.unbiased:
            half = torch.as_tensor((self.n - 1) / 2, dtype=torch.float64, device="cpu")
            log_variances = log_variances - math.log(2) - float(torch.special.digamma(half))
        return (self.d * math.log(2 * math.pi * math.e) + log_variances.sum()) / 2

    def cross_entropy_of(self, p: Fit) -> Tensor:
        r"""The cross-entropy of this fit relative to another fit ``p``."""
        constant = self.d * math.log(2 * math.pi)
        shift = self.mean - p.mean
        if not self.unbiased:
            trace, distance = self._solve(p.matrix).trace(), shift @ self._solve(shift)
            return (constant + self.log_det + trace + distance) / 2
        degrees = self.n - self.d - 2
        if degrees < 1:
            raise ArgumentValueError(
                self.name,
                f"expected at least d + 3 = {self.d + 3:,} samples, got {self.n:,}. "
                "Pass more of them, fewer features, or shrinkage='ledoit-wolf'.",
            )
        trace = degrees * self._solve(p.matrix / (p.n - 1)).trace()
        # The errors of the two means add to the distance in expectation, which is taken off.
        distance = degrees * (shift @ self._solve(shift)) - trace / p.n - self.d / self.n
        return (constant + self.log_det + trace + distance) / 2

    @property
    def log_det(self) -> Tensor:
        r""":math:`\ln |\Sigma|`."""
        log_det = 2 * self._factor.diagonal().log().sum()
        if self.unbiased:
            degrees = self.n - torch.arange(1, self.d + 1, device=log_det.device)
            half = degrees.to(torch.float64) / 2
            log_det = log_det - torch.special.digamma(half).sum() - self.d * math.log(2)
        return log_det

    def _solve(self, matrix: Tensor) -> Tensor:
        columns = matrix if matrix.dim() == 2 else matrix.unsqueeze(1)
        return torch.cholesky_solve(columns, self._factor).view_as(matrix)

    @cached_property
    def _factor(self) -> Tensor:
        """The Cholesky factor of the matrix."""
        if self.unbiased and self.n <= self.d:
            raise ArgumentValueError(
                self.name,
                f"expected more samples than features, got n={self.n:,} and "
                f"d={self.d:,}. Pass more samples, fewer features, or shrinkage='ledoit-wolf'.",
            )
        squares = self.matrix.diagonal()
        if self.unbiased and bool((squares.detach() < _LEAST_SQUARE).any()):
            raise ArgumentValueError(
                self.name,
                "expected features whose squared deviations fit into float64, got a sum of "
                f"{float(squares.detach().min()):.3g}. Rescale such features, and add the "
                "logarithms of the scales to an entropy.",
            )
        deviations = squares.sqrt()
        factor, failed = torch.linalg.cholesky_ex(self.matrix / deviations.outer(deviations))
        unexplained = factor.detach().diagonal().square()
        redundant = int((~(unexplained > _ROUNDINGS * self.d * self.rounding)).sum())
        if failed or redundant:
            raise ArgumentValueError(
                self.name,
                f"expected linearly independent features, but at least "
                f"{max(redundant, 1):,} of {self.d:,} is a linear combination of others (up to "
                "rounding), so that the entropy is minus infinity, and an information it shares "
                "infinite. Drop such features, add the noise that the measurement has, or use "
                "shrinkage.",
            )
        root: Tensor = deviations.unsqueeze(1) * factor
        return root
