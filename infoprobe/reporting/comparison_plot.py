"""A measure of two reports over the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from infoprobe.reporting import axes
from infoprobe.rows import LayerCall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infoprobe.reporting.comparison import ComparedRow

_Value = tuple[float | None, float | None]


def draw(names: tuple[str, str], rows: Sequence[ComparedRow], label: str, ax: Axes | None) -> Axes:
    """Draws a line for each report: over the layers, or over relative depth where these differ.

    Arguments:
        names: What the reports are called.
        rows: The rows of one measure.
        label: What the measure is called.
        ax: The axes to draw on; ``None`` makes a new figure.
    """
    ax = axes.axes_for(ax, len(rows))
    alike = all(row["first"] is not None and row["second"] is not None for row in rows)
    calls = [LayerCall(row["layer"], "", row["direction"], row["call"]) for row in rows]
    shaded = alike and any(call.direction == "inverse" for call in calls)
    if alike:
        axes.name_layers(ax, calls)
    else:
        ax.set_xlabel("relative depth")
    series: tuple[list[_Value], ...] = (
        [(row["first"], row["first_stderr"]) for row in rows],
        [(row["second"], row["second_stderr"]) for row in rows],
    )
    drawing = axes.Drawing(ax, len(rows), shaded=shaded)
    for which, (name, values) in enumerate(zip(names, series, strict=True)):
        own = [(y, error or 0.0) for y, error in values if y is not None]
        last = len(own) - 1 if not alike and len(own) > 1 else 1
        points = [axes.Point(i / last, y, error, False) for i, (y, error) in enumerate(own)]
        drawing.draw(
            points, axes.written(name), marker=axes.marker(which), linestyle=axes.linestyle(which)
        )
    axes.name_y(ax, label, rows[0]["unit"])
    drawing.finish()
    return ax
