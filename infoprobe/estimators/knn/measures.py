"""How nearest neighbours estimate each measure, before any calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from infoprobe.estimators import arguments
from infoprobe.estimators.arguments import Arguments
from infoprobe.estimators.gaussian import Gaussian
from infoprobe.estimators.knn import kozachenko_leonenko, ksg

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN


class KNNMeasure(NamedTuple):
    """How a measure is estimated.

    Attributes:
        arguments: Its arguments.
        terms: A term (n,) for each sample, whose mean is the estimate without calibration, from
            the estimator and the samples (n, d).
        of_gaussians: The closed form for Gaussian samples.
        differentiable: Whether the estimate has a gradient; one that rests on counts has none.
    """

    arguments: Arguments
    terms: Callable[..., Tensor]
    of_gaussians: Callable[..., Tensor]
    differentiable: bool

    def raw(self, knn: KNN, *samples: Tensor) -> Tensor:
        """The estimate without calibration."""
        return self.terms(knn, *samples).mean()


def _total_correlation(knn: KNN, x: Tensor) -> Tensor:
    return ksg.multi_information(torch.split(x, 1, 1), knn.k, knn.metric, knn.variant)


def _mutual_information(knn: KNN, x: Tensor, y: Tensor) -> Tensor:
    return ksg.multi_information([x, y], knn.k, knn.metric, knn.variant)


ENTROPY = KNNMeasure(
    arguments.ENTROPY,
    lambda knn, x: kozachenko_leonenko.entropy(x, knn.k, knn.metric),
    Gaussian().entropy,
    differentiable=True,
)
CROSS_ENTROPY = KNNMeasure(
    arguments.CROSS_ENTROPY,
    lambda knn, p, q: kozachenko_leonenko.cross_entropy(p, q, knn.k, knn.metric),
    Gaussian().cross_entropy,
    differentiable=True,
)
KL_DIVERGENCE = KNNMeasure(
    arguments.KL_DIVERGENCE,
    lambda knn, p, q: kozachenko_leonenko.kl_divergence(p, q, knn.k, knn.metric),
    Gaussian().kl_divergence,
    differentiable=True,
)
MUTUAL_INFORMATION = KNNMeasure(
    arguments.MUTUAL_INFORMATION,
    _mutual_information,
    Gaussian().mutual_information,
    differentiable=False,
)
CONDITIONAL_MUTUAL_INFORMATION = KNNMeasure(
    arguments.CONDITIONAL_MUTUAL_INFORMATION,
    lambda knn, x, y, z: ksg.conditional(x, y, z, knn.k, knn.metric),
    Gaussian().conditional_mutual_information,
    differentiable=False,
)
TOTAL_CORRELATION = KNNMeasure(
    arguments.TOTAL_CORRELATION,
    _total_correlation,
    Gaussian().total_correlation,
    differentiable=False,
)

MEASURES = {
    measure.arguments.measure: measure
    for measure in (
        ENTROPY,
        CROSS_ENTROPY,
        KL_DIVERGENCE,
        MUTUAL_INFORMATION,
        CONDITIONAL_MUTUAL_INFORMATION,
        TOTAL_CORRELATION,
    )
}
