"""How much the units of a layer's output depend on each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from infoprobe.estimators import Gaussian
from infoprobe.estimators.protocols import TotalCorrelationEstimator
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.measures.units import findings_on_constant_units, varying
from infoprobe.probing.roles import ROLES


@dataclass(frozen=True)
class TotalCorrelation(EstimatedMeasure):
    r"""Measures how much the units of a layer's output depend on each other, in nats.

    .. math:: \sum_i h(X_i) - h(X_1, \dots, X_d) \ge 0

    It is 0 where the d units are independent, and infinite where one is a function of others. It
    does not change when single units are rescaled. :class:`~infoprobe.Gaussian` sees linear
    dependence alone: its value is :math:`-\frac12 \ln \det` of the correlation matrix, without
    bias for Gaussian data. Units that are constant depend on nothing and are left out, which a
    finding says.

    Arguments:
        estimator: The estimator: any with ``total_correlation``.
        samples: The most samples that are kept, or ``None`` to use all of them without keeping
            any, as in :class:`Entropy`.
        project: The number of dimensions to project onto, as in :class:`Entropy`. Directions
            mix units, so the value is another one.
        select: What the samples are, as in :class:`Entropy`.

    References:
        S. Watanabe (1960). Information theoretical analysis of multivariate correlation. IBM
        Journal of Research and Development 4(1).

    Example:
        >>> model = torch.nn.Identity()
        >>> x = torch.randn(5000, 1)
        >>> with ip.probe(model, measures=ip.TotalCorrelation(samples=None)) as probe:
        ...     y = model(torch.cat([x, x + torch.randn(5000, 1)], 1))
        >>> abs(probe.report().rows[0]["value"] - 0.3466) < 0.03  # ln 2 / 2
        True
    """

    estimator: TotalCorrelationEstimator = Gaussian()

    name: ClassVar[str] = "total_correlation"
    _estimated: ClassVar[str] = "total_correlation"
    _arguments: ClassVar[dict[str, str]] = {"x": ROLES["output"]}

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "TC(output)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept: the output."""
        return (Need("output", self._kept()),)

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """That some units are constant."""
        yield from findings_on_constant_units(kept[0], ROLES["output"])

    def compute(self, output: Any) -> Reading:
        """The total correlation of the units, in nats."""
        return self._read(varying(output))
