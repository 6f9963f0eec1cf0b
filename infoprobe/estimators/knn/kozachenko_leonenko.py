r"""Entropies and divergences from the distances to the k-th nearest neighbours.

All arguments are samples (n, d), all results 0-dim float64 tensors, differentiable.
"""

from __future__ import annotations

import math

from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.knn.atoms import REMEDY, require_untied
from infoprobe.estimators.special import digamma
from infoprobe.neighbors import Metric, search

# Some samples may have a twin (float32 does not have many numbers), but no more than this share.
_TWINS = 0.2


def entropy(x: Tensor, k: int, metric: Metric) -> Tensor:
    r"""Kozachenko & Leonenko (1987).

    .. math:: \psi(n) - \psi(k) + \ln V_d + \frac dn \sum_i \ln \varepsilon_i
    """
    n, d = x.shape
    distances = _own_distances(x, k, metric, "x")
    return digamma(n) - digamma(k) + _log_volume(d, metric) + d * distances.log().mean()


def kl_divergence(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    r"""Wang, Kulkarni & Verdú (2009), equation 5, with the same k in both samples."""
    n, d = p.shape
    own = _own_distances(p, k, metric, "p")
    other = _distances_from(p, q, k, metric)
    return d * (other.log() - own.log()).mean() + math.log(len(q) / (n - 1))


def cross_entropy(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    """The sum of the entropy and the divergence, in which the distances within p cancel."""
    n, d = p.shape
    other = _distances_from(p, q, k, metric)
    constant = digamma(n) - digamma(k) + _log_volume(d, metric) + math.log(len(q) / (n - 1))
    return constant + d * other.log().mean()


def _log_volume(d: int, metric: Metric) -> float:
    """The logarithm of the unit ball's volume, which itself underflows in many dimensions."""
    if metric == "chebyshev":
        return d * math.log(2)
    return d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)


def _own_distances(x: Tensor, k: int, metric: Metric, name: str) -> Tensor:
    distances = search([x], k, None, metric).distances
    require_untied(distances[:, -1:] == 0, k, name)
    twins = distances[:, :1] == 0
    if twins.double().mean() > _TWINS:
        require_untied(twins, 1, name)
    return distances[:, -1]


def _distances_from(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    distances = search([q], k, [p], metric).distances
    for neighbor, tolerated in ((k, 0.0), (1, _TWINS)):
        shared = int((distances[:, neighbor - 1] == 0).sum())
        if shared > tolerated * len(p):
            raise ArgumentValueError(
                "p, q",
                f"expected independent samples of two continuous variables, but {shared:,} "
                f"of {len(p):,} samples of p coincide with at least k={neighbor} of q. {REMEDY}",
            )
    return distances[:, -1]
