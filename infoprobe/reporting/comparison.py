"""Two reports side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from infoprobe import checks
from infoprobe.directions import Direction
from infoprobe.errors import ArgumentValueError
from infoprobe.reporting import comparison_plot, plot
from infoprobe.reporting.collection import Rows
from infoprobe.reporting.frames import frame
from infoprobe.reporting.names import printable
from infoprobe.reporting.pivot import Column, pivot
from infoprobe.reporting.table import WIDTH_OF, aligned, number
from infoprobe.rows import LayerCall, Row, label

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


class ComparedRow(TypedDict):
    """One measure at one call of one layer in two reports.

    Attributes:
        layer: The name of the layer.
        direction: ``"forward"`` or ``"inverse"``.
        call: The number of this call among the calls of the layer within one pass, from 0.
        measure: The name of the measure, such as ``"entropy"``.
        reference: What the output is compared with, as in :class:`infoprobe.rows.Row`.
        estimator: The ``repr`` of the estimator.
        unit: The unit of all values and errors.
        first: The value in the first report; ``None`` where it has none.
        second: The value in the second report; ``None`` where it has none.
        first_stderr: The standard error of the first value; ``None`` where it is not known.
        second_stderr: The standard error of the second value; ``None`` where it is not known.
        difference: The second value minus the first; ``None`` where one of them is missing.
        difference_stderr: The standard error of the difference; ``None`` where the error of
            either value is not known.
    """

    layer: str
    direction: Direction
    call: int
    measure: str
    reference: str | None
    estimator: str
    unit: str
    first: float | None
    second: float | None
    first_stderr: float | None
    second_stderr: float | None
    difference: float | None
    difference_stderr: float | None


class _Line(NamedTuple):
    layer: str
    direction: Direction
    call: int


@dataclass(frozen=True, repr=False)
class Comparison(Rows[ComparedRow]):
    """Two reports side by side, for two models, two checkpoints or two runs.

    Rows belong together if they have the same layer, direction, call, measure, reference and
    estimator. The difference is the second value minus the first. Its standard error is the root
    of the sum of the squared errors of the two values, which is right for independent data. Two
    values from the same data usually err in the same direction, and then it is too large.

    Attributes:
        names: What the two reports are called.
        rows: Dictionaries with the keys of :class:`ComparedRow`.
        notes: What to know before comparing them, such as entropies on bins of two widths.
    """

    names: tuple[str, str]
    rows: list[ComparedRow]
    notes: list[str] = field(default_factory=list)

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns the rows as a pandas DataFrame; needs the extra ``infoprobe[dataframe]``."""
        return frame(self.rows, "comparison")

    def plot(
        self, measure: str = "entropy", reference: str | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draws a measure of both reports over the layers, with intervals of 95 % as bars.

        Where the two have other layers, each is drawn over its relative depth, from 0 for its
        first layer to 1 for its last. Needs the extra ``infoprobe[plot]``.

        Arguments:
            measure: The name of the measure to draw, such as ``"entropy"`` or ``"divergence"``.
            reference: The reference of the rows to draw; needed where a measure has several.
            ax: The axes to draw on; ``None`` makes a new figure.

        Returns:
            The axes. The figure is neither shown nor saved.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: No row has this measure and reference, or those of several have it.
        """
        plot.require_texts(measure, reference)
        chosen = [
            row
            for row in self.rows
            if row["measure"] == measure and reference in (None, row["reference"])
        ]
        columns = {_column(row) for row in chosen}
        if len(columns) != 1:
            there = {(row["measure"], row["reference"]) for row in self.rows}
            raise ArgumentValueError(
                "measure",
                f"expected one measure, got {measure!r} with reference {reference!r}, which "
                f"{len(columns)} measures have. There are (measure, reference): "
                f"{', '.join(map(str, sorted(there, key=str)))}. Name the reference, or compare "
                "reports of one estimator (report.select(estimator=...)).",
            )
        (column,) = columns
        return comparison_plot.draw(self.names, chosen, column.label, ax)

    def __repr__(self) -> str:
        """A table for each measure: both values, the difference, and its standard error."""
        if not self.rows:
            return "Comparison: no rows"
        tables = []
        for column in dict.fromkeys(map(_column, self.rows)):
            rows = [row for row in self.rows if _column(row) == column]
            head = ["layer", "direction", *self.names, "difference", "stderr"]
            lines = [
                [
                    LayerCall(row["layer"], "", row["direction"], row["call"]).name,
                    row["direction"],
                    *map(number, (row["first"], row["second"])),
                    *map(number, (row["difference"], row["difference_stderr"])),
                ]
                for row in rows
            ]
            title = f"{column.label} in {rows[0]['unit']}, {column.estimator}"
            tables.append(f"{title}\n{aligned([head, *lines], left=2)}")
        return "\n\n".join(tables + ["\n".join(map(printable, self.notes))] * bool(self.notes))


def compared(
    first: list[Row],
    second: list[Row],
    names: tuple[str, str],
    settings: tuple[Mapping[str, str], Mapping[str, str]],
) -> Comparison:
    """The comparison of two reports.

    Arguments:
        first: The rows of the one report, of one step.
        second: The rows of the other report, of one step.
        names: What to call them.
        settings: The settings of both reports.
    """
    cells = [_cells(first), _cells(second)]
    columns = dict.fromkeys(column for those in cells for column, _ in those)
    lines = _merged(*([*dict.fromkeys(line for _, line in those)] for those in cells))
    rows = [
        _row(line, column, cells[0].get((column, line)), cells[1].get((column, line)))
        for column in columns
        for line in lines
        if any((column, line) in those for those in cells)
    ]
    return Comparison(names, rows, _notes_on_widths(names, settings))


def _notes_on_widths(
    names: tuple[str, str], settings: tuple[Mapping[str, str], Mapping[str, str]]
) -> list[str]:
    """A sentence for each estimator whose bins have another width in the other report."""
    return [
        f"{label('entropy', None)} is of bins of width {settings[0][key]} in {names[0]!r} and of "
        f"{settings[1][key]} in {names[1]!r}, which alone changes it by up to the logarithm of "
        "their ratio. To compare the two, give the histogram an explicit range=(low, high)."
        for key in settings[0]
        if key.startswith(WIDTH_OF) and settings[1].get(key, settings[0][key]) != settings[0][key]
    ]


def require_names(names: object) -> tuple[str, str]:
    """The names of two reports, which differ."""
    those = tuple(names) if isinstance(names, (list, tuple)) else ()
    if len(those) != 2 or not all(isinstance(x, str) for x in those) or those[0] == those[1]:
        raise ArgumentValueError(
            "names",
            f"expected two different texts, got {checks.shown(names)}. Pass what to call the two "
            "reports, such as names=('before', 'after').",
        )
    return those[0], those[1]


def _cells(rows: list[Row]) -> dict[tuple[Column, _Line], Row]:
    found = {}
    for layer_call, line in pivot(rows).lines.items():
        for column, those in line.items():
            key = _Line(layer_call.layer, layer_call.direction, layer_call.call)
            found[column, key] = those[-1]
    return found


def _merged(first: list[_Line], second: list[_Line]) -> list[_Line]:
    """All lines, in an order that keeps that of the first, and as far as it goes the second's."""
    merged, place = list(first), 0
    for line in second:
        if line in merged:
            place = merged.index(line) + 1
        else:
            merged.insert(place, line)
            place += 1
    return merged


def _row(line: _Line, column: Column, first: Row | None, second: Row | None) -> ComparedRow:
    values = [None if row is None else row["value"] for row in (first, second)]
    errors = [None if row is None else row["stderr"] for row in (first, second)]
    there = first or second
    assert there is not None
    if first and second and first["unit"] != second["unit"]:
        raise ArgumentValueError(
            "other",
            f"expected a report in {first['unit']}, as this one is, got one in {second['unit']}. "
            "Convert both: report.in_base(2).",
        )
    return {
        "layer": line.layer,
        "direction": line.direction,
        "call": line.call,
        "measure": column.measure,
        "reference": column.reference,
        "estimator": column.estimator,
        "unit": there["unit"],
        "first": values[0],
        "second": values[1],
        "first_stderr": errors[0],
        "second_stderr": errors[1],
        "difference": _difference(*values),
        "difference_stderr": _together(*errors),
    }


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def _together(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else math.hypot(first, second)


def _column(row: ComparedRow) -> Column:
    return Column(row["measure"], row["reference"], row["estimator"])
