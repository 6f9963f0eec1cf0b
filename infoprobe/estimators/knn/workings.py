"""How an estimate from nearest neighbours comes about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.features import feature_entropies
from infoprobe.estimators.knn import measures
from infoprobe.estimators.knn.calibration import STANDARD, Bias, bias_of
from infoprobe.estimators.knn.labels import is_discrete, terms_with_labels
from infoprobe.estimators.knn.measures import KNNMeasure
from infoprobe.estimators.knn.preparation import prepared

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN


class Workings(NamedTuple):
    """An estimate, and what it was made of, by which it is judged.

    Attributes:
        terms: A term (n,) for each sample, whose mean is the estimate.
        raw: The estimate without calibration, 0-dim float64.
        bias: What the calibration subtracted; ``None`` without one.
    """

    terms: Tensor
    raw: Tensor
    bias: Bias | None

    @property
    def value(self) -> Tensor:
        """The estimate, 0-dim float64."""
        return self.terms.mean()


def work(knn: KNN, measure: KNNMeasure, tensors: Sequence[Any]) -> Workings:
    """Estimates a measure of tensors, which are checked first."""
    if measure is measures.MUTUAL_INFORMATION:
        x, y = tensors
        if is_discrete(x, "x") or is_discrete(y, "y"):
            terms = terms_with_labels(x, y, knn.k, knn.metric, knn.calibration)
            return Workings(terms, terms.mean(), None)
    samples = prepared(knn, measure, tensors)
    terms = measure.terms(knn, *samples)
    raw = terms.mean()
    if knn.calibration is None:
        return Workings(terms, raw, None)
    bias = bias_of(knn, measure, samples, raw)
    terms = terms - bias.value
    if measure is measures.ENTROPY and knn.calibration == "copula":
        # The scores are standard Gaussian, feature by feature.
        alone = checks.continuous(tensors[0], "x").detach()
        terms = terms + (feature_entropies(alone, knn.k) - STANDARD).sum()
    return Workings(terms, raw, bias)
