"""The rows of a report as a grid: a line for each call of a layer, a column for each measure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from infoprobe.reporting.names import different, short_names
from infoprobe.rows import LayerCall, Row, label


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
        """How a logger names it: ``divergence_input``, or ``divergence_input@tokens``."""
        name, at, selected = self.measure.partition("@")
        return (f"{name}_{self.reference}" if self.reference else name) + at + selected


def column_names(columns: Sequence[Column]) -> list[str]:
    """The label of each column, and its estimator's short name where a label is there twice."""
    estimators: dict[str, list[str]] = {}
    for column in columns:
        estimators.setdefault(column.label, []).append(column.estimator)
    short = {text: short_names(those) for text, those in estimators.items() if len(those) > 1}
    return different(
        f"{column.label}, {short[column.label][column.estimator]}"
        if column.label in short
        else column.label
        for column in columns
    )


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


def scalar_keys(rows: Iterable[Row]) -> list[str]:
    """A key for each row of one step, no two alike.

    Where rows share their :func:`scalar_key`, the key goes on with the short name of the
    estimator, with the type of the layer, and with a number, as far as these tell them apart.
    """
    rows = list(rows)
    keys = [scalar_key(row) for row in rows]
    estimators = short_names(row["estimator"] for row in rows)
    for details in ([estimators[row["estimator"]] for row in rows], [row["type"] for row in rows]):
        found: dict[str, set[str]] = {}
        for key, detail in zip(keys, details, strict=True):
            found.setdefault(key, set()).add(detail)
        keys = [
            f"{key}[{detail}]" if len(found[key]) > 1 else key
            for key, detail in zip(keys, details, strict=True)
        ]
    return different(keys)
