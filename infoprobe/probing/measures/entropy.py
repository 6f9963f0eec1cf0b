"""The entropy of a layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from infoprobe.estimators import Histogram
from infoprobe.estimators.protocols import EntropyEstimator
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.roles import ROLES


@dataclass(frozen=True)
class Entropy(EstimatedMeasure):
    r"""Measures the entropy :math:`H` of a layer's output, in nats.

    With dyadic bins, each layer is measured on the finest grid that spans its own values, with
    bins of a width w of its own. Where the output has a density, H is about its differential
    entropy minus ln w. To compare layers of different ranges, give the estimator an explicit
    ``range=(low, high)``.

    Arguments:
        estimator: The estimator, which says which random variable is meant. A
            :class:`~infoprobe.Histogram` over values with dyadic or explicit bins streams all
            values; any other estimator is given samples that were kept.
        samples: The most samples that are kept for an estimator that does not stream. They are
            drawn at random from all samples, and are the same at every layer.
        project: The number of dimensions onto which wider samples are projected, by a random
            matrix, before they are kept; the entropy is then that of the projection. ``None``
            keeps them as they are.
        select: What the samples are. ``None`` for the entries along the first axis; ``"tokens"``
            for all tokens of sequences (n, t, d); ``"last"``, ``"first"`` or an integer for one
            token of each sequence, counted from 0 or, if negative, from the end;
            ``"positions"`` for all those of images (n, c, h, w); or a function that is given a
            tensor and returns one with the samples along its first axis. Tokens that the mask
            leaves out (:meth:`Probe.mask`) are no samples and are not counted along; a function
            is given all of them.
    """

    estimator: EntropyEstimator = Histogram()

    name: ClassVar[str] = "entropy"
    _estimated: ClassVar[str] = "entropy"
    _arguments: ClassVar[dict[str, str]] = {"x": ROLES["output"]}

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "H(output)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept: the output."""
        return (Need("output", self._kept()),)

    def compute(self, output: Any) -> Reading:
        """The entropy of the output, in nats."""
        return self._read(output)
