"""One value on dyadic bins of all widths, from which a report chooses one width for all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.grids import DyadicGrid
from infoprobe.probing.kept.damage import count_of


class Level(NamedTuple):
    """A value on bins of one width.

    Attributes:
        occupied: The number of bins that hold values.
        value: The value.
        stderr: Its standard error, if it is known.
        findings: The findings on it, in sentences.
    """

    occupied: int
    value: float
    stderr: float | None
    findings: Sequence[str]


class Levels:
    r"""One value on the dyadic bins of every width from :math:`2^{own}` on.

    Neighbouring bins merge without loss, so each level is what counting in wider bins would have
    given.

    Attributes:
        own: The level e of the narrowest bins that the values allow; their width is 2^e.
    """

    def __init__(self, own: int, known: Mapping[int, Level]) -> None:
        self.own = own
        self._known = dict(known)

    def at(self, exponent: int) -> Level:
        """The value on bins of a width, which is at least the own one."""
        return self._known[min(exponent, max(self._known))]

    def occupied(self, exponent: int) -> int:
        """How many bins of a width hold values."""
        return self.at(exponent).occupied

    def all(self) -> dict[int, Level]:
        """All levels until nothing changes any more."""
        return self._known

    def state(self) -> dict[str, Any]:
        """All of it as numbers and strings in lists."""
        return {
            "own": self.own,
            "levels": [list(level) for _, level in sorted(self.all().items())],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Levels:
        """What :meth:`state` describes."""
        own = int(state["own"])
        levels = [Level(count_of(level[0]), *level[1:]) for level in state["levels"]]
        return cls(own, dict(enumerate(levels, own)))


class LevelsOfCounts(Levels):
    """The levels of a value that is computed from counts, each computed when it is asked for."""

    def __init__(
        self, counts: Counts, grid: DyadicGrid, own: Level, of: Callable[[Counts], Level]
    ) -> None:
        super().__init__(grid.exponent, {grid.exponent: own})
        self._counts = counts
        self._grid = grid
        self._of = of

    def at(self, exponent: int) -> Level:
        """The value on bins of a width, which is at least the own one."""
        if exponent not in self._known:
            self._known[exponent] = self._of(self._on(exponent))
        return self._known[exponent]

    def occupied(self, exponent: int) -> int:
        """How many bins of a width hold values."""
        return int((self._on(exponent).values > 0).sum())

    def all(self) -> dict[int, Level]:
        """All levels until nothing changes any more."""
        return {exponent: self.at(exponent) for exponent in self._exponents()}

    def _on(self, exponent: int) -> Counts:
        return self._counts.on(self._grid.widened_to(exponent))

    def _exponents(self) -> Iterator[int]:
        """Until there is one bin, or one on each side of zero, which is always an edge."""
        grid = self._grid
        yield grid.exponent
        while grid.size > 1 and not (grid.first == -1 and grid.size == 2):
            grid = grid.widened_to(grid.exponent + 1)
            yield grid.exponent
