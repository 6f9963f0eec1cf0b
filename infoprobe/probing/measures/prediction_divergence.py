"""How far what a model would predict from each of its layers is from what it predicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.read_outs import KeptPredictions
from infoprobe.probing.measures.averaged import findings_on, reading_of
from infoprobe.probing.measures.base import Reading
from infoprobe.probing.measures.prediction_entropy import PredictionEntropy


@dataclass(frozen=True)
class PredictionDivergence(PredictionEntropy):
    r"""Measures how far the prediction read out of a layer is from the final one, in nats.

    It is the mean over positions of :math:`KL(p \| q) = \sum_v p_v \ln \frac{p_v}{q_v}`, with the
    prediction q that is read out of the layer, as by :class:`~infoprobe.PredictionEntropy`, and
    the final prediction p. The final prediction is what is read out of the last layer in the
    pass that the read-out fits: choose the blocks up to the last one by ``layers=``. At that
    layer the value is 0, and its row says so.

    Arguments:
        read_out: As in :class:`~infoprobe.PredictionEntropy`; with the same, and as many
            positions, each prediction is read out once for both measures.
        positions: As in :class:`~infoprobe.PredictionEntropy`.

    References:
        N. Belrose et al. (2023). Eliciting latent predictions from transformers with the tuned
        lens. arXiv:2303.08112.
    """

    name: ClassVar[str] = "prediction_divergence"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "KL(final prediction||prediction)"

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """Which positions were left out."""
        if kept[0].divergence is not None:
            yield from findings_on(kept[0].divergence, "positions")

    def compute(self, predictions: KeptPredictions) -> Reading:
        """The mean divergence of the final predictions from the layer's, in nats."""
        assert predictions.divergence is not None
        reading = reading_of(predictions.divergence, "positions")
        if reading.value != 0:
            return reading
        return reading._replace(findings=[*reading.findings, _FINAL])


_FINAL = (
    "The prediction of this layer was the final one: it is the last layer chosen by layers= that "
    "the read-out fits."
)
