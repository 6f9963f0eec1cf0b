"""The relative entropy of a reference and a layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from infoprobe import checks
from infoprobe.estimators import Histogram
from infoprobe.estimators.protocols import DivergenceEstimator
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.roles import ROLES


@dataclass(frozen=True)
class Divergence(EstimatedMeasure):
    r"""Measures the relative entropy :math:`KL(reference \| output)` at a layer, in nats.

    Arguments:
        estimator: The estimator, which says which random variable is meant. The default adds one
            pseudo-count to each bin, as Callahan & Paskett (2021) do: without it, a single value
            beyond the range of the output makes the divergence infinite.
        reference: What the output is compared with: ``"previous"`` for the layer's own input, or
            ``"input"`` for the input of the whole model.
        samples: The most samples that are kept, as in :class:`Entropy`.
        project: The number of dimensions to project onto, as in :class:`Entropy`. One matrix
            serves all tensors of the same width. The divergence of projections is at most that of
            the tensors themselves.
    """

    estimator: DivergenceEstimator = Histogram(pseudocount=1)
    reference: Literal["previous", "input"] = "previous"

    name: ClassVar[str] = "divergence"
    _estimated: ClassVar[str] = "kl_divergence"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_one_of(self.reference, ["previous", "input"], "reference")

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return f"KL({reference}||output)"

    @property
    def _arguments(self) -> dict[str, str]:
        return {"p": ROLES[self.reference], "q": ROLES["output"]}

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept: the reference and the output."""
        kept = self._kept()
        return Need(self.reference, kept), Need("output", kept)

    def compute(self, reference: Any, output: Any) -> Reading:
        """The divergence of the reference from the output, in nats."""
        return self._read(reference, output)
