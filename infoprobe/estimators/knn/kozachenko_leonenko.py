r"""Entropies and divergences from the distances to the k-th nearest neighbours.

All arguments are samples (n, d). All results are the terms (n,) in float64, one for each sample of
the first argument, whose mean is the estimate; they are differentiable. The features are measured
in units of their spreads, so that the units of the data do not decide which neighbours are near:
the entropy in those units and the logarithms of the spreads add up, and a divergence does not
depend on units. Of two samples, it is the spreads of p by which both are measured: the divergence
is a mean over p. (By the spreads of both pooled, one of 4.5 nats between normal data of which one
feature in five is shifted, is missed by 2.1 in place of 1.3.)
"""

from __future__ import annotations

import math
from typing import NoReturn

from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.knn.atoms import REMEDY, TWINS, require_density, require_untied
from infoprobe.estimators.knn.scaling import spreads
from infoprobe.estimators.special import digamma
from infoprobe.neighbors import Metric, fingerprints, occurrences_in, search

# Distances of so many spreads still have squares in float64.
_FURTHEST = 1e140


def entropy(x: Tensor, k: int, metric: Metric) -> Tensor:
    r"""Kozachenko & Leonenko (1987).

    .. math::
        \psi(n) - \psi(k) + \ln V_d + d \ln \varepsilon_i + \sum_j \ln s_j

    with distances between samples whose features are divided by their spreads :math:`s_j`.
    """
    n, d = x.shape
    require_density(x, k, "x")
    scale = _scale(x)
    distances = _own_distances(x / scale, k, metric, "x")
    constant = digamma(n) - digamma(k) + _log_volume(d, metric) + scale.log().sum()
    return constant + d * distances.log()


def kl_divergence(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    r"""Wang, Kulkarni & Verdú (2009), equation 5, with the same k in both samples."""
    n, d = p.shape
    require_density(p, k, "p")
    _require_apart(p, q, k)
    scale = _scale(p)
    p, q = _scaled(p, q, scale)
    own = _own_distances(p, k, metric, "p")
    other = _distances_from(p, q, k, metric)
    return d * (other.log() - own.log()) + math.log(len(q) / (n - 1))


def cross_entropy(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    """The sum of the entropy and the divergence, in which the distances within p cancel."""
    n, d = p.shape
    _require_apart(p, q, k)
    scale = _scale(p)
    other = _distances_from(*_scaled(p, q, scale), k, metric)
    constant = digamma(n) - digamma(k) + _log_volume(d, metric) + math.log(len(q) / (n - 1))
    return constant + d * other.log() + scale.log().sum()


def _scale(x: Tensor) -> Tensor:
    """The spreads of the features; of a single one, 1, since nothing depends on it."""
    return spreads(x) if x.shape[1] > 1 else x.new_ones(1).double()


def _scaled(p: Tensor, q: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Two samples in units of the spreads of p, or an error if their distances overflow."""
    p, q = p / scale, q / scale
    furthest = float(q.detach().abs().max() + p.detach().abs().max())
    if furthest > _FURTHEST:
        raise ArgumentValueError(
            "p, q",
            f"expected no feature in which q is {_FURTHEST:g} times as far away as p spreads, got "
            f"{furthest:.3g}, whose square float64 cannot hold. Leave this feature out.",
        )
    return p, q


def _log_volume(d: int, metric: Metric) -> float:
    """The logarithm of the unit ball's volume, which itself underflows in many dimensions."""
    if metric == "chebyshev":
        return d * math.log(2)
    return d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)


def _own_distances(x: Tensor, k: int, metric: Metric, name: str) -> Tensor:
    distances = search([x], k, None, metric).distances[:, -1]
    # Differences may be too small for their squares.
    require_untied(distances.unsqueeze(1) == 0, k, name)
    return distances


def _require_apart(p: Tensor, q: Tensor, k: int) -> None:
    """Raises a ValueError if p and q share samples."""
    shared = occurrences_in(fingerprints(q), fingerprints(p))
    for least, tolerated in ((k, 0.0), (1, TWINS)):
        found = int((shared >= least).sum())
        if found > tolerated * len(p):
            _refuse_shared(found, least, len(p))


def _distances_from(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    distances = search([q], k, [p], metric).distances[:, -1]
    if found := int((distances == 0).sum()):
        _refuse_shared(found, k, len(p))
    return distances


def _refuse_shared(found: int, least: int, n: int) -> NoReturn:
    raise ArgumentValueError(
        "p, q",
        f"expected independent samples of two continuous variables, but {found:,} "
        f"of {n:,} samples of p coincide with at least k={least} of q. {REMEDY}",
    )
