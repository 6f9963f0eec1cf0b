r"""Dependence of single features on each other that is not that of a Gaussian copula.

In many dimensions, an estimate that looks at all features together may miss that one of them is a
wave, a square or the width of another. Two features alone show it. Each is carried to a uniform
one by its ranks, and expanded in :math:`\varphi_a(u) = \sqrt 2 \cos(\pi a u)`. The mean square
contingency of Pearson is the sum of the squared correlations of these,

.. math:: \chi^2 = \sum_{a \le A,\, b \le B} r_{ab}^2,

and of a Gaussian pair, :math:`\frac12 \ln(1 + \chi^2)` is the mutual information. A Gaussian
copula of the same correlation has correlations of its own (Mehler), which are taken off. For
independent data, n of these squares are chi-squared; those A and B count for which they are the
least so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.covariance import at_unit_scale
from infoprobe.estimators.ranks import normal_scores
from infoprobe.findings import Finding

# Up to which order features are expanded, in steps; and how many functions there may be in all.
_ORDERS, _MOST_FUNCTIONS = (1, 2, 4, 8, 16, 32), 2048
# The most samples that are looked at, and the fewest.
_MOST, _LEAST = 4000, 50
# How seldom data of a Gaussian copula may show a pair.
_CHANCE = 1e-4
# By how much correlated features raise the variance of a product of two functions at most.
_VARIANCE = 1.5
# Features that are correlated more than this are hardly anything but that.
_LINEAR = 0.98
# How many standard errors of a correlation are taken off.
_CERTAIN = 4.0
# How many orders of Mehler's series are added up, on how many points.
_SERIES, _POINTS = 200, 20_000
# At so many correlations on either side of 0 it is found.
_GRID = 256
# The share of samples from which on values that repeat leave no ranks to compare.
_TIES = 0.05
# From how many nats on dependence that an estimate does not show is worth a finding, and makes the
# number meaningless; and which share of it does so.
_NATS, _MUCH, _SHARE = 0.1, 1.0, 0.5


class FeaturePairs(NamedTuple):
    """Features that depend on each other.

    Attributes:
        least: How much information two of them share, at least, in nats.
        beyond: For the strongest pairs, of which no two have a feature in common, how much more
            that is than a Gaussian copula would have.
    """

    least: float
    beyond: list[float]


def dependent_features(x: Tensor, y: Tensor) -> FeaturePairs:
    """How features of x and of y, (n, d) each, depend on each other."""
    step = math.ceil(len(x) / _MOST)
    x, y = uniform(x[::step]), uniform(y[::step])
    n, dx, dy = len(x), x.shape[1], y.shape[1]
    most = min(_MOST_FUNCTIONS // max(dx, dy), n // 4)
    orders = [order for order in _ORDERS if order <= most]
    if n < _LEAST or not orders:
        return FeaturePairs(0.0, [])
    k = orders[-1]
    found = (waves(x, k).T @ waves(y, k) / n).view(dx, k, dy, k).transpose(1, 2)
    of_x, of_y = (torch.nn.functional.normalize(torch.special.ndtri(u), dim=0) for u in (x, y))
    rho = of_x.T @ of_y
    last = torch.tensor(orders, device=x.device) - 1

    def up_to(correlations: Tensor) -> Tensor:
        """The parts of chi-squared up to each order on either side."""
        sums = correlations.square().cumsum(-2)[..., last, :].cumsum(-1)
        return sums[..., last]

    excess = up_to(found - _gaussian(rho, k))
    cells = (last + 1).double().unsqueeze(1) * (last + 1).double()
    seldom = _CHANCE / (dx * dy * cells.numel())
    certain = (n * excess / _VARIANCE > _quantiles(cells, seldom)).flatten(2).any(2)
    nats, beyond = torch.zeros_like(rho), torch.zeros_like(rho)
    i, j = (certain & (rho.abs() < _LINEAR)).nonzero(as_tuple=True)
    if len(i):
        tail = torch.special.gammaincc(cells / 2, n * excess[i, j] / _VARIANCE / 2)
        box = tail.flatten(1).argmin(1, keepdim=True)
        for shared, squares in ((nats, up_to(found[i, j])), (beyond, excess[i, j])):
            surely = (squares - _VARIANCE * cells / n).flatten(1).gather(1, box)
            shared[i, j] = surely.squeeze(1).clamp_min(0).log1p() / 2
    # Fisher's variable has a deviation of 1 over the root of n - 3.
    linear = (rho.abs().clamp(max=1.0).atanh() - _CERTAIN / math.sqrt(n - 3)).clamp_min(0).tanh()
    least = torch.maximum(nats, -(-linear.square()).log1p() / 2)
    return FeaturePairs(float(least.max()), _apart(beyond))


def _quantiles(freedom: Tensor, chance: float) -> Tensor:
    """What chi-squared numbers of these degrees of freedom exceed with this chance."""
    from scipy.special import gammainccinv

    return torch.from_numpy(2 * gammainccinv(freedom.cpu().numpy() / 2, chance)).to(freedom.device)


def unseen_dependence(value: float, given_x: Any, given_y: Any) -> Iterator[Finding]:
    """A finding if a mutual information, in nats, lacks what single features share.

    Principal components are looked at, too: ranks of features that hardly differ lose by what
    they do.
    """
    given = [checks.as_tensor(given_x, "x"), checks.as_tensor(given_y, "y")]
    if not all(v.is_floating_point() for v in given):
        return
    x, y = (checks.samples(v, "x").detach().double() for v in given)
    y = y.to(x.device)
    missed = [(_missed(x, y, value), "features")]
    if max(x.shape[1], y.shape[1]) > 1:
        of_both = _missed(_components(x), _components(y), value)
        missed.append((of_both, "principal components"))
    (amount, least), which = max(missed)
    if amount > _NATS:
        yield Finding(
            "error" if amount > min(_MUCH, _SHARE * (value + amount)) else "warning",
            f"single {which} of x and y share {least:.2f} nats or more, and {amount:.2f} nats of "
            "such dependence are not in the estimate",
            amount,
            f"Measure these {which} by themselves, or fewer of them.",
            "x, y",
            code="unseen-dependence",
        )


def _missed(x: Tensor, y: Tensor, value: float) -> tuple[float, float]:
    """What an estimate misses of the dependence of single features; and how much two share."""
    pairs = dependent_features(x, y)
    missed = pairs.least - max(value, 0.0)
    if pairs.beyond:
        missed = max(missed, sum(pairs.beyond) - max(value - _of_copula(x, y), 0.0))
    return missed, pairs.least


def _of_copula(x: Tensor, y: Tensor) -> float:
    """The mutual information of samples (n, d) that have a Gaussian copula."""
    n, freedom = len(x), x.shape[1] * y.shape[1]
    if n <= x.shape[1] + y.shape[1]:
        return -math.inf  # nothing is known of it
    axes = [torch.linalg.qr(normal_scores(each)).Q for each in (x, y)]
    cosines = torch.linalg.svdvals(axes[0].T @ axes[1]).clamp(max=1.0)
    return float(-(-cosines.square()).log1p().sum() / 2) - freedom / (2 * n)


def _components(x: Tensor) -> Tensor:
    """The principal components of samples (n, d), whose features have the same variance."""
    scaled = at_unit_scale(x[:: math.ceil(len(x) / _MOST)])
    centred = torch.nn.functional.normalize(scaled - scaled.mean(0), dim=0)
    n, d = centred.shape
    # The axes of the products of few samples are the components themselves, but for the first,
    # which is constant.
    axes: Tensor = torch.linalg.eigh(centred.T @ centred if d < n else centred @ centred.T)[1]
    return torch.nn.functional.normalize(centred @ axes, dim=0) if d < n else axes[:, 1:]


def _apart(beyond: Tensor) -> list[float]:
    """The strongest of the pairs (d, e) that are not 0, each feature in one of them only."""
    found = []
    while (most := float(beyond.max())) > 0:
        i, j = divmod(int(beyond.argmax()), beyond.shape[1])
        beyond[i], beyond[:, j] = 0, 0
        found.append(most)
    return found


def uniform(x: Tensor) -> Tensor:
    """The ranks of the features, between 0 and 1; 1/2 where too many values repeat."""
    n = len(x)
    line = x.double().T.contiguous()
    ordered, places = line.sort(1)
    ties = (ordered.diff() == 0).double().mean(1)
    middles = (torch.arange(n, device=x.device, dtype=torch.float64) + 0.5) / n
    ranks = torch.empty_like(line).scatter_(1, places, middles.expand_as(line))
    return ranks.masked_fill((ties > _TIES).unsqueeze(1), 0.5).T


def waves(u: Tensor, k: int) -> Tensor:
    """The functions of order 1 to k of features (n, d): (n, d k)."""
    orders = math.pi * torch.arange(1, k + 1, device=u.device, dtype=u.dtype)
    waves = (u.unsqueeze(2) * orders).cos_().mul_(math.sqrt(2)).flatten(1)
    return waves - waves.mean(0)  # which is 0 but where values repeat


def _gaussian(rho: Tensor, k: int) -> Tensor:
    """The correlations of the functions, had pairs (d, e) a Gaussian copula: (d, e, k, k)."""
    table = _table().to(rho)[:, :k, :k]
    most = math.atanh(_LINEAR)
    place = (rho.clamp(-_LINEAR, _LINEAR).atanh() / most + 1) / 2 * (len(table) - 1)
    below = place.floor().clamp(max=len(table) - 2).long()
    return torch.lerp(table[below], table[below + 1], (place - below)[..., None, None])


@cache
def _table() -> Tensor:
    """The same for correlations that are evenly spaced by their Fisher variables."""
    from scipy.special import ndtri

    u = (np.arange(_POINTS) + 0.5) / _POINTS
    z = ndtri(u)
    polynomials, before, now = [], np.zeros_like(z), np.ones_like(z)
    for order in range(1, _SERIES + 1):
        before, now = now, (z * now - math.sqrt(order - 1) * before) / math.sqrt(order)
        polynomials.append(now)
    waves = math.sqrt(2) * np.cos(math.pi * np.arange(1, _ORDERS[-1] + 1)[:, None] * u)
    series = waves @ np.stack(polynomials).T / _POINTS
    most = math.atanh(_LINEAR)
    rho = np.tanh(np.linspace(-most, most, 2 * _GRID + 1))
    powers = rho[:, None] ** np.arange(1, _SERIES + 1)
    return torch.from_numpy((series * powers[:, None]) @ series.T)
