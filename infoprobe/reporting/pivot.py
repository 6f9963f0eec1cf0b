"""The rows of a report as a grid: a line for each call of a layer, a column for each measure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from infoprobe.directions import Direction
from infoprobe.rows import Row, label


def numbered(name: str, call: int) -> str:
    """The name of a layer with the number of its call, which the first call goes without."""
    return f"{name} #{call}" if call else name


class LayerCall(NamedTuple):
    """One call of a layer in one direction, with the keys of :class:`~infoprobe.rows.Row`."""

    layer: str
    type: str
    direction: Direction
    call: int

    @classmethod
    def of(cls, row: Row) -> LayerCall:
        """The call that a row is about."""
        return cls(row["layer"], row["type"], row["direction"], row["call"])

    @property
    def name(self) -> str:
        """How a table names it; the direction has a column of its own: ``conv1 #1``."""
        return numbered(self.layer, self.call)

    @property
    def tick(self) -> str:
        """How a figure names it: ``conv1⁻¹ #1``."""
        # Matplotlib reads what stands between dollar signs as a formula.
        name = self.layer.replace("$", r"\$")
        return numbered(name + ("⁻¹" if self.direction == "inverse" else ""), self.call)

    @property
    def key(self) -> str:
        """How a logger names it: ``conv1#1/inverse``."""
        call = f"#{self.call}" if self.call else ""
        return f"{self.layer}{call}/{self.direction}"


class Column(NamedTuple):
    """One measure, with the keys of :class:`~infoprobe.rows.Row`."""

    measure: str
    reference: str | None
    estimator: str

    @classmethod
    def of(cls, row: Row) -> Column:
        """The measure that a row is about."""
        return cls(row["measure"], row["reference"], row["estimator"])

    @property
    def label(self) -> str:
        """How tables and figures name it: ``KL(input||output)``."""
        return label(self.measure, self.reference)

    @property
    def key(self) -> str:
        """How a logger names it: ``divergence_input``."""
        return f"{self.measure}_{self.reference}" if self.reference else self.measure


class Grid(NamedTuple):
    """The rows of a report by call of a layer and by measure, in order of first appearance.

    Attributes:
        columns: The measures.
        lines: For each call of a layer, the rows of each measure: usually one, and one for each
            step if steps were tracked. A measure without rows there has no entry.
    """

    columns: list[Column]
    lines: dict[LayerCall, dict[Column, list[Row]]]


def pivot(rows: Iterable[Row]) -> Grid:
    """Arranges rows as a grid."""
    columns: dict[Column, None] = {}
    lines: dict[LayerCall, dict[Column, list[Row]]] = {}
    for row in rows:
        column = Column.of(row)
        columns.setdefault(column)
        lines.setdefault(LayerCall.of(row), {}).setdefault(column, []).append(row)
    return Grid(list(columns), lines)


def scalar_key(row: Row) -> str:
    """How a logger names a row: ``conv1#1/inverse/divergence_input``."""
    return f"{LayerCall.of(row).key}/{Column.of(row).key}"
