"""The relative entropy of a reference and a layer's output."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoprobe.estimators import Histogram
from infoprobe.estimators.protocols import DivergenceEstimator, estimate, for_pairs
from infoprobe.findings import Finding, code_of
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.roles import ROLES, described, require_reference, role_of


@dataclass(frozen=True)
class Divergence(EstimatedMeasure):
    r"""Measures the relative entropy :math:`KL(reference \| output)` at a layer, in nats.

    Each sample of the output comes from one of the reference, so both lie where the other is.
    Histograms compare two distributions that each was found on its own, and get all samples; what
    chance does to both alike then cancels. :class:`~infoprobe.Gaussian` without a shrinkage
    compares the reference of each quarter of the samples with a fit to the outputs of the others.
    Any other estimator, such as nearest neighbours, takes the samples for independent. It gets
    the reference of one half of the samples and the output of the other half, and the value is
    the mean of both ways to take them. The parts are drawn at random, the same at every layer.

    Arguments:
        estimator: The estimator, which says which random variable is meant. The default adds one
            pseudo-count to each bin, as Callahan & Paskett (2021) do: without it, a single value
            beyond the range of the output makes the divergence infinite.
        reference: What the output is compared with: ``"previous"`` for the layer's own input, or
            ``"input"`` for the input of the whole model, or the name of another layer that is
            probed, for what it returned last in the same pass.
        samples: The most samples that are kept, or ``None``, as in :class:`Entropy`.
        project: The number of dimensions to project onto, as in :class:`Entropy`. One matrix
            serves all tensors of the same width. The divergence of projections is at most that of
            the tensors themselves.
        select: What the samples are, as in :class:`Entropy`.
    """

    estimator: DivergenceEstimator = Histogram(pseudocount=1)
    reference: str = "previous"

    name: ClassVar[str] = "divergence"
    _estimated: ClassVar[str] = "kl_divergence"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_reference(self.reference, ["previous", "input"])

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return f"KL({reference}||output)"

    @property
    def _arguments(self) -> dict[str, str]:
        return {"p": described(role_of(self.reference)), "q": ROLES["output"]}

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the reference and the output."""
        kept = self._kept()
        return Need(role_of(self.reference), kept), Need("output", kept)

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """Refuses to compare integers with an output of real numbers."""
        reference = role_of(self.reference)
        if reference in circumstances.integers and "output" not in circumstances.integers:
            raise ValueError(
                f"It does not apply: {described(reference)} holds integers, such as token ids or "
                "labels, and the output real numbers, and they have no scale in common. Measure "
                "ip.MutualInformation, or another reference."
            )
        yield from ()

    def compute(self, reference: Any, output: Any) -> Reading:
        """The divergence of the reference from the output, in nats."""
        of_pairs = for_pairs(self.estimator)
        if of_pairs is not None:
            return Reading.of(
                estimate(of_pairs, self._estimated, reference, output), self._arguments
            )
        one, other = _halves(len(output))
        there = self._read(reference[one], output[other])
        back = self._read(reference[other], output[one])
        # The figures in the findings of the two ways differ a little.
        known = set(map(code_of, there.findings))
        new = [finding for finding in back.findings if code_of(finding) not in known]
        stderr = None
        if there.stderr is not None and back.stderr is not None:
            stderr = math.hypot(there.stderr, back.stderr) / 2
        return Reading((there.value + back.value) / 2, [*there.findings, *new], stderr)


def _halves(n: int) -> tuple[Tensor, Tensor]:
    """The places of two random halves of n samples."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0), device="cpu")
    return order[: n // 2], order[n // 2 :]
