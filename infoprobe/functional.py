"""Information measures as plain functions, for people in a hurry.

Each calls the method of the same name on an estimator and converts the unit.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators import KNN, Histogram
from infoprobe.estimators.protocols import (
    ConditionalInformationEstimator,
    CrossEntropyEstimator,
    DivergenceEstimator,
    EntropyEstimator,
    InformationEstimator,
    JensenShannonEstimator,
    TotalCorrelationEstimator,
    method_of,
)

_HISTOGRAM = Histogram()
_KNN = KNN()


def entropy(x: Any, estimator: EntropyEstimator = _HISTOGRAM, *, base: float = math.e) -> Tensor:
    r"""Estimates the entropy of ``x``.

    Arguments:
        x: Samples along the first axis, any tensor or array; what the rest means is up to the
            estimator.
        estimator: Says which random variable, and how it is estimated.
        base: The base of the logarithm: ``math.e`` for nats, 2 for bits.

    Returns:
        A 0-dim float64 tensor on the device of ``x``.

    Raises:
        TypeError: The estimator has no ``entropy``, or the input is not numeric.
        ValueError: The base is not a positive number other than 1, or the input is empty or
            not finite.

    Example:
        >>> float(ip.entropy([0.0, 1.0, 2.0, 3.0], base=2))
        2.0
    """
    _require(base, estimator, "entropy")
    return _in_base(base, estimator.entropy(x))


def cross_entropy(
    p: Any, q: Any, estimator: CrossEntropyEstimator = _HISTOGRAM, *, base: float = math.e
) -> Tensor:
    """Estimates the cross-entropy of ``q`` relative to ``p``.

    The other arguments, the result and the errors are the same as in :func:`entropy`.
    """
    _require(base, estimator, "cross_entropy")
    return _in_base(base, estimator.cross_entropy(p, q))


def kl_divergence(
    p: Any, q: Any, estimator: DivergenceEstimator = _HISTOGRAM, *, base: float = math.e
) -> Tensor:
    r"""Estimates the relative entropy :math:`KL(P \| Q)` of two samples.

    It is infinite under the default estimator where ``p`` has values in a bin that ``q`` leaves
    empty. The other arguments, the result and the errors are the same as in :func:`entropy`.
    """
    _require(base, estimator, "kl_divergence")
    return _in_base(base, estimator.kl_divergence(p, q))


def js_divergence(
    p: Any, q: Any, estimator: JensenShannonEstimator = _HISTOGRAM, *, base: float = math.e
) -> Tensor:
    """Estimates the Jensen-Shannon divergence of two samples.

    The other arguments, the result and the errors are the same as in :func:`entropy`.
    """
    _require(base, estimator, "js_divergence")
    return _in_base(base, estimator.js_divergence(p, q))


def mutual_information(
    x: Any, y: Any, estimator: InformationEstimator = _HISTOGRAM, *, base: float = math.e
) -> Tensor:
    """Estimates the mutual information of two variables that were sampled in pairs.

    The other arguments, the result and the errors are the same as in :func:`entropy`.
    """
    _require(base, estimator, "mutual_information")
    return _in_base(base, estimator.mutual_information(x, y))


def conditional_mutual_information(
    x: Any,
    y: Any,
    z: Any,
    estimator: ConditionalInformationEstimator = _KNN,
    *,
    base: float = math.e,
) -> Tensor:
    """Estimates the mutual information of x and y given z, which were sampled together.

    The other arguments, the result and the errors are the same as in :func:`entropy`.
    """
    _require(base, estimator, "conditional_mutual_information")
    return _in_base(base, estimator.conditional_mutual_information(x, y, z))


def total_correlation(
    x: Any, estimator: TotalCorrelationEstimator = _KNN, *, base: float = math.e
) -> Tensor:
    """Estimates the total correlation of the features of ``x``.

    The other arguments, the result and the errors are the same as in :func:`entropy`.
    """
    _require(base, estimator, "total_correlation")
    return _in_base(base, estimator.total_correlation(x))


def _require(base: float, estimator: object, measure: str) -> None:
    base = checks.require_real(base, -math.inf, "base")
    if base <= 0 or base == 1:
        raise ArgumentValueError(
            "base",
            f"expected a positive number other than 1, got {base!r}. "
            "Use math.e for nats or 2 for bits.",
        )
    method_of(estimator, measure)


def _in_base(base: float, value: Tensor) -> Tensor:
    return value if base == math.e else value / math.log(base)
