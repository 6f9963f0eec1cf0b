"""How sharply the path of tokens turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from infoprobe.estimators.sequences.curvature import curvatures
from infoprobe.estimators.sequences.outcomes import Outcomes
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.averages import Average, OverSequences, Statistic
from infoprobe.probing.measures.averaged import findings_on, reading_of
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind


@dataclass(frozen=True)
class Curvatures(Statistic):
    """The mean angle between successive steps of each sequence."""

    def of(self, x: Tensor, mask: Tensor | None) -> Outcomes:
        """The angles of the sequences (n, t, d)."""
        return curvatures(x, mask)


@dataclass(frozen=True)
class Curvature(Measure):
    r"""Measures how sharply the path from token to token turns, in radians, averaged over prompts.

    With the steps :math:`v_k = z_{k+1} - z_k` between the successive tokens of a prompt, it is
    the mean over k of

    .. math:: \arccos \frac{v_k^\top v_{k+1}}{|v_k| |v_{k+1}|} ,

    and the value is the mean over all prompts, with its standard error over prompts: 0 for a
    straight path, π for one that goes back and forth, and 2π/3 on average for tokens that are
    independent of each other in many dimensions. Where successive tokens are equal there is no
    angle, and the others of the prompt are averaged.

    The layer's output must have the shape (n, t, d), with at least 3 tokens. A mask that
    :meth:`Probe.mask` was given leaves padding out exactly. It is a property of the path's shape,
    and no information: it does not change when the layer is rotated, shifted or scaled, and does
    when it is stretched in one direction.

    References:
        | E. Hosseini & E. Fedorenko (2023). Large language models implicitly learn to straighten
          neural sentence trajectories to construct a predictive representation of natural
          language. NeurIPS. arXiv:2311.04930.
        | O. Hénaff, R. Goris & E. Simoncelli (2019). Perceptual straightening of natural videos.
          Nature Neuroscience 22.

    Example:
        >>> model = torch.nn.Identity()
        >>> with ip.probe(model, measures=ip.Curvature()) as probe:
        ...     y = model(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]).expand(2, 3, 2))
        >>> round(probe.report().rows[0]["value"], 4)
        1.5708
    """

    name: ClassVar[str] = "curvature"
    unit: ClassVar[str] = "radians"
    kind: ClassVar[Kind] = "exact"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the average over prompts."""
        return (Need("output", OverSequences(Curvatures())),)

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """Which prompts were left out."""
        yield from findings_on(kept[0], "prompts", 3)

    def compute(self, average: Average) -> Reading:
        """The mean angle between successive steps."""
        return reading_of(average, "prompts")
