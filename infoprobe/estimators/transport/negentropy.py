r"""How far single features are from Gaussian, and how far Gaussian samples seem to be."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from infoprobe.devices import ascending

Statistic: TypeAlias = Callable[[Tensor], Tensor]

# Gaussian samples that tell a null distribution, and how many of them are made at a time.
_DRAWS, _BLOCK = 2000, 50

_SEED = 0

_GAUSSIAN = math.log(2 * math.pi * math.e) / 2


class Null(NamedTuple):
    """The mean and the standard deviation of a statistic of Gaussian samples."""

    mean: float
    deviation: float


def spacings(x: Tensor) -> Tensor:
    r"""By how much the entropy of each feature seems to fall short of a Gaussian's.

    .. math:: \tfrac12 \ln 2 \pi e s^2
        - \frac1n \sum_{i=1}^n \ln \frac{n}{2m} \left(x_{(i+m)} - x_{(i-m)}\right)

    with the sample variance :math:`s^2`, the order statistics :math:`x_{(i)}` (beyond the ends
    the outermost are repeated), and m a third of the root of n (Vasicek, 1976), which
    varies least. Sees every kind of deviation, but needs a large one.

    Arguments:
        x: Samples, (n, d), n at least 4, without constant features.

    Returns:
        (d,), in nats, float64. Biased upwards, see :func:`null`; invariant under shift and scale.

    References:
        O. Vasicek (1976). A test for normality based on sample entropy. J. Royal Statistical
        Society B 38(1), 54-59.
    """
    line = ascending(x.T, 1).double()
    n = line.shape[1]
    m = max(1, math.isqrt(n) // 3)
    up = torch.cat([line[:, m:], line[:, -1:].expand(-1, m)], 1)
    down = torch.cat([line[:, :1].expand(-1, m), line[:, :-m]], 1)
    entropies = ((up - down) * (n / (2 * m))).log().mean(1)
    return _GAUSSIAN + line.std(1, correction=0).log() - entropies


def moments(x: Tensor) -> Tensor:
    r"""Hyvärinen's approximation of the same from two moments of the standardised feature u.

    .. math:: \frac{36}{8 \sqrt 3 - 9} \left(\mathbb E\, u e^{-u^2/2}\right)^2
        + \frac{24}{16 \sqrt 3 - 27} \left(\mathbb E\, e^{-u^2/2} - \sqrt{1/2}\right)^2

    It sees much smaller deviations, of asymmetry and of sparseness, but no others. Arguments and
    result as of :func:`spacings`.

    References:
        A. Hyvärinen (1998). New approximations of differential entropy for independent component
        analysis and projection pursuit. NeurIPS 10, 273-279.
    """
    values = x.double()
    u = (values - values.mean(0)) / values.std(0, correction=0)
    bell = (-u.square() / 2).exp()
    odd = (u * bell).mean(0).square() * (36 / (8 * math.sqrt(3) - 9))
    even = (bell.mean(0) - math.sqrt(0.5)).square() * (24 / (16 * math.sqrt(3) - 27))
    return odd + even


@functools.cache
def null(statistic: Statistic, n: int) -> Null:
    """The distribution of a statistic of n Gaussian samples, whatever their mean and variance."""
    generator = torch.Generator().manual_seed(_SEED)
    shape = (n, _BLOCK)
    values = torch.cat(
        [
            statistic(torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu"))
            for _ in range(_DRAWS // _BLOCK)
        ]
    )
    return Null(float(values.mean()), float(values.std()))


def significance(x: Tensor) -> float:
    r"""By how many standard deviations negentropies exceed the ones that Gaussian features show.

    The larger, of both statistics J, of

    .. math:: \frac{\sum_i (J_i - \mathbb E_0 J)}
        {\sigma_0 \sqrt{\sum_{ij} r_{ij}^6 + d^2 / 2000}}

    with the sample correlations :math:`r_{ij}`. Of Gaussian samples, J tells what is orthogonal to
    polynomials of degree 2, and is mostly quadratic in that, so that the J of two features
    correlate by no more than about :math:`r^6`. The last term is the error of the expectation,
    which comes from 2,000 samples.

    Arguments:
        x: Samples, (n, d), n at least 4, without constant features.
    """
    n, d = x.shape
    correlations = torch.corrcoef(x.double().T).reshape(d, d)
    spread = (correlations.pow(6).sum() + d**2 / _DRAWS).sqrt()
    excess = []
    for statistic in (spacings, moments):
        mean, deviation = null(statistic, n)
        excess.append((statistic(x) - mean).sum() / (deviation * spread))
    return float(torch.stack(excess).max())
