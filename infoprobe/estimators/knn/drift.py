r"""The bias that data do not share with surrogates, told by how an estimate changes with k.

The bias of nearest neighbours comes from how the density varies within a neighbourhood. It grows
with the squared radius of the neighbourhood, as :math:`(k / n)^{2/d}`. If the estimate changes
from k to 4k neighbours by D more than that of surrogates, the data have the finer structure, and

.. math:: \frac{D}{4^{2/d} - 1}

of the bias is not theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from infoprobe.estimators.knn.measures import ENTROPY, KNNMeasure

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN

# How many times as many neighbours are compared.
MORE = 4

# From how many standard deviations on a difference counts, and from where on all of it.
_NOISE, _CERTAIN = 3.0, 4.0

# The deviation is about 1 over the root of n, and grows beyond so many dimensions.
_DIMENSIONS = 25

# How many times the noise may at most be amplified.
_AMPLIFICATION = 20.0


Measured: TypeAlias = tuple[Sequence[Tensor], Tensor]


def excess_bias(knn: KNN, measure: KNNMeasure, data: Measured, surrogate: Measured) -> float:
    """The bias that is not shared by surrogates, in nats; 0 where none can be told.

    It makes entropies too large and information too small.

    Arguments:
        knn: The estimator.
        measure: What it estimates, of variables that were sampled together.
        data: The variables, (n, d) each, and the estimate.
        surrogate: A surrogate of them, and its estimate.
    """
    samples, _ = data
    d = sum(x.shape[1] for x in samples)
    times = _errors_of_change(d, 2)
    if times > _AMPLIFICATION:
        return 0.0
    sense = 1 if measure is ENTROPY else -1
    excess, deviation = change(knn, measure, data, surrogate)
    deviations = sense * excess / deviation
    certainty = min(max((deviations - _NOISE) / (_CERTAIN - _NOISE), 0.0), 1.0)
    return certainty * times * excess


def amplification(d: int, power: int) -> float:
    """How many times as large as the change with k an error is that is a power of the distance.

    It is at least 1. In many dimensions, where it would amplify the noise too much, it is 1.

    Arguments:
        d: The number of dimensions.
        power: 2 for smooth densities, and 1 at their edges.
    """
    times = _errors_of_change(d, power)
    return max(times, 1.0) if times <= _AMPLIFICATION else 1.0


def _errors_of_change(d: int, power: int) -> float:
    return 1 / (math.pow(MORE, power / d) - 1)


def change(
    knn: KNN, measure: KNNMeasure, data: Measured, surrogate: Measured
) -> tuple[float, float]:
    """By how much more an estimate changes with k than that of a surrogate, and its deviation.

    The arguments are those of :func:`excess_bias`.
    """
    samples, _ = data
    n, d = len(samples[0]), sum(x.shape[1] for x in samples)
    deviation = math.sqrt((1 + d / _DIMENSIONS) / n)
    if n <= MORE * knn.k:
        return 0.0, deviation
    wider = replace(knn, k=MORE * knn.k)
    of_data, of_surrogate = (
        float(measure.raw(wider, *variables) - value) for variables, value in (data, surrogate)
    )
    return of_data - of_surrogate, deviation
