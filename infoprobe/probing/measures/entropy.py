"""The entropy of a layer's output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators import Histogram
from infoprobe.estimators.protocols import EntropyEstimator
from infoprobe.probing.measures.base import Need, Reading
from infoprobe.probing.measures.estimated import EstimatedMeasure
from infoprobe.probing.measures.levels import Levels
from infoprobe.probing.roles import ROLES


@dataclass(frozen=True)
class Entropy(EstimatedMeasure):
    r"""Measures the entropy :math:`H` of a layer's output, in nats.

    ``ip.Entropy()``, the default of a probe, has bins of one width at all layers of a report, so
    that entropies can be compared with each other: down the page, and over the steps of a tracked
    training. Each layer is counted on the finest dyadic bins that span its own values, and when a
    report is made, neighbouring bins are merged, without loss, until most layers have the same
    width. That is the width of the widest bins, unless other layers would then be left with a few
    bins only. Two findings name the layers that do not fit: ``coarse-bins`` and ``wider-bins``.
    The width stands in ``report.settings`` and below the table. The values are those of
    :func:`infoprobe.entropy` on the same data with the same bins::

        h = ip.Histogram()
        h.entropy(h.count(output).at_width(2**-5))

    Whoever names an estimator gets exactly what it says of each layer by itself:
    ``ip.Entropy(ip.Histogram())`` takes bins of a width of its own at every layer, which moves
    an entropy by ln 2 for each doubling, and ``ip.Entropy(ip.Histogram(bins=1000, range="own"))``
    is the definition of Callahan & Paskett (2021).

    Arguments:
        estimator: The estimator, which says which random variable is meant; without one, it is
            ``ip.Histogram()`` on bins of one width. A :class:`~infoprobe.Histogram` over values
            with dyadic or explicit bins streams all values; any other estimator is given samples
            that were kept.
        samples: The most samples that are kept for an estimator that does not stream. They are
            drawn at random from all samples, and are the same at every layer. ``None`` keeps no
            sample but the mean and the covariance of all of them, which is all that
            :class:`~infoprobe.Gaussian` needs; it cannot be told then how Gaussian the data are.
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
        width: ``"shared"`` brings a histogram with dyadic bins to one width for all layers, and
            ``"own"`` leaves it as it is. By default it is ``"own"`` with an estimator, and
            ``"shared"`` without.
    """

    # Without an estimator, which __post_init__ then chooses, the width is the shared one.
    estimator: EntropyEstimator = None  # type: ignore[assignment]
    width: Literal["shared", "own"] = field(default=None, kw_only=True)  # type: ignore[arg-type]

    name: ClassVar[str] = "entropy"
    _estimated: ClassVar[str] = "entropy"
    _arguments: ClassVar[dict[str, str]] = {"x": ROLES["output"]}

    def __post_init__(self) -> None:
        estimator: Any = self.estimator
        width: Any = self.width
        if width is None:
            width = "shared" if estimator is None else "own"
        if estimator is None:
            estimator = Histogram()
        object.__setattr__(self, "estimator", estimator)
        object.__setattr__(self, "width", width)
        super().__post_init__()
        checks.require_one_of(width, ["shared", "own"], "width")
        dyadic = isinstance(estimator, Histogram) and estimator.range == "dyadic"
        if width == "shared" and not (dyadic and estimator.streams):
            raise ArgumentValueError(
                "width",
                "expected 'own' unless the estimator is an ip.Histogram(range='dyadic') over "
                f"values, whose bins can be merged, got 'shared' and {estimator!r}.",
            )

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "H(output)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the output."""
        return (Need("output", self._kept()),)

    def compute(self, output: Any) -> Reading:
        """The entropy of the output, in nats."""
        return self._read(output)

    def levels(self, reading: Reading, output: Any) -> Levels | None:
        """The entropy on dyadic bins of all widths."""
        return self._levels(reading, output) if self.width == "shared" else None
