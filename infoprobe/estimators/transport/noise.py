"""The standard error of what is measured of carried samples, given the maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from infoprobe.estimators.errors import noise_of_parts
from infoprobe.estimators.knn.knn import KNN
from infoprobe.estimators.protocols import EntropyEstimator, PointwiseEstimator
from infoprobe.estimators.transport.carried import (
    Carried,
    cross_entropy_of,
    divergence_of,
    entropy_of,
    information_of,
)

# The least samples of a part by which a standard error is found.
_PART = 25
# How many times as far a mean of terms from few samples is off as one of independent terms, for an
# entropy and for measures of two samples: neighbours depend on each other, and so do the maps of
# folds. Of an entropy in one dimension, of n = 40 and 100, intervals then hold the truth in 90 to
# 100 % of the cases.
_DEPENDENT, _DEPENDENT_OF_TWO = 1.3, 2.0


def noise_of(
    residual: EntropyEstimator, measure: Callable[..., Tensor], *samples: Sequence[Carried]
) -> Tensor | None:
    """The standard error of the mean over folds of a measure of the samples in each.

    It comes from parts of the samples of each fold or, where these are too small, from what each
    sample contributes. It is ``None`` where the residual estimator does not tell that.

    Arguments:
        residual: The estimator of what the maps have left.
        measure: :func:`entropy_of` or another of carried samples.
        samples: Its arguments, in each fold.
    """

    def of_part(number: int, *part: Carried) -> Tensor:
        return measure(_with_other_surrogates(residual, number), *part)

    # Samples of one argument belong to those of the one before, or are independent of them.
    orders = _ORDERS[measure]
    of_pairs = measure is information_of
    widths = [fold[0].z.shape[1] for fold in samples]
    least = max(_PART, 2 * (sum(widths) if of_pairs else widths[0]))
    sizes = torch.tensor([len(fold) for fold in samples[0]], dtype=torch.float64, device="cpu")
    squares = torch.zeros_like(sizes[0])
    for fold, share in zip(zip(*samples, strict=True), sizes / sizes.sum(), strict=True):
        noise = noise_of_parts(of_part, fold, orders, least, halves=of_pairs)
        if noise is None:
            noise = _noise_of_terms(residual, measure, fold)
        if noise is None:
            return None
        squares = squares.to(noise.device) + (share.to(noise.device) * noise).square()
    return squares.sqrt()


def _noise_of_terms(
    residual: EntropyEstimator, measure: Callable[..., Tensor], fold: Sequence[Carried]
) -> Tensor | None:
    if not isinstance(residual, PointwiseEstimator):
        return None
    terms = _TERMS[measure](residual, *fold)
    dependence = _DEPENDENT if measure is entropy_of else _DEPENDENT_OF_TWO
    return dependence * terms.std() / math.sqrt(len(terms))


def _with_other_surrogates(residual: EntropyEstimator, number: int) -> EntropyEstimator:
    """The residual estimator for a part of the samples, with surrogates of its own."""
    return residual.with_other_surrogates(number) if isinstance(residual, KNN) else residual


def _entropy_terms(residual: PointwiseEstimator, x: Carried) -> Tensor:
    """What each sample contributes to :func:`entropy_of`, (n,)."""
    return residual.pointwise("entropy", x.z) - x.log_det


def _information_terms(residual: PointwiseEstimator, x: Carried, y: Carried) -> Tensor:
    """What each pair contributes to :func:`information_of`, (n,)."""
    return residual.pointwise("mutual_information", x.z, y.z)


def _cross_entropy_terms(residual: PointwiseEstimator, p: Carried, q: Carried) -> Tensor:
    """What each sample of p contributes to :func:`cross_entropy_of`, (n,)."""
    return residual.pointwise("cross_entropy", p.z, q.z) - p.log_det


def _divergence_terms(
    residual: PointwiseEstimator, own: Carried, p: Carried, q: Carried
) -> Tensor:
    """What each sample of p contributes to :func:`divergence_of`, (n,)."""
    return _cross_entropy_terms(residual, p, q) - _entropy_terms(residual, own)


_TERMS: dict[Callable[..., Tensor], Callable[..., Tensor]] = {
    entropy_of: _entropy_terms,
    information_of: _information_terms,
    cross_entropy_of: _cross_entropy_terms,
    divergence_of: _divergence_terms,
}

# Which arguments are divided by themselves, and not as the one before.
_ORDERS: dict[Callable[..., Tensor], tuple[bool, ...]] = {
    entropy_of: (True,),
    information_of: (True, False),
    cross_entropy_of: (True, True),
    divergence_of: (True, False, True),
}
