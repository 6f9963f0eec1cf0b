"""The mutual information of a reference and a layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from infoprobe import checks
from infoprobe.estimators import KNN
from infoprobe.estimators.protocols import InformationEstimator
from infoprobe.probing.kept.samples import Sampling
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.roles import ROLES


@dataclass(frozen=True)
class MutualInformation(EstimatedMeasure):
    r"""Measures the mutual information :math:`I(reference; output)` at a layer, in nats.

    It is estimated from pairs, so samples are always kept.

    Arguments:
        estimator: The estimator, which says which random variables are meant: ``ip.KNN()``
            (k nearest neighbours, by Ross' method where the target is a vector of integer
            labels), ``ip.Histogram(bins=30, over="samples")`` (the bins of all units together
            are one symbol, as in information planes), or any other with ``mutual_information``.
        reference: The other variable: ``"input"`` for the input of the whole model,
            ``"previous"`` for the layer's own input, or ``"target"`` for what
            :meth:`Probe.target` was given before the pass.
        samples: The most samples that are kept, as in :class:`Entropy`.
        project: The number of dimensions to project onto, as in :class:`Entropy`. Both sides are
            projected, and by the data processing inequality the information between projections
            is at most that between the tensors.

    In a deterministic network, I(input; output) is infinite for continuous inputs, and constant
    for discrete inputs as long as the layers are injective. What an estimate shows is then the
    resolution of the estimator, above all that of its bins (Saxe et al. 2018, Goldfeld et al.
    2019).

    References:
        | A. Saxe et al. (2018). On the information bottleneck theory of deep learning. ICLR.
        | Z. Goldfeld et al. (2019). Estimating information flow in deep neural networks. ICML.
        | R. Schwartz-Ziv & N. Tishby (2017). Opening the black box of deep neural networks via
          information. arXiv:1703.00810.
    """

    estimator: InformationEstimator = KNN()
    reference: Literal["input", "previous", "target"] = "input"

    name: ClassVar[str] = "mutual_information"
    _estimated: ClassVar[str] = "mutual_information"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_one_of(self.reference, ["input", "previous", "target"], "reference")

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return f"I({reference};output)"

    @property
    def _arguments(self) -> dict[str, str]:
        return {"x": ROLES[self.reference], "y": ROLES["output"]}

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept: samples of the reference and of the output."""
        kept = Sampling(self.samples, self.project)
        return Need(self.reference, kept), Need("output", kept)

    def compute(self, reference: Any, output: Any) -> Reading:
        """The mutual information of the reference and the output, in nats."""
        return self._read(reference, output)
