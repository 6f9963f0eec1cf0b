r"""What neighbours miss of the information of labels and continuous variables, by surrogates.

If the samples of each label were Gaussian, with the mean and covariance that they have, the
information would be known:

.. math:: I = \Big\langle \ln p(x \mid c) - \ln \sum_{c'} \pi_{c'}\, p(x \mid c') \Big\rangle.

In many dimensions, Ross' estimate is far below, as the nearest neighbours of a sample belong to
other labels even where the density tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from infoprobe.estimators.knn import ksg
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN

# From how many nats, and which share of the information, a bias is worth a finding; and from which
# share, or how many nats, the number is meaningless. Noise is 1 over the root of n, in a few
# dimensions.
_NATS, _SHARE, _NOISE, _MOSTLY, _MUCH = 0.05, 0.1, 3.0, 0.5, 1.0
# How many samples there must be for every feature, and the most labels.
_LEAST, _LABELS = 2, 100


def bias_with_labels(knn: KNN, x: Tensor, labels: Tensor, value: float) -> Iterator[Finding]:
    """A finding if neighbours miss much of what Gaussian data like these tell of their labels.

    Arguments:
        knn: The estimator.
        x: Samples, (n, d).
        labels: The labels (n,).
        value: The estimate.
    """
    found = _bias(knn, x.detach().double(), labels.to(x.device).reshape(-1))
    if found is None:
        return
    missed, noise = found
    truth = max(value - missed, 0.0)
    if abs(missed) > max(_NATS, _SHARE * truth) + noise:
        much = abs(missed) > min(_MUCH, _MOSTLY * truth)
        yield Finding(
            "error" if much else "warning",
            f"what data with the means and covariances of each label tell of it is missed by "
            f"{missed:+.2f} nats",
            missed,
            "Pass fewer features, or compare with ip.Critic().",
            "x, y",
            code="dimension-bias",
        )


def _bias(knn: KNN, x: Tensor, labels: Tensor) -> tuple[float, float] | None:
    """The error on a surrogate, and its noise; ``None`` where there is none like the data."""
    varying = x[:, (x != x[0]).any(0)]
    index, sizes = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    (n, d), classes = varying.shape, len(sizes)
    if not 1 < classes <= _LABELS or not d or n < _LEAST * d + classes:
        return None
    order = index.sort().values
    means, factors = _fit(varying, index, sizes)
    if factors is None:
        return None
    generator = torch.Generator("cpu").manual_seed(knn.seed)
    z = torch.randn(n, d, generator=generator, dtype=torch.float64, device="cpu").to(x.device)
    drawn = means[order] + (factors[order] @ z.unsqueeze(2)).squeeze(2)
    logs = torch.stack(
        [_log_density(drawn, mean, factor) for mean, factor in zip(means, factors, strict=True)]
    )
    shares = (sizes / n).log().to(logs).unsqueeze(1)
    own = logs.gather(0, order.unsqueeze(0)).squeeze(0)
    local = own - (logs + shares).logsumexp(0)
    errors = ksg.with_labels(drawn, order, knn.k, knn.metric) - local
    # Means that differ by chance, of labels that tell nothing, look like so much information.
    chance = (classes - 1) * d / (2 * n)
    return float(errors.mean()), _NOISE * float(errors.std()) / math.sqrt(n) + chance


def _fit(x: Tensor, index: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor | None]:
    """The mean and the Cholesky factor of each label's samples: (c, d) and (c, d, d).

    Covariances that are fitted to few samples differ by chance, which looks like information,
    half a nat over n for each of their numbers. Then those of all labels are the same up to a
    factor.
    """
    (n, d), classes = x.shape, len(sizes)
    means = torch.stack([x[index == label].mean(0) for label in range(classes)])
    centred = x - means[index]
    numbers = (classes - 1) * d * (d + 1) / 2
    if numbers / (2 * n) <= _NATS and int(sizes.min()) > _LEAST * d:
        of_labels = [centred[index == label] for label in range(classes)]
        covariances = torch.stack([part.T @ part / len(part) for part in of_labels])
    else:
        pooled = centred.T @ centred / n
        factor, failed = torch.linalg.cholesky_ex(pooled)
        if failed:
            return means, None
        white = torch.linalg.solve_triangular(factor, centred.T, upper=False)
        squares = torch.zeros(classes, dtype=x.dtype, device=x.device)
        squares.index_add_(0, index, white.square().mean(0))
        covariances = (squares / sizes).view(-1, 1, 1) * pooled
    factors, failures = torch.linalg.cholesky_ex(covariances)
    return means, None if failures.any() else factors


def _log_density(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """The logarithm of a Gaussian density but for a constant, (n,)."""
    white = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
    logs: Tensor = -white.square().sum(0) / 2 - factor.diagonal().log().sum()
    return logs
