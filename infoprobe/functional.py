"""Information measures as plain functions, for people in a hurry.

Each calls the method of the same name on an estimator and converts the unit.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators import KNN, Histogram

_HISTOGRAM = Histogram()
_KNN = KNN()


def entropy(x: Any, estimator: Any = _HISTOGRAM, *, base: float = math.e) -> Tensor:
    r"""Entropy of ``x``.

    Arguments:
        x: Samples along the first axis; what the rest means is up to the estimator.
        estimator: Says which random variable, and how it is estimated.
        base: Base of the logarithm: ``math.e`` for nats, 2 for bits.

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
    return _measure("entropy", estimator, base, x)


def cross_entropy(p: Any, q: Any, estimator: Any = _HISTOGRAM, *, base: float = math.e) -> Tensor:
    """Cross-entropy of ``q`` relative to ``p``. Otherwise as :func:`entropy`."""
    return _measure("cross_entropy", estimator, base, p, q)


def kl_divergence(p: Any, q: Any, estimator: Any = _HISTOGRAM, *, base: float = math.e) -> Tensor:
    r"""Relative entropy :math:`KL(P \| Q)` of two samples. Otherwise as :func:`entropy`.

    Infinite under the default estimator where ``p`` has values in a bin that ``q`` leaves empty.
    """
    return _measure("kl_divergence", estimator, base, p, q)


def js_divergence(p: Any, q: Any, estimator: Any = _HISTOGRAM, *, base: float = math.e) -> Tensor:
    """Jensen-Shannon divergence between two samples. Otherwise as :func:`entropy`."""
    return _measure("js_divergence", estimator, base, p, q)


def mutual_information(
    x: Any, y: Any, estimator: Any = _HISTOGRAM, *, base: float = math.e
) -> Tensor:
    """Mutual information of two variables sampled in pairs. Otherwise as :func:`entropy`."""
    return _measure("mutual_information", estimator, base, x, y)


def conditional_mutual_information(
    x: Any, y: Any, z: Any, estimator: Any = _KNN, *, base: float = math.e
) -> Tensor:
    """Mutual information of x and y given z, sampled together. Otherwise as :func:`entropy`."""
    return _measure("conditional_mutual_information", estimator, base, x, y, z)


def total_correlation(x: Any, estimator: Any = _KNN, *, base: float = math.e) -> Tensor:
    """Total correlation of the features of ``x``. Otherwise as :func:`entropy`."""
    return _measure("total_correlation", estimator, base, x)


def _measure(name: str, estimator: Any, base: float, *tensors: Any) -> Tensor:
    checks.require_real(base, -math.inf, "base")
    if base <= 0 or base == 1:
        raise ArgumentValueError(
            "base",
            f"expected a positive number other than 1, got {base!r}. "
            "Use math.e for nats or 2 for bits.",
        )
    method = getattr(estimator, name, None)
    if method is None or isinstance(estimator, type):
        raise ArgumentTypeError(
            "estimator",
            f"expected an instance that offers {name}(), such as ip.Histogram(), "
            f"got {estimator!r}.",
        )
    value: Tensor = method(*tensors)
    return value if base == math.e else value / math.log(base)
