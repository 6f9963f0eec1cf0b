r"""Dependence that is not Gaussian, by moments of third and fourth order.

Of whitened samples z, the mean of the tensor of Hermite polynomials of order k is 0 if they are
Gaussian. Its square over k! is the mean over pairs of samples of a kernel :math:`h_k(z, z')`, the
coefficient of :math:`t^k` in Mehler's kernel,

.. math::
    (1 - t^2)^{-d/2} \exp \frac{t\, z \cdot z' - t^2 (|z|^2 + |z'|^2) / 2}{1 - t^2}
    = \sum_k t^k h_k(z, z'),

so that all :math:`d^k` moments take no more than the products of all pairs. For small deviations,
half the sum over k is by how much less entropy there is than of a Gaussian with this covariance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.estimators.covariance import at_unit_scale

# The most samples of which all pairs are looked at.
_MOST = 2000

# Of so many samples at a time, all pairs stay in the cache.
_ROWS = 64

# From how many standard deviations on, moments are not those of Gaussian samples.
_SIGNIFICANT = 5.0


class Moments(NamedTuple):
    """What moments of third and fourth order tell, with k = 3 and 4 in this order.

    Attributes:
        nats: Half the squared moments of order k over k!, unbiased.
        chance: The standard deviations that these have for Gaussian samples.
        errors: Their standard errors.
    """

    nats: Tensor
    chance: Tensor
    errors: Tensor

    @property
    def significant(self) -> float:
        """The nats of those orders whose moments are not those of Gaussian samples."""
        return float(self.nats[self.nats > _SIGNIFICANT * self.chance].sum())

    def beyond(self, other: Moments) -> float:
        """The nats of those orders of which there is more than in independent samples."""
        more = self.nats - other.nats
        return float(more[more > _SIGNIFICANT * self.errors.hypot(other.errors)].sum())


def moments(x: Tensor) -> Moments:
    """The moments of samples (n, d), n > d, without features that are redundant."""
    z = at_unit_scale(x[:: math.ceil(len(x) / _MOST)])
    n = len(z)
    z = z - z.mean(0)
    factor = torch.linalg.cholesky(z.T @ z / n)
    z = torch.linalg.solve_triangular(factor, z.T, upper=False).T
    squares = z.square().sum(1)
    parts = [
        _kernels(z, squares, rows) for rows in torch.split(torch.arange(n, device=z.device), _ROWS)
    ]
    of_kernels = torch.cat(parts, 2)
    return Moments(*torch.stack([_mean_of_pairs(*each) for each in of_kernels], 1))


def _kernels(z: Tensor, squares: Tensor, rows: Tensor) -> Tensor:
    """Sums over the pairs of some samples (m,) with the others: (2, 2, m).

    Those of the kernel of third order and of its square, then those of fourth order.
    """
    half = z.shape[1] / 2
    products = z[rows] @ z.T
    sums = squares[rows].unsqueeze(1) + squares
    squared = products.square()
    cubic = (squared / 6).sub_(sums, alpha=0.5).add_(1 + half).mul_(products)
    quartic = (squared / 24).sub_(sums, alpha=0.25).add_(1 + half / 2).mul_(squared)
    quartic += (sums / 8).sub_((1 + half) / 2).mul_(sums).add_(half / 2 + half**2 / 2)
    kernels = torch.stack([cubic, quartic])
    kernels[:, torch.arange(len(rows), device=z.device), rows] = 0
    return torch.stack([kernels.sum(2), kernels.square().sum(2)], 1)


def mean_of(parts: Sequence[Moments]) -> Moments:
    """The mean over several samples."""
    nats, chance, errors = (torch.stack(each) for each in zip(*parts, strict=True))
    n = len(parts)
    return Moments(nats.mean(0), chance.norm(dim=0) / n, errors.norm(dim=0) / n)


def _mean_of_pairs(sums: Tensor, squares: Tensor) -> Tensor:
    """Half the mean over pairs of n samples, its deviation by chance, and its error: (3,).

    Arguments:
        sums: The sum of a kernel over the pairs of each sample, (n,).
        squares: That of its square.
    """
    n = len(sums)
    means = sums / (n - 1)
    chance = 2 * squares.sum() / (n * (n - 1)) / n**2
    return torch.stack([means.mean(), chance.sqrt(), (4 * means.var() / n + chance).sqrt()]) / 2
