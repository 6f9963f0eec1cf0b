"""How much two views of the same samples have in common, by a difference of entropies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError
from infoprobe.estimators.errors import stderr_without_groups
from infoprobe.estimators.renyi import MatrixRenyi
from infoprobe.estimators.views import difference_of_entropies
from infoprobe.probing.kept.pooled import Pairing
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.probing.measures.info_nce import require_pairs
from infoprobe.probing.measures.same_pairs import of_same_pairs
from infoprobe.rows import Kind

# How many groups of pairs are left out in turn for the standard error.
_GROUPS = 10


@dataclass(frozen=True)
class DiME(Measure):
    r"""Measures what two views of the same samples share, by a difference of entropies, in nats.

    The joint matrix-based entropy of both views, minus what it is once pairs are broken up:

    .. math:: E_\Pi\, S_\alpha(K_X, \Pi K_Y \Pi^\top) - S_\alpha(K_X, K_Y)

    The mean is over random permutations of one view. Independent views have values around 0, and
    views that tell the same samples to be alike have large ones. Two passes give the views, as for
    :class:`~infoprobe.InfoNCE`, and each prompt counts as the mean over its tokens. It is no
    Shannon information, and depends on the kernel and on the number of pairs: compare layers for
    the same data alone. The standard error is that of the delete-a-group jackknife over pairs.

    Each layer costs the eigenvalues of about 60 n × n matrices when the report is made, a second
    for 256 pairs.

    Arguments:
        estimator: What gives joint entropies.
        permutations: The number of permutations.
        samples: The most pairs that are kept, drawn at random, the same at every layer.

    References:
        O. Skean, J. Osorio, A. Brockmeier & L. G. Sanchez Giraldo (2023). DiME: maximizing mutual
        information by a difference of matrix-based entropies. arXiv:2301.08164.

    Example:
        >>> model = torch.nn.Identity()
        >>> x = torch.randn(100, 3)
        >>> with ip.probe(model, measures=ip.DiME()) as probe:
        ...     y = model(x + 0.1 * torch.randn(100, 3))
        ...     probe.pair()
        ...     y = model(x + 0.1 * torch.randn(100, 3))
        >>> probe.report().rows[0]["value"] > 0.5
        True
    """

    estimator: MatrixRenyi = MatrixRenyi()
    permutations: int = 5
    samples: int = 256

    name: ClassVar[str] = "dime"
    kind: ClassVar[Kind] = "discrete"

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, MatrixRenyi):
            raise ArgumentTypeError(
                "estimator",
                "expected ip.MatrixRenyi(...), which has joint entropies, got "
                f"{checks.shown(self.estimator)}.",
            )
        checks.require_integer_field(self, "permutations", 1)
        checks.require_integer_field(self, "samples", 2)

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "DiME(view;view)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely two views of each sample."""
        return (Need("output", Pairing(self.samples)),)

    def compute(self, pairs: Tensor) -> Reading:
        """The difference of entropies, in nats."""
        require_pairs(pairs)

        def shared(x: Tensor, y: Tensor) -> Tensor:
            return difference_of_entropies(x, y, self.estimator, self.permutations)

        views = [pairs[:, 0], pairs[:, 1]]
        value = shared(*views)
        stderr = stderr_without_groups(shared, value, views, _GROUPS)
        findings = [str(finding) for finding in of_same_pairs(pairs)]
        if stderr is None:
            return Reading(float(value), [*findings, "It has no standard error: too few pairs."])
        return Reading(float(value), findings, float(stderr))
