r"""What is computed at a layer, from summaries of the tensors that passed there.

Three roles of tensors can be summarised for a layer: its ``"output"``, what it was given
(``"previous"``) and what the whole model was given (``"input"``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from infoprobe import checks
from infoprobe.binning import Counts
from infoprobe.estimators import Histogram

Role = Literal["output", "previous", "input"]

# A divergence says so when more of its reference than this lies where the output never is.
_UNCOVERED = 0.01


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

    def compute(self, summaries: Mapping[Role, Counts]) -> Reading:
        """The entropy of the output, in nats."""
        return Reading(float(self.estimator.entropy(summaries["output"])), [])


@dataclass(frozen=True)
class Divergence:
    r"""Relative entropy :math:`KL(reference \| output)` of a layer's output from a reference.

    Arguments:
        estimator: Says which random variable; must be able to stream.
        reference: ``"previous"``, what the layer was given, so that the divergence is that of
            its input against its output; or ``"input"``, what the whole model was given.
    """

    estimator: Histogram = Histogram()
    reference: Literal["previous", "input"] = "previous"

    name: ClassVar[str] = "divergence"
    kind: ClassVar[str] = "discrete"

    def __post_init__(self) -> None:
        checks.one_of(self.reference, ["previous", "input"], "reference")

    @property
    def roles(self) -> tuple[Role, ...]:
        """The reference and the output."""
        return (self.reference, "output")

    def compute(self, summaries: Mapping[Role, Counts]) -> Reading:
        """The divergence in nats, with a finding where empty bins decide it."""
        reference, output = summaries[self.reference], summaries["output"]
        value = float(self.estimator.kl_divergence(reference, output))
        uncovered = float(self.estimator.uncovered(reference, output))
        findings = []
        if math.isinf(value):
            findings.append(
                f"{uncovered:.3%} of the {self.reference} lies in bins where the output has no "
                "value, so the divergence is infinite. Histogram(pseudocount=...) makes it finite."
            )
        elif uncovered >= _UNCOVERED:
            findings.append(
                f"{uncovered:.1%} of the {self.reference} lies in bins where the output has no "
                "value: the pseudo-count and the amount of data decide this number."
            )
        return Reading(value, findings)


Measure = Entropy | Divergence
