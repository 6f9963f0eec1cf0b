"""What makes an object an estimator: the methods that it has.

An estimator is anything with one or more of the methods ``entropy``, ``cross_entropy``,
``kl_divergence``, ``js_divergence``, ``mutual_information``, ``conditional_mutual_information``
and ``total_correlation``. Each takes samples, whatever :func:`torch.as_tensor` takes, with the
samples along the first axis, and returns a 0-dim tensor in nats.

It may also have any of the following. Where it has not, the functions of this module make do.

* ``kind``: ``"discrete"`` or ``"differential"``. See :func:`kind_of`.
* ``fewest_samples``: with how few samples it has no value; a probe must keep as many at least.
* ``allows_pairs``: whether a divergence may be given samples in pairs, or ``for_pairs``: another
  estimator that may. See :func:`for_pairs`.
* ``require_measure(measure)``: raises an error if its settings do not allow for the method of
  this name. See :func:`require_measure`.
* ``configuration()``: its settings as plain data. See :func:`configuration`.
* ``diagnose(measure, tensors, value)``: what stands in the way of trusting the measure of these
  tensors, as an iterable of :class:`~infoprobe.Finding`; ``value`` is the estimate, or ``None``
  where the estimator refused the tensors. See :func:`diagnosis`.
* ``estimate(measure, *tensors)``: the value, its standard error and the findings from one fit,
  as an :class:`Estimate`. See :func:`estimate`.
* ``pointwise(measure, *tensors)``: what each sample contributes. See :class:`PointwiseEstimator`.
* ``streams``, ``uncorrected`` and ``count(x)``: see :class:`StreamingEstimator`.
* ``count_blocks(x, blocks)``: the same counts, apart for each block of neighbouring samples. See
  :func:`count_blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError
from infoprobe.estimators.configuration import configuration as configuration
from infoprobe.estimators.histogram.counts import Counts, GroupedCounts
from infoprobe.findings import Finding

Kind: TypeAlias = Literal["discrete", "differential"]


@runtime_checkable
class EntropyEstimator(Protocol):
    """Estimates entropies."""

    def entropy(self, x: Any, /) -> Tensor:
        """The entropy of ``x``, 0-dim, in nats."""


@runtime_checkable
class CrossEntropyEstimator(Protocol):
    """Estimates cross-entropies."""

    def cross_entropy(self, p: Any, q: Any, /) -> Tensor:
        """The cross-entropy of ``q`` relative to ``p``, 0-dim, in nats."""


@runtime_checkable
class DivergenceEstimator(Protocol):
    """Estimates relative entropies."""

    def kl_divergence(self, p: Any, q: Any, /) -> Tensor:
        r"""The relative entropy :math:`KL(P \\| Q)` of two samples, 0-dim, in nats."""


@runtime_checkable
class JensenShannonEstimator(Protocol):
    """Estimates Jensen-Shannon divergences."""

    def js_divergence(self, p: Any, q: Any, /) -> Tensor:
        """The Jensen-Shannon divergence of two samples, 0-dim, in nats."""


@runtime_checkable
class InformationEstimator(Protocol):
    """Estimates mutual information."""

    def mutual_information(self, x: Any, y: Any, /) -> Tensor:
        """The mutual information of two variables sampled in pairs, 0-dim, in nats."""


@runtime_checkable
class ConditionalInformationEstimator(Protocol):
    """Estimates conditional mutual information."""

    def conditional_mutual_information(self, x: Any, y: Any, z: Any, /) -> Tensor:
        """The mutual information of x and y given z, sampled together, 0-dim, in nats."""


@runtime_checkable
class TotalCorrelationEstimator(Protocol):
    """Estimates total correlations."""

    def total_correlation(self, x: Any, /) -> Tensor:
        """The total correlation of the features of ``x``, 0-dim, in nats."""


@runtime_checkable
class PointwiseEstimator(Protocol):
    """Says what each sample contributes to its estimates."""

    def pointwise(self, measure: str, /, *tensors: Any) -> Tensor:
        """A term (n,) for each sample, in nats, whose mean is the estimate."""


@runtime_checkable
class StreamingEstimator(Protocol):
    """Reduces data that come in batches to counts, which stand for the data in its methods."""

    @property
    def streams(self) -> bool:
        """Whether these settings allow for batches."""

    @property
    def uncorrected(self) -> StreamingEstimator:
        """The same estimator, plainly counting: equal for estimators that can share counts."""

    def count(self, x: Any, /) -> Counts:
        """The counts of a batch; the counts of several batches add up."""


@runtime_checkable
class _CountsBlocks(Protocol):
    def count_blocks(self, x: Any, blocks: int, /) -> GroupedCounts: ...


def count_blocks(estimator: StreamingEstimator, x: Any, blocks: int) -> list[Counts]:
    """The counts of blocks of neighbouring samples; of all as one if the estimator has no blocks.

    Arguments:
        estimator: Any that streams.
        x: Samples along the first axis.
        blocks: The number of blocks, at most one for each sample.
    """
    if blocks > 1 and isinstance(estimator, _CountsBlocks):
        return estimator.count_blocks(x, blocks).parts
    return [estimator.count(x)]


class Estimate(NamedTuple):
    """An estimate and findings on it.

    Attributes:
        value: The estimate, 0-dim, in nats.
        stderr: Its standard error, 0-dim, in nats; ``None`` where the estimator knows none.
        findings: What stands in the way of trusting the value; empty where nothing was found.
    """

    value: Tensor
    stderr: Tensor | None
    findings: list[Finding]


@runtime_checkable
class _Estimates(Protocol):
    def estimate(self, measure: str, /, *tensors: Any) -> Estimate: ...


@runtime_checkable
class _EstimatesWithoutError(Protocol):
    def estimate_without_error(self, measure: str, /, *tensors: Any) -> Estimate: ...


@runtime_checkable
class _Diagnoses(Protocol):
    def diagnose(
        self, measure: str, tensors: Sequence[Any], value: Tensor | None, /
    ) -> Iterable[Finding]: ...


@runtime_checkable
class _RequiresMeasure(Protocol):
    def require_measure(self, measure: str, /) -> None: ...


def offers(estimator: object, measure: str) -> bool:
    """Whether the object is an instance that has the method of this name."""
    return not isinstance(estimator, type) and callable(getattr(estimator, measure, None))


def method_of(estimator: object, measure: str) -> Callable[..., Tensor]:
    """The method of an estimator that has this name.

    Raises:
        TypeError: It has none, or is a class instead of an instance.
    """
    if not offers(estimator, measure):
        raise ArgumentTypeError(
            "estimator",
            f"expected one that has {measure}(), such as ip.Histogram(...) or "
            f"ip.KNN(...), got {checks.typed(estimator)}.",
        )
    method: Callable[..., Tensor] = getattr(estimator, measure)
    return method


def require_measure(estimator: object, measure: str) -> None:
    """Raises unless the estimator has the method of this name, and its settings allow for it.

    Raises:
        TypeError: The method is missing.
        ValueError: The estimator's own ``require_measure`` says what is in the way.
    """
    method_of(estimator, measure)
    if isinstance(estimator, _RequiresMeasure):
        estimator.require_measure(measure)


def kind_of(estimator: object) -> Kind | None:
    """Which kind of entropy an estimator deals in; ``None`` where it does not say.

    Raises:
        ValueError: Its ``kind`` is something else.
    """
    kind: Kind | None = getattr(estimator, "kind", None)
    checks.require_one_of(kind, ["discrete", "differential", None], "estimator.kind")
    return kind


def for_pairs(estimator: object) -> object | None:
    """The estimator of a divergence of two samples that belong in pairs; ``None`` without one.

    Two samples are paired where one was computed from the other. That does no harm where the
    distribution of each is found by itself, as by a histogram. It does where samples of one are
    sought among those of the other, as by nearest neighbours or by a critic: they are closer to
    each other than independent ones, and the divergence comes out too low. It also does where
    what chance does to each is corrected for by itself, as in the closed form of Gaussians. An
    estimator says by ``allows_pairs = True`` that pairs do no harm, or has another one for them
    under the name ``for_pairs``.
    """
    if getattr(estimator, "allows_pairs", False):
        return estimator
    other: object | None = getattr(estimator, "for_pairs", None)
    return other


def diagnosis(
    estimator: object, measure: str, tensors: Sequence[Any], value: Tensor | None
) -> list[Finding]:
    """What the estimator finds in the way of trusting its measure of these tensors.

    Arguments:
        estimator: Any; one without a method ``diagnose`` finds nothing.
        measure: The name of the method.
        tensors: Its arguments: tensors, or counts of them.
        value: The estimate; ``None`` where the estimator refused the tensors.
    """
    if not (isinstance(estimator, _Diagnoses) and callable(estimator.diagnose)):
        return []
    return list(estimator.diagnose(measure, tensors, value))


def estimate(estimator: object, measure: str, *tensors: Any) -> Estimate:
    """The value of a measure together with its standard error and findings.

    Arguments:
        estimator: Any that has the method.
        measure: The name of the method.
        tensors: Its arguments.

    Raises:
        TypeError: There is no such method. Other errors are raised by the method.
    """
    if isinstance(estimator, _Estimates) and callable(estimator.estimate):
        return estimator.estimate(measure, *tensors)
    return estimate_without_error(estimator, measure, *tensors)


def estimate_without_error(estimator: object, measure: str, *tensors: Any) -> Estimate:
    """The value of a measure and the findings on it, as fast as they can be had.

    A standard error may take many times as long as the value. It is there only where it comes
    with the value. Arguments and errors are those of :func:`estimate`.
    """
    if isinstance(estimator, _EstimatesWithoutError):
        return estimator.estimate_without_error(measure, *tensors)
    if not isinstance(estimator, _Diagnoses) and isinstance(estimator, _Estimates):
        return estimator.estimate(measure, *tensors)
    value = method_of(estimator, measure)(*tensors)
    try:
        findings = diagnosis(estimator, measure, tensors, value)
    except Exception as error:  # the value stands all the same
        failed = f"the estimator's own method diagnose failed ({type(error).__name__}: {error})"
        remedy = "The value does not depend on it; repair the method."
        findings = [Finding("warning", failed, math.nan, remedy, code="diagnosis-failed")]
    return Estimate(value, None, findings)
