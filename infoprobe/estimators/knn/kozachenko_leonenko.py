r"""Entropies and divergences from the distances to the k-th nearest neighbours.

All arguments are samples (n, d), all results 0-dim float64 tensors, differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.neighbors import Metric, search, sort

_LARGEST = 2**63 - 1

# Features hashed at a time.
_COLUMNS = 64

# Samples may have a twin (float32 has only so many numbers), but no more than this share.
_TWINS = 0.2

_REMEDY = (
    "A density has no such atoms, and the estimate would be minus infinity or decided by them. "
    "Dequantise the data (add uniform noise as wide as their resolution), drop constant units, "
    "give labels as integers, or use an estimator of discrete variables such as ip.Histogram."
)


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
    """The sum of both, in which the distances within p cancel."""
    n, d = p.shape
    other = _distances_from(p, q, k, metric)
    constant = digamma(n) - digamma(k) + _log_volume(d, metric) + math.log(len(q) / (n - 1))
    return constant + d * other.log().mean()


def feature_entropies(x: Tensor, k: int) -> Tensor:
    """The entropy of every feature by itself, (d,)."""
    n = len(x)
    line, _ = x.double().sort(0)
    beyond = line.new_full((k, x.shape[1]), math.inf)
    line = torch.cat([-beyond, line, beyond])
    values = line[k : k + n]
    # The k-th neighbour is the farther end of the narrowest window of k + 1 values.
    ends = [
        torch.maximum(values - line[i : i + n], line[i + k : i + k + n] - values)
        for i in range(k + 1)
    ]
    distances = torch.stack(ends).amin(0)
    return digamma(n) - digamma(k) + math.log(2) + distances.log().mean(0)


def refuse_atoms(factors: Iterable[Tensor], k: int, name: str) -> None:
    """Raises a ValueError if in any of the factors a sample coincides with k others."""
    _refuse(torch.stack([tied(factor, k) for factor in factors], 1), k, name)


def tied(x: Tensor, k: int) -> Tensor:
    """Which samples (n,) coincide with at least k others."""
    # Hashes of bits, in integers that wrap around: exact sums, in whatever order.
    generator = torch.Generator().manual_seed(0)
    shape = (2, x.shape[1])
    factors = torch.randint(-_LARGEST, _LARGEST, shape, generator=generator, device="cpu")
    spread, weights = factors.to(x.device) | 1
    hashes = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for some in torch.split(torch.arange(x.shape[1], device=x.device), _COLUMNS):
        # Adding 0 makes one of the two zeros.
        bits = (x.detach()[:, some].double() + 0.0).view(torch.int64)
        mixed = (bits ^ (bits >> 32)) * spread[some]
        hashes += ((mixed ^ (mixed >> 29)) * weights[some]).sum(1)
    line, order = sort(hashes)
    runs = (line[k:] == line[:-k]).nonzero().squeeze(1)
    result = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    result[order[runs.unsqueeze(1) + torch.arange(k + 1, device=x.device)]] = True
    return result


def digamma(x: float) -> float:
    r""":math:`\psi(x)`."""
    return float(torch.special.digamma(torch.tensor(x, dtype=torch.float64, device="cpu")))


def _log_volume(d: int, metric: Metric) -> float:
    """Of the unit ball, whose volume itself is no float64 in hundreds of dimensions."""
    if metric == "chebyshev":
        return d * math.log(2)
    return d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)


def _own_distances(x: Tensor, k: int, metric: Metric, name: str) -> Tensor:
    distances = search([x], k, None, metric).distances
    _refuse((distances[:, -1:] == 0), k, name)
    twins = distances[:, :1] == 0
    if twins.double().mean() > _TWINS:
        _refuse(twins, 1, name)
    return distances[:, -1]


def _refuse(tied: Tensor, k: int, name: str) -> None:
    """Of samples and factors, (n, f)."""
    if not tied.any():
        return
    rows, features = int(tied.any(1).sum()), int(tied.any(0).sum())
    where = f" in one of its features ({features:,} have such)" if tied.shape[1] > 1 else ""
    raise ArgumentValueError(
        name,
        f"expected samples of a continuous variable, but {rows:,} of {len(tied):,} "
        f"coincide with at least k={k} others{where}. {_REMEDY}",
    )


def _distances_from(p: Tensor, q: Tensor, k: int, metric: Metric) -> Tensor:
    distances = search([q], k, [p], metric).distances
    for neighbor, tolerated in ((k, 0.0), (1, _TWINS)):
        shared = int((distances[:, neighbor - 1] == 0).sum())
        if shared > tolerated * len(p):
            raise ArgumentValueError(
                "p, q",
                f"expected independent samples of two continuous variables, but {shared:,} "
                f"of {len(p):,} samples of p coincide with at least k={neighbor} of q. {_REMEDY}",
            )
    return distances[:, -1]
