"""A measure of both passes of an invertible network, facing each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infoprobe.errors import ArgumentValueError
from infoprobe.reporting import axes
from infoprobe.reporting.pivot import Column, column_names, pivot
from infoprobe.reporting.plot import chosen_rows
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(rows: list[Row], measure: str, reference: str | None, ax: Axes | None) -> Axes:
    """Draws two lines over the layers, one of the forward and one of the inverse pass.

    Arguments:
        rows: The rows of a report, of one step.
        measure: The measure to draw.
        reference: The reference of the rows to draw; ``None`` draws two lines for each.
        ax: The axes to draw on; ``None`` makes a new figure.

    Raises:
        ValueError: No row has this measure and reference, or none is of one of the directions.
    """
    chosen = chosen_rows(rows, measure, reference)
    missing = {"forward", "inverse"} - {row["direction"] for row in chosen}
    if missing:
        raise ArgumentValueError(
            "measure",
            f"expected rows of both directions, and {measure!r} has none of the "
            f"{' and '.join(missing)} pass. Run the network both ways within the probe, or use "
            "report.plot().",
        )
    columns, lines = pivot(chosen)
    places: dict[tuple[str, int], int] = {}
    # The inverse pass meets the layers last to first.
    for call in sorted(lines, key=lambda call: call.direction == "inverse"):
        places.setdefault((call.layer, call.call), len(places))
    ax = axes.axes_for(ax, len(places))
    axes.name_layers(ax, [LayerCall(layer, "", "forward", i) for layer, i in places])
    drawing = axes.Drawing(ax, len(places))
    series = [
        (f"{name}, {direction}", linestyle, _points(lines, places, column, direction))
        for name, column in zip(column_names(columns), columns, strict=True)
        for direction, linestyle in (("forward", "-"), ("inverse", "--"))
    ]
    for i, (name, linestyle, points) in enumerate(series):
        if points:
            drawing.draw(points, axes.written(name), marker=axes.marker(i), linestyle=linestyle)
    axes.name_y(ax, columns[0].label if len(columns) == 1 else measure, chosen[0]["unit"])
    axes.rule(ax)
    drawing.finish()
    return ax


def _points(
    lines: dict[LayerCall, dict[Column, list[Row]]],
    places: dict[tuple[str, int], int],
    column: Column,
    direction: str,
) -> list[axes.Point]:
    """The values of one pass in the order of their places."""
    found = [
        (places[call.layer, call.call], row)
        for call, line in lines.items()
        if call.direction == direction
        for row in line.get(column, [])
    ]
    return sorted(axes.points_of(found))
