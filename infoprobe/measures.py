r"""What is computed at a layer, from summaries of the tensors that passed there.

Three roles of tensors can be summarised for a layer: its ``"output"``, what it was given
(``"previous"``) and what the whole model was given (``"input"``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from infoprobe import checks
from infoprobe.binning import Counts
from infoprobe.estimators import Histogram
from infoprobe.estimators.corrections import OF_ENTROPY

Role = Literal["output", "previous", "input"]

# A divergence says so when more than this share of its reference lies where the output never is,
# or more than this share of its value hinges on the edge at zero.
_UNCOVERED = 0.01
_AT_ZERO = 0.1
_NEGLIGIBLE = 0.001  # nats

_OF = {"previous": "the layer's input", "input": "the model's input"}


class Reading(NamedTuple):
    """A measured value and what a reader should know of it."""

    value: float
    findings: list[str]


@dataclass(frozen=True)
class Entropy:
    r"""Entropy :math:`H` of a layer's output.

    With dyadic bins each layer is measured on the finest grid of its own, of bin width w; where
    a density exists, H is about its differential entropy minus ln w. To compare layers of
    different ranges, give the estimator an explicit ``range=(low, high)``.

    Arguments:
        estimator: Says which random variable; must be able to stream.
    """

    estimator: Histogram = Histogram()

    name: ClassVar[str] = "entropy"
    kind: ClassVar[str] = "discrete"
    reference: ClassVar[None] = None
    roles: ClassVar[tuple[Role, ...]] = ("output",)

    def __post_init__(self) -> None:
        _check_estimator(self.estimator)

    def compute(self, summaries: Mapping[Role, Counts]) -> Reading:
        """The entropy of the output, in nats."""
        return Reading(float(self.estimator.entropy(summaries["output"])), [])


@dataclass(frozen=True)
class Divergence:
    r"""Relative entropy :math:`KL(reference \| output)` of a reference from a layer's output.

    Arguments:
        estimator: Says which random variable; must be able to stream. The default adds one
            pseudo-count a bin, as Callahan & Paskett (2021) do: without any, a single value
            beyond the range of the output makes the divergence infinite.
        reference: ``"previous"``, what the layer was given, so that the divergence is that of
            its input against its output; or ``"input"``, what the whole model was given.
    """

    estimator: Histogram = Histogram(pseudocount=1)
    reference: Literal["previous", "input"] = "previous"

    name: ClassVar[str] = "divergence"
    kind: ClassVar[str] = "discrete"

    def __post_init__(self) -> None:
        _check_estimator(self.estimator)
        if self.estimator.correction in OF_ENTROPY:
            raise ValueError(
                f"estimator: expected one that gives probabilities, got correction="
                f"{self.estimator.correction!r}, which corrects entropies alone. Use a "
                "pseudocount, correction='james-stein' or None."
            )
        checks.one_of(self.reference, ["previous", "input"], "reference")

    @property
    def roles(self) -> tuple[Role, ...]:
        """The reference and the output."""
        return ("output", self.reference)

    def compute(self, summaries: Mapping[Role, Counts]) -> Reading:
        """The divergence in nats, with findings where empty bins or the edge at zero decide it."""
        reference, output = summaries[self.reference], summaries["output"]
        value = float(self.estimator.kl_divergence(reference, output))
        uncovered = float(self.estimator.uncovered(reference, output))
        findings = []
        if math.isinf(value) or uncovered >= _UNCOVERED:
            consequence = (
                "the divergence is infinite. Histogram(pseudocount=...) makes it finite."
                if math.isinf(value)
                else "the pseudo-count and the amount of data decide this number."
            )
            findings.append(
                f"{uncovered:.3%} of {_OF[self.reference]} lies in bins where the layer's output "
                f"has no value: {consequence}"
            )
        at_zero = float(self.estimator.kl_at_zero(reference, output))
        if at_zero >= max(_AT_ZERO * value, _NEGLIGIBLE):
            findings.append(
                f"{at_zero:.4f} nats of it only tell values within a bin above zero from those "
                "within a bin below: zero is an edge of the bins."
            )
        return Reading(value, findings)


Measure = Entropy | Divergence


def _check_estimator(estimator: Any) -> None:
    if not isinstance(estimator, Histogram):
        raise TypeError(
            f"estimator: expected ip.Histogram(...), got {estimator!r} of type "
            f"{type(estimator).__name__}."
        )
    if not estimator.streams:
        raise ValueError(
            f"estimator: {estimator} needs all the values at once, which a probe does not keep. "
            "Use over='values' with range='dyadic' or (low, high) here, or call the estimator on "
            "tensors that you keep."
        )
