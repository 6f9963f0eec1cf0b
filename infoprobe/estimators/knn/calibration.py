"""The bias of nearest neighbours, as it is measured on surrogates of the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, stack

from infoprobe.estimators.gaussian import Gaussian, require_independent_features
from infoprobe.estimators.knn import drift, measures, student, surrogates
from infoprobe.estimators.knn.measures import KNNMeasure
from infoprobe.progress import progress_bar

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN

# The entropy of a standard Gaussian.
STANDARD = math.log(2 * math.pi * math.e) / 2


class Bias(NamedTuple):
    """A bias as measured on surrogates, 0-dim float64 tensors in nats.

    Attributes:
        value: The mean error over the surrogates, and what is extrapolated beyond it.
        stderr: Its standard error over the surrogates; NaN with a single one.
        extrapolated: What the data do not share with the surrogates, from how the estimate changes
            with k; only with ``calibration="copula"``.
    """

    value: Tensor
    stderr: Tensor
    extrapolated: Tensor


def bias_of(knn: KNN, measure: KNNMeasure, samples: list[Tensor], value: Tensor) -> Bias:
    """The bias of a ``value`` of samples, of which ``"copula"`` takes the normal scores."""
    if knn.calibration == "copula":
        copula = student.fit(samples)
        truth = _of_copula(measure, copula)
        drawn = copula.draw(knn.repeats, knn.seed)
    else:
        if measure.arguments.independent:  # each has a covariance of its own
            for name, x in zip(measure.arguments.names, samples, strict=True):
                require_independent_features(x, name)
        truth = measure.of_gaussians(*samples)
        draw = surrogates.separate if measure.arguments.independent else surrogates.paired
        drawn = draw(samples, knn.repeats, knn.seed)
    with progress_bar(knn.repeats, "surrogates", unit="surrogate") as bar:
        first = next(drawn)
        found = [measure.raw(knn, *first)]
        bar.update()
        for each in drawn:
            found.append(measure.raw(knn, *each))
            bar.update()
    errors = stack(found) - truth
    spread = errors.std() if knn.repeats > 1 else errors.new_tensor(math.nan)
    excess = 0.0
    if knn.calibration == "copula":
        excess = drift.excess_bias(knn, measure, (samples, value), (first, found[0]))
    stderr = spread / math.sqrt(knn.repeats)
    return Bias(errors.mean() + excess, stderr, errors.new_tensor(excess))


def _of_copula(measure: KNNMeasure, copula: student.Copula) -> Tensor:
    """What the measure would be, had the samples exactly this copula."""
    if measure is measures.ENTROPY:
        # Of standard Gaussian features, whatever the variance of their scores.
        (x,) = copula.samples
        correlation = Gaussian().total_correlation(x) + copula.excess_information()
        return x.shape[1] * STANDARD - correlation
    return measure.of_gaussians(*copula.samples) + copula.excess_information()
