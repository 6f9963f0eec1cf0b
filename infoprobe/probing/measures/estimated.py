"""What the measures that an estimator computes have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from infoprobe import checks
from infoprobe.errors import ArgumentError, ArgumentValueError
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.grids import DyadicGrid
from infoprobe.estimators.protocols import (
    StreamingEstimator,
    estimate,
    kind_of,
    require_measure,
)
from infoprobe.probing.kept.base import Reduction
from infoprobe.probing.kept.counts import Counting
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.kept.second_moments import Correlating
from infoprobe.probing.measures.base import Measure, Reading
from infoprobe.probing.measures.levels import Level, Levels, LevelsOfCounts
from infoprobe.probing.selection import Select, require_select
from infoprobe.rows import Kind


@dataclass(frozen=True)
class EstimatedMeasure(Measure):
    """A measure that an estimator computes, from counts or from samples."""

    estimator: Any
    _: KW_ONLY
    samples: int | None = 4096
    project: int | None = None
    select: Select = None

    streams_moments: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_measure(self.estimator, self._estimated)
        kind_of(self.estimator)
        if self.samples is not None:
            fewest = getattr(self.estimator, "fewest_samples", 2)
            checks.require_integer_field(self, "samples", fewest)
        elif not (self.streams_moments and getattr(self.estimator, "takes_moments", False)):
            raise ArgumentValueError(
                "samples",
                f"expected the most samples to keep, got None for {self!r}. All samples are used "
                "without keeping them by the entropy, the divergence and the total correlation "
                "of ip.Gaussian(), whose shrinkage is no name.",
            )
        if self.project is not None:
            checks.require_integer_field(self, "project", 1)
        object.__setattr__(self, "select", require_select(self.select))

    @property
    @abstractmethod
    def _estimated(self) -> str:
        """The name of the estimator's method."""

    @property
    @abstractmethod
    def _arguments(self) -> dict[str, str]:
        """For each argument of the method, the role of the tensors that it is given."""

    @property
    def kind(self) -> Kind | None:
        """Whether the estimator is one of discrete or of continuous variables."""
        return kind_of(self.estimator)

    @property
    def distinct(self) -> bool:
        """Whether copies say nothing: they do where a variable is discrete."""
        return self.kind != "discrete"

    @property
    def method(self) -> str:
        """The estimator and its settings."""
        return repr(self.estimator)

    def _kept(self) -> Reduction:
        """What is kept of each role's tensors: counts where the estimator streams, or samples."""
        if self.samples is None:
            return Correlating(self.project, self.select)
        if isinstance(self.estimator, StreamingEstimator) and self.estimator.streams:
            return Counting(self.estimator.uncorrected, self.select)
        return Sampling(self.samples, self.project, self.select)

    def why_none(self, error: ArgumentError) -> str:
        """What a report says of an error, with what the arguments are to the layer."""
        names = error.argument.split(", ")
        if not all(name in self._arguments for name in names):
            return super().why_none(error)
        return f"{' and '.join(self._arguments[name] for name in names)}: {error.problem}"

    def _read(self, *kept: Any) -> Reading:
        found = estimate(self.estimator, self._estimated, *kept)
        return Reading.of(found, self._arguments)

    def _levels(self, reading: Reading, kept: Any) -> Levels | None:
        """The value on dyadic bins of all widths, if it is of such bins."""
        if not (isinstance(kept, Counts) and isinstance(kept.grid, DyadicGrid)):
            return None

        def level(counts: Counts, found: Reading | None = None) -> Level:
            found = (found or self._read(counts)).as_numbers()
            occupied = int((counts.values > 0).sum())
            return Level(occupied, found.value, found.stderr, list(found.findings))

        return LevelsOfCounts(kept, kept.grid, level(kept, reading), level)
