"""The matrix-based entropy of the tokens of each prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.sequences.matrix_entropy import matrix_entropies
from infoprobe.estimators.sequences.outcomes import Outcomes, lengths_of
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.averages import Average, OverSequences, Statistic
from infoprobe.probing.measures.averaged import findings_on, reading_of
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind

Normalization = Literal["ln n", "ln min(n, d)"]


@dataclass(frozen=True)
class MatrixEntropies(Statistic):
    """The matrix-based entropy of each sequence, perhaps as a share of the most it can be.

    Attributes:
        alpha: The order.
        normalize: What it is divided by.
    """

    alpha: float
    normalize: Normalization | None

    def of(self, x: Tensor, mask: Tensor | None) -> Outcomes:
        """The entropies of the sequences (n, t, d)."""
        found = matrix_entropies(x, mask, self.alpha)
        if self.normalize is None:
            return found
        most = lengths_of(x, mask)
        if self.normalize == "ln min(n, d)":
            if x.shape[2] == 1:
                raise ArgumentValueError(
                    "normalize",
                    "expected tokens of 2 units or more, since ln min(n, d) is 0 for 1 unit, got "
                    f"shape {tuple(x.shape)}. Use normalize=None.",
                )
            most = most.clamp(max=x.shape[2])
        # Where there are fewer than 2 tokens, there is no value to divide.
        return found._replace(values=found.values / most.clamp(min=2).double().log())


@dataclass(frozen=True)
class TokenEntropy(Measure):
    r"""Measures how evenly the tokens of a prompt spread over directions, averaged over prompts.

    The rows of Z are the n tokens of one prompt at a layer, and :math:`\lambda_i` are the
    eigenvalues of :math:`Z Z^\top / \operatorname{tr} Z Z^\top`:

    .. math::
        S_\alpha(Z) = \frac{1}{1 - \alpha} \ln \sum_i \lambda_i^\alpha, \qquad
        S_1(Z) = - \sum_i \lambda_i \ln \lambda_i .

    The value is the mean over all prompts, in nats, with its standard error over prompts. It is
    0 where all tokens are multiples of one, and ln r where r orthogonal tokens of equal length
    share the prompt evenly; it is at most ln min(n, d). ``exp(value)`` is an effective rank.

    The layer's output must have the shape (n, t, d): n prompts of t tokens. A mask that
    :meth:`Probe.mask` was given leaves padding out exactly, as if each prompt came alone without
    it. Each layer costs the eigenvalues of a t × t or d × d matrix for each prompt, whichever is
    smaller, in float64; ``alpha=2`` needs none. Nothing is stored but six sums. Prompts that come
    twice count twice; then the error is too small, which a finding says.

    It is no information in Shannon's sense: it changes when the layer is followed by an
    invertible linear map, depends on the length of prompts unless ``normalize`` is given, and one
    token of large norm brings it close to 0. See ``docs/language_models``.

    Arguments:
        alpha: The order :math:`\alpha > 0`; 1 is the von Neumann entropy.
        normalize: What the entropy of each prompt is divided by: ``None`` for nothing,
            ``"ln n"``, or ``"ln min(n, d)"``, the most that it can be. The unit is then
            ``"share"``.

    References:
        | O. Skean et al. (2025). Layer by layer: uncovering hidden representations in language
          models. ICML. arXiv:2502.02013.
        | L. G. Sanchez Giraldo, M. Rao & J. C. Príncipe (2015). Measures of entropy from data
          using infinitely divisible kernels. IEEE Transactions on Information Theory 61(1).

    Example:
        >>> model = torch.nn.Identity()
        >>> with ip.probe(model, measures=ip.TokenEntropy(normalize="ln n")) as probe:
        ...     y = model(torch.eye(4).expand(3, 4, 4))
        >>> round(probe.report().rows[0]["value"], 6)
        1.0
    """

    alpha: float = 1.0
    normalize: Normalization | None = None

    name: ClassVar[str] = "token_entropy"
    kind: ClassVar[Kind] = "exact"

    def __post_init__(self) -> None:
        checks.require_real_field(self, "alpha", 0)
        if self.alpha == 0:
            raise ArgumentValueError("alpha", "expected a positive number, got 0.")
        if self.normalize is not None:
            checks.require_one_of(self.normalize, ["ln n", "ln min(n, d)"], "normalize")

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "S(tokens)"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """Nats, or the share of the most."""
        return "nats" if self.normalize is None else "share"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the average over prompts."""
        statistic = MatrixEntropies(float(self.alpha), self.normalize)
        return (Need("output", OverSequences(statistic)),)

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """Which prompts were left out."""
        yield from findings_on(kept[0], "prompts", 2)

    def compute(self, average: Average) -> Reading:
        """The mean entropy of a prompt's tokens."""
        return reading_of(average, "prompts")
