"""The matrix-based entropy of prompts, each of which is the mean over its tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.alike import kinds
from infoprobe.estimators.sequences.matrix_entropy import entropy_of_samples
from infoprobe.findings import Finding
from infoprobe.probing.kept.pooled import Pooling
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind

# From which share of ln n on an entropy tells of the number of different prompts.
_NEAR = 0.8


@dataclass(frozen=True)
class PromptEntropy(Measure):
    r"""Measures how evenly a data set's prompts spread over directions, in nats.

    Each prompt (t, d) counts as the mean over its tokens, of which a mask leaves padding out, and
    a sample without tokens counts as it is. With these means as the rows of Z, the value is

    .. math::
        S_\alpha(Z) = \frac{1}{1 - \alpha} \ln \sum_i \lambda_i^\alpha, \qquad
        S_1(Z) = - \sum_i \lambda_i \ln \lambda_i ,

    where :math:`\lambda_i` are the eigenvalues of :math:`Z Z^\top / \operatorname{tr} Z Z^\top`.
    It is the data-set entropy of *Layer by Layer*; :class:`~infoprobe.TokenEntropy` is the same
    of the tokens within each prompt. It is at most ln min(n, d), and does not mean that a layer
    knows much: noise spreads most evenly of all.

    The standard error is that of the infinitesimal jackknife over prompts, by the gradient of the
    entropy with respect to the weights of the prompts. It is about samples of this size: with few
    prompts for the number of units, the entropy is lower than that of more prompts, which a
    finding says, and the error is too large, by up to two thirds. Means are not subtracted, as in
    the paper, so a mean that all prompts share makes the value small.

    Arguments:
        alpha: The order :math:`\alpha > 0`; 1 is the von Neumann entropy.
        samples: The most prompts that are kept, drawn at random, the same at every layer.

    References:
        O. Skean et al. (2025). Layer by layer: uncovering hidden representations in language
        models. ICML. arXiv:2502.02013.

    Example:
        >>> model = torch.nn.Identity()
        >>> with ip.probe(model, measures=ip.PromptEntropy()) as probe:
        ...     y = model(torch.eye(4).repeat(50, 1))
        >>> round(probe.report().rows[0]["value"], 6)  # ln 4
        1.386294
    """

    alpha: float = 1.0
    samples: int = 4096

    name: ClassVar[str] = "prompt_entropy"
    kind: ClassVar[Kind] = "exact"

    def __post_init__(self) -> None:
        checks.require_real_field(self, "alpha", 0)
        if self.alpha == 0:
            raise ArgumentValueError("alpha", "expected a positive number, got 0.")
        checks.require_integer_field(self, "samples", 2)

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "S(prompts)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely means over tokens."""
        return (Need("output", Pooling(self.samples)),)

    def compute(self, prompts: Tensor) -> Reading:
        """The entropy of the prompts, in nats."""
        x = prompts.flatten(1)
        if len(x) < 2:
            raise ArgumentValueError("x", f"expected 2 prompts or more, got {len(x)}.")
        value, stderr = entropy_of_samples(x, float(self.alpha))
        number = 1 + int(kinds(x).max())
        share = float(value) / math.log(number) if number > 1 else 0.0
        findings = []
        if share >= _NEAR:
            finding = Finding(
                "warning",
                f"the entropy is {share:.0%} of ln n, the most that {number:,} different prompts "
                "can show",
                share,
                "Measure more prompts, and compare only values of equally many.",
                code="too-few-prompts",
            )
            findings.append(str(finding))
        return Reading(float(value), findings, float(stderr))
