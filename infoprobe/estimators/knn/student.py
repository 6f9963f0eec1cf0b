r"""Student copulas fitted to data: they have information in closed form and are easily drawn.

A Student vector of :math:`\nu` degrees of freedom is a Gaussian vector, divided by the root of one
common chi-squared number over :math:`\nu`, so that its features are extreme together. With
:math:`\nu = \infty` it is Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from infoprobe.estimators.knn import surrogates
from infoprobe.estimators.ranks import doubled_ranks, normal_scores
from infoprobe.estimators.special import digamma

# The degrees of freedom among which a fit looks, and how exactly, as logarithms.
_FEWEST, _MOST, _EXACTNESS = math.log(0.5), math.log(60.0), 0.02

# By how much a Student copula must raise the log-likelihood of all samples: a Gaussian copula is
# taken for one about once in thousand times.
_EVIDENCE = 6.0

# Steps of fixed-point iteration for the dispersion, while looking and at the end.
_STEPS, _LAST_STEPS = 4, 10


class Copula(NamedTuple):
    """A Student copula that was fitted to variables.

    Attributes:
        freedom: The degrees of freedom; infinite for a Gaussian copula.
        samples: The variables as they would be, had each sample been Gaussian: what matters is
            their covariance, the dispersion of the copula.
    """

    freedom: float
    samples: list[Tensor]

    def draw(self, repeats: int, seed: int) -> Iterator[list[Tensor]]:
        """Normal scores of surrogates that have this copula."""
        from scipy.special import gammaincinv

        generator = torch.Generator("cpu").manual_seed(~seed)
        for parts in surrogates.paired(self.samples, repeats, seed):
            if self.freedom < math.inf:
                shape = len(parts[0]), 1
                u = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")
                half = torch.from_numpy(gammaincinv(self.freedom / 2, u.numpy()))
                divisors = (half * 2 / self.freedom).sqrt().to(parts[0])
                parts = [part / divisors for part in parts]
            yield [normal_scores(part) for part in parts]

    def excess_information(self) -> float:
        """By how much the information exceeds that of a Gaussian copula of the same dispersion.

        Of one variable it is the total correlation, of two the mutual information, and of three
        the information of the first two given the third.
        """
        widths = [x.shape[1] for x in self.samples]
        d = sum(widths)
        if len(widths) == 1:
            widths = [1] * d
        first, condition = (widths[:2], widths[2]) if len(self.samples) == 3 else (widths, 0)
        marginals = sum(excess_entropy(width + condition, self.freedom) for width in first)
        whole = excess_entropy(d, self.freedom)
        return marginals - excess_entropy(condition, self.freedom) - whole


def excess_entropy(d: int, freedom: float) -> float:
    r"""The entropy of a Student vector less that of a Gaussian one with the same dispersion.

    .. math:: \ln \frac{\Gamma(\nu / 2)}{\Gamma((\nu + d) / 2)} + \frac d2 \ln \frac{\nu}{2 e}
        + \frac{\nu + d}{2} \left[\psi\left(\tfrac{\nu + d}{2}\right)
        - \psi\left(\tfrac{\nu}{2}\right)\right]

    Arguments:
        d: The number of features; with none, the result is 0.
        freedom: The degrees of freedom :math:`\nu`.

    References:
        R. Arellano-Valle, J. Contreras-Reyes & M. Genton (2013). Shannon entropy and mutual
        information for multivariate skew-elliptical distributions. Scand. J. Statistics 40(1),
        42-62.
    """
    if freedom == math.inf:
        return 0.0
    few, many = freedom / 2, (freedom + d) / 2
    constant = math.lgamma(few) - math.lgamma(many) + d / 2 * (math.log(few) - 1)
    return constant + many * (digamma(many) - digamma(few))


def fit(scores: Sequence[Tensor]) -> Copula:
    """The likeliest copula of variables given by their normal scores, (n, d) each.

    It is Gaussian unless a Student copula is likelier beyond doubt.
    """
    from scipy.optimize import minimize_scalar

    joint = torch.cat([x.to(scores[0].device) for x in scores], 1)
    ranks = doubled_ranks(joint)
    gaussian = Copula(math.inf, list(scores))
    start = _correlations(joint.double())
    factor, failed = torch.linalg.cholesky_ex(start)
    if failed:
        return gaussian
    least = len(joint) * -float(factor.diagonal().log().sum()) + _EVIDENCE

    def likelihood(log_freedom: float) -> float:
        return _fit(ranks, math.exp(log_freedom), start, _STEPS)[0]

    if likelihood(_MOST) < least - _EVIDENCE:
        return gaussian
    found = minimize_scalar(
        lambda log_freedom: -likelihood(log_freedom),
        bounds=(_FEWEST, _MOST),
        method="bounded",
        options={"xatol": _EXACTNESS},
    )
    if -found.fun < least:
        return gaussian
    freedom = math.exp(found.x)
    value, samples = _fit(ranks, freedom, start, _LAST_STEPS)
    if value == -math.inf:
        return gaussian
    widths = [x.shape[1] for x in scores]
    return Copula(freedom, list(torch.split(samples.to(joint.dtype), widths, 1)))


def _fit(ranks: Tensor, freedom: float, start: Tensor, steps: int) -> tuple[float, Tensor]:
    """The log-likelihood of all samples at some degrees of freedom, and their Gaussian parts."""
    from scipy.special import stdtrit

    n, d = ranks.shape
    quantiles = np.arange(2 * n) / (2 * n)
    line = torch.from_numpy(stdtrit(freedom, quantiles)).to(ranks.device)
    scores = line[ranks]
    dispersion, samples = start, scores
    for _ in range(steps + 1):
        factor, failed = torch.linalg.cholesky_ex(dispersion)
        if failed:  # some features are nearly functions of others
            return -math.inf, samples
        white = torch.linalg.solve_triangular(factor, scores.T, upper=False)
        radii = white.square().sum(0)
        samples = scores * ((freedom + d) / (freedom + radii)).sqrt().unsqueeze(1)
        dispersion = _correlations(samples)
    few, more, many = freedom / 2, (freedom + 1) / 2, (freedom + d) / 2
    constant = math.lgamma(many) - d * math.lgamma(more) + (d - 1) * math.lgamma(few)
    joint = many * (radii / freedom).log1p()
    alone = more * (scores.square() / freedom).log1p().sum(1)
    value = (alone - joint).sum() + n * (constant - factor.diagonal().log().sum())
    return float(value), samples


def _correlations(x: Tensor) -> Tensor:
    """Correlations of features whose mean is known to be 0."""
    scatter = x.T @ x
    deviations = scatter.diagonal().sqrt()
    return scatter / deviations.outer(deviations)
