"""Divergences that have not settled: they depend on how many neighbours are looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from infoprobe.estimators.knn.drift import MORE, amplification
from infoprobe.estimators.knn.measures import KNNMeasure
from infoprobe.estimators.knn.workings import Workings, work
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN

# From how many nats on a change is worth a finding, beyond so many standard errors; terms share
# neighbours, by which the error of their mean is this much larger than of independent ones.
_NATS, _CERTAIN, _SHARED = 0.1, 3.0, 1.6


def of_change(
    knn: KNN, measure: KNNMeasure, samples: list[Tensor], workings: Workings
) -> Iterator[Finding]:
    r"""A finding if a divergence is another from four times as many neighbours.

    Where the density varies within the distance of neighbours, as on a checkerboard or among many
    narrow peaks, the error of the estimate grows with this distance, for smooth densities as
    :math:`(k / n)^{2/d}` and at edges as :math:`(k / n)^{1/d}`. So in many dimensions, a small
    change stands for a larger error.

    Arguments:
        knn: The estimator.
        measure: A divergence or a cross-entropy.
        samples: Samples of both distributions, (n, d) and (m, d).
        workings: The estimate from them.
    """
    wider = replace(knn, k=MORE * knn.k)
    if min(len(x) for x in samples) <= wider.k:
        return
    terms = work(wider, measure, samples).terms - workings.terms
    change, noise = float(terms.mean()), float(terms.std()) / math.sqrt(len(terms))
    if knn.calibration is not None:
        noise *= math.sqrt(1 + 1 / knn.repeats)
    at_stake = abs(change) * amplification(samples[0].shape[1], 2)
    if at_stake > _NATS and abs(change) > _CERTAIN * _SHARED * noise:
        yield Finding(
            "warning",
            f"from {wider.k} instead of {knn.k} neighbours, the estimate is by {change:+.2f} nats "
            "another: the densities have structure that is finer than the distance of neighbours",
            change,
            "Pass more samples, and take the difference for the uncertainty.",
            "p, q",
            code="changes-with-k",
        )
