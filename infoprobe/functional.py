"""Information measures as plain functions, for people in a hurry.

Each calls the method of the same name on an estimator and converts the unit. Without an estimator
they choose one by the data (see :func:`infoprobe.choose`). Where the estimator finds that its
number is impossible, meaningless or mostly error (a finding of severity ``"error"``), they issue
a :class:`~infoprobe.TrustWarning` with the finding and its remedy; :func:`infoprobe.diagnose`
tells the lesser doubts as well. Nothing is looked for where the result is to have a gradient, as
in the loss of a training.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError
from infoprobe.estimators import KNN
from infoprobe.estimators.arguments import ARGUMENTS, TOTAL_CORRELATION, arguments_of
from infoprobe.estimators.protocols import (
    ConditionalInformationEstimator,
    CrossEntropyEstimator,
    DivergenceEstimator,
    EntropyEstimator,
    InformationEstimator,
    JensenShannonEstimator,
    PointwiseEstimator,
    TotalCorrelationEstimator,
    diagnosis,
    estimate_without_error,
    method_of,
)
from infoprobe.findings import Finding, TrustWarning
from infoprobe.progress import showing
from infoprobe.trust.choose import choose
from infoprobe.units import nats_per_unit


def entropy(
    x: ArrayLike,
    estimator: EntropyEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    r"""Estimates the entropy of ``x``.

    Without an estimator, the random variable is the bin that a value falls in, with all values of
    ``x`` pooled: a discrete variable, which exists for data of any kind. Real numbers fall into
    at most 256 bins (``ip.Histogram()``), and each integer has a bin of its own. The differential
    entropy of a sample's features together is another quantity: pass
    ``ip.KNN(calibration="gaussian")`` or ``ip.Gaussian()``.

    Arguments:
        x: Samples along the first axis, any tensor or array; what the rest means is up to the
            estimator.
        estimator: Says which random variable, and how it is estimated; ``None`` for the one
            that :func:`infoprobe.choose` chooses by the data.
        base: The base of the logarithm: ``math.e`` for nats, 2 for bits.
        progress: Whether to show progress bars where estimators take long, such as
            ``ip.Flow()``. Needs the extra ``infoprobe[progress]``.

    Returns:
        A 0-dim float64 tensor on the device of ``x``.

    Warns:
        TrustWarning: The estimator finds that the number is impossible or meaningless.

    Raises:
        TypeError: The estimator has no ``entropy``, or the input is not numeric.
        ValueError: The base is not a positive number other than 1, or the input is empty or
            not finite.

    Example:
        >>> float(ip.entropy([0.0, 1.0, 2.0, 3.0], base=2))
        2.0
    """
    return _measured("entropy", estimator, base, progress, x)


def cross_entropy(
    p: ArrayLike,
    q: ArrayLike,
    estimator: CrossEntropyEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    """Estimates the cross-entropy of ``q`` relative to ``p``.

    Without an estimator, the random variable is the bin that a value falls in, with all values of
    a tensor pooled and the bins shared. The other arguments, the result, the warning and the
    errors are the same as in :func:`entropy`.
    """
    return _measured("cross_entropy", estimator, base, progress, p, q)


def kl_divergence(
    p: ArrayLike,
    q: ArrayLike,
    estimator: DivergenceEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    r"""Estimates the relative entropy :math:`KL(P \| Q)` of two samples.

    Without an estimator, the random variable is the bin that a value falls in, with all values of
    a tensor pooled and the bins shared. The divergence is then infinite where ``p`` has values in
    a bin that ``q`` leaves empty, and a warning says so. For densities, pass ``ip.KNN()`` and
    samples that are independent. The other arguments, the result, the warning and the errors are
    the same as in :func:`entropy`.
    """
    return _measured("kl_divergence", estimator, base, progress, p, q)


def js_divergence(
    p: ArrayLike,
    q: ArrayLike,
    estimator: JensenShannonEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    """Estimates the Jensen-Shannon divergence of two samples.

    Without an estimator, the random variable is the bin that a value falls in, with all values of
    a tensor pooled and the bins shared. The other arguments, the result, the warning and the
    errors are the same as in :func:`entropy`.
    """
    return _measured("js_divergence", estimator, base, progress, p, q)


def mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    estimator: InformationEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    r"""Estimates the mutual information of two variables that were sampled in pairs.

    The random variables are the samples: all that follows the first axis belongs to one sample.
    Without an estimator, one is chosen by the data, and ``ip.choose("mutual_information", x, y)``
    says which and why:

    * Real numbers on both sides: nearest neighbours on the ranks of each feature, calibrated on
      surrogates with the same dependence (``ip.KNN(calibration="copula")``). The result does not
      depend on the scale of a feature, and hardly on the number of dimensions.
    * Real numbers that repeat, or fewer than d + 3 samples: ``ip.KNN()``, which takes ties.
    * Labels (integers or booleans, one for each sample) and real numbers: ``ip.KNN()``, by Ross'
      method.
    * Integers on both sides: each different sample is a symbol, and pairs are counted
      (``ip.Histogram(over="samples", correction="grassberger")``).

    A histogram of real numbers is not among them, for it shows information where there is none:
    0.4 nats between 10,000 pairs of independent numbers. The other arguments, the result, the
    warning and the errors are the same as in :func:`entropy`.

    Example:
        >>> import math
        >>> x, noise = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
        >>> y = 0.6 * x + 0.8 * noise
        >>> bool(abs(ip.mutual_information(x, y) + math.log(0.8)) < 0.1)  # -ln 0.8 = 0.22
        True
    """
    return _measured("mutual_information", estimator, base, progress, x, y)


def conditional_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    estimator: ConditionalInformationEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    """Estimates the mutual information of x and y given z, which were sampled together.

    Without an estimator, it is measured by nearest neighbours, as :func:`mutual_information` is
    of real numbers. The other arguments, the result, the warning and the errors are the same as
    in :func:`entropy`.
    """
    return _measured("conditional_mutual_information", estimator, base, progress, x, y, z)


def total_correlation(
    x: ArrayLike,
    estimator: TotalCorrelationEstimator | None = None,
    *,
    base: float = math.e,
    progress: bool = False,
) -> Tensor:
    """Estimates the total correlation of the features of ``x``.

    Without an estimator, it is measured by nearest neighbours, as :func:`mutual_information` is
    of real numbers. The other arguments, the result, the warning and the errors are the same as
    in :func:`entropy`.
    """
    return _measured("total_correlation", estimator, base, progress, x)


def pointwise(
    measure: str,
    *tensors: ArrayLike,
    estimator: PointwiseEstimator | None = None,
    base: float = math.e,
) -> Tensor:
    r"""Estimates what each sample contributes to a measure: local, or pointwise, values.

    The pointwise mutual information of a pair of samples is
    :math:`\ln p(x_i, y_i) - \ln p(x_i) - \ln p(y_i)`, and the surprisal of a sample
    :math:`-\ln p(x_i)`. Their means are the mutual information and the entropy. A value may be
    negative where its mean may not.

    Values of single samples are little more than noise: that of nearest neighbours has a standard
    deviation of about :math:`1/\sqrt k`, beside what the samples differ in. Take means of many
    samples, such as those of a class.

    Arguments:
        measure: The name of a measure, such as ``"mutual_information"``.
        tensors: Its arguments, with samples along the first axis.
        estimator: ``ip.KNN``, for all of its measures; ``ip.Histogram(over="samples")``, for
            entropy and mutual information; or any that has a method of this name. ``None`` for
            ``ip.KNN()`` where the measure is an entropy or a divergence, and otherwise for the
            one that :func:`infoprobe.choose` chooses.
        base: The base of the logarithm: ``math.e`` for nats, 2 for bits.

    Returns:
        Float64 numbers (n,), one for each sample of the first argument, whose mean is the
        estimate. What an estimator corrects is spread evenly over the samples.

    Warns:
        TrustWarning: The estimator finds that the mean is impossible or meaningless.

    Raises:
        TypeError: The estimator has no pointwise values, there are too many or too few tensors,
            or they are not numeric.
        ValueError: There is no such measure, or the estimator refuses the tensors.

    Example:
        >>> x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        >>> label = x[:, 0] > 1  # the rarer label tells more
        >>> local = ip.pointwise("mutual_information", x, label)
        >>> bool(local[label].mean() > local[~label].mean())
        True
    """
    nats = nats_per_unit(base)
    if estimator is None:
        arguments = arguments_of(measure, ARGUMENTS, tensors)
        of_points = arguments.of_pairs or arguments is TOTAL_CORRELATION
        estimator = choose(measure, *tensors).estimator if of_points else KNN()
    if not isinstance(estimator, PointwiseEstimator):
        raise ArgumentTypeError(
            "estimator",
            "expected one that has pointwise(), such as ip.KNN() or "
            f"ip.Histogram(over='samples'), got {checks.typed(estimator)}.",
        )
    local = estimator.pointwise(measure, *tensors)
    if not local.requires_grad:
        _warn(diagnosis(estimator, measure, tensors, local.mean()), stacklevel=3)
    return local / nats


def _measured(
    measure: str, estimator: object, base: float, progress: bool, *tensors: ArrayLike
) -> Tensor:
    nats = nats_per_unit(base)
    if estimator is None:
        estimator = choose(measure, *tensors).estimator
    method = method_of(estimator, measure)
    graph = torch.is_grad_enabled() and any(
        isinstance(x, Tensor) and x.requires_grad for x in tensors
    )
    with showing(progress):
        if graph:
            return method(*tensors) / nats
        found = estimate_without_error(estimator, measure, *tensors)
    _warn(found.findings, stacklevel=4)
    return found.value / nats


def _warn(findings: Iterable[Finding], stacklevel: int) -> None:
    """Issues a warning to the caller of a public function if its number is known to be bad."""
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        warnings.warn(" ".join(errors), TrustWarning, stacklevel=stacklevel)
