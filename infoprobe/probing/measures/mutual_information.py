"""The mutual information of a reference and a layer's output."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoprobe.estimators import KNN
from infoprobe.estimators.protocols import InformationEstimator
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.measures.units import findings_on_constant_units, varying
from infoprobe.probing.roles import ROLES, described, require_reference, role_of

# An output with fewer different values than this share of the samples is discrete.
_DISCRETE = 0.5
# With fewer samples, labels may be in order by chance.
_SORTED = 16


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
            ``"previous"`` for the layer's own input, ``"target"`` for what :meth:`Probe.target`
            was given before the pass, or the name of another layer that is probed, for what it
            returned last in the same pass.
        samples: The most samples that are kept, as in :class:`Entropy`.
        project: The number of dimensions to project onto, as in :class:`Entropy`. Both sides are
            projected, and by the data processing inequality the information between projections
            is at most that between the tensors.
        select: What the samples are, as in :class:`Entropy`.

    In a deterministic network, I(input; output) is infinite for continuous inputs, and the
    entropy of the output for discrete ones. What an estimate shows is then the resolution of the
    estimator, above all that of its bins (Saxe et al. 2018, Goldfeld et al. 2019). Where no random
    number was drawn between the reference and the output, a finding says so; it knows of torch's
    global generators and of those that modules hold as attributes when the probe is made.

    Units that are constant carry no information and are left out, which a finding says, too. Where
    a layer seems to add information about the input or the target, which none can do, a finding
    says by how much.

    References:
        | A. Saxe et al. (2018). On the information bottleneck theory of deep learning. ICLR.
        | Z. Goldfeld et al. (2019). Estimating information flow in deep neural networks. ICML.
        | R. Schwartz-Ziv & N. Tishby (2017). Opening the black box of deep neural networks via
          information. arXiv:1703.00810.
    """

    estimator: InformationEstimator = KNN()
    reference: str = "input"

    name: ClassVar[str] = "mutual_information"
    never_rises: ClassVar[bool] = True
    streams_moments: ClassVar[bool] = False
    _estimated: ClassVar[str] = "mutual_information"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_reference(self.reference, ["input", "previous", "target"])

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return f"I({reference};output)"

    @property
    def _arguments(self) -> dict[str, str]:
        return {"x": described(role_of(self.reference)), "y": ROLES["output"]}

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely samples of the reference and of the output."""
        assert self.samples is not None  # see streams_moments
        kept = Sampling(self.samples, self.project, self.select)
        return Need(role_of(self.reference), kept), Need("output", kept)

    def compute(self, reference: Any, output: Any) -> Reading:
        """The mutual information of the reference and the output, in nats."""
        return self._read(varying(reference), varying(output))

    @property
    def asks_for_noise(self) -> bool:  # type: ignore[override]
        """Whether it must be known if a layer draws random numbers."""
        return self.reference != "target"

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """That the layer is deterministic, the target always the same, or some units are."""
        reference, output = kept
        if self.reference == "target":
            yield from _constant_target(reference)
            if circumstances.window:
                yield from _sorted_target(reference)
        elif role_of(self.reference) not in circumstances.random | circumstances.integers:
            yield from _deterministic(output, described(role_of(self.reference)))
        yield from findings_on_constant_units(reference, described(role_of(self.reference)))
        yield from findings_on_constant_units(output, ROLES["output"])


def _constant_target(target: Tensor) -> Iterator[Finding]:
    if bool((target == target[:1]).all()):
        yield Finding(
            "warning",
            f"the target is the same for all {len(target):,} samples, so the information about "
            "it is 0 whatever the layer knows",
            float(len(target)),
            "Shuffle the data, or measure more passes together.",
            code="constant-target",
        )


def _sorted_target(target: Tensor) -> Iterator[Finding]:
    """A finding if the labels come class by class, which other windows then have others of."""
    if target.dim() != 1 or target.is_floating_point() or len(target) < _SORTED:
        return
    classes = len(torch.unique(target))
    if 1 < classes == 1 + int((target[1:] != target[:-1]).sum()) <= len(target) // 2:
        yield Finding(
            "warning",
            f"the samples come sorted by their target, so this window has {classes} of its "
            "classes, each in one piece, and other windows have others: the information is about "
            "these classes alone",
            float(classes),
            "Shuffle the data, or measure without windows.",
            code="sorted-target",
        )


def _deterministic(output: Tensor, reference: str) -> Iterator[Finding]:
    values = len(torch.unique(output, dim=0))
    if values > _DISCRETE * len(output):
        yield Finding(
            "warning",
            "no random number was drawn from torch's generators or those that modules hold "
            f"between {reference} and the output, and of a deterministic layer the information "
            "is infinite for continuous data; the value shows only what the estimator can resolve",
            math.inf,
            "Measure reference='target', or add noise to the layer.",
            code="deterministic",
        )
