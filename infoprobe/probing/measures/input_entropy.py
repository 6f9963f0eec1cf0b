"""The entropy of what goes into a layer, where no other row has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from infoprobe.estimators import Histogram
from infoprobe.estimators.protocols import EntropyEstimator
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.entropy import Entropy
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.measures.levels import Levels
from infoprobe.probing.roles import ROLES


@dataclass(frozen=True)
class InputEntropy(EstimatedMeasure):
    """Measures the entropy of an invertible layer's input, in nats.

    It has a row only where the input is not the output of the layer that was measured before: at
    the first layer of a flow, after a layer that was not chosen, and where several layers come
    together. So the ledger of a report knows the entropy on both sides of every layer. A probe
    adds the measure by itself where :class:`~infoprobe.EntropyChange` and
    :class:`~infoprobe.Entropy` are measured.

    Arguments:
        estimator: The estimator, as in :class:`~infoprobe.Entropy`.
        samples: As in :class:`~infoprobe.Entropy`.
        project: As in :class:`~infoprobe.Entropy`.
        width: As in :class:`~infoprobe.Entropy`.
        select: As in :class:`~infoprobe.Entropy`.
    """

    estimator: EntropyEstimator = Histogram()
    width: Literal["shared", "own"] = field(default="own", kw_only=True)

    name: ClassVar[str] = "input_entropy"
    optional: ClassVar[bool] = True
    _estimated: ClassVar[str] = "entropy"
    _arguments: ClassVar[dict[str, str]] = {"x": ROLES["unmeasured"]}

    @classmethod
    def beside(cls, entropy: Entropy) -> InputEntropy:
        """The same as a measure of the output's entropy, for the input."""
        return cls(
            entropy.estimator,
            samples=entropy.samples,
            project=entropy.project,
            width=entropy.width,
            select=entropy.select,
        )

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "H(layer's input)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the layer's input."""
        return (Need("unmeasured", self._kept()),)

    def compute(self, unmeasured: Any) -> Reading:
        """The entropy of the input, in nats."""
        return self._read(unmeasured)

    def levels(self, reading: Reading, unmeasured: Any) -> Levels | None:
        """The entropy on dyadic bins of all widths."""
        return self._levels(reading, unmeasured) if self.width == "shared" else None
