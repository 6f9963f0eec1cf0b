"""Figures of measures over layers and over steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.reporting import axes
from infoprobe.reporting.pivot import Column, column_names, pivot
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From how many layers on steps are a map, and up to how many a legend names.
_MANY, _LEGEND = 30, 20


def layers(rows: list[Row], measure: str, reference: str | None, ax: Axes | None) -> Axes:
    """Draws a line over the layers, in the order of their calls, for each reference and estimator.

    If the rows are of several steps, draws a line over the steps for each layer instead. From 30
    layers on, the steps are a map of colours, if there is one measure. The inverse pass has a grey
    background.
    """
    chosen = chosen_rows(rows, measure, reference)
    if len({row["step"] for row in chosen}) > 1:
        return _over_steps(chosen, ax)
    return over_layers(chosen, ax)


def chosen_rows(rows: list[Row], measure: str, reference: str | None) -> list[Row]:
    """The rows of a measure.

    Raises:
        TypeError: The measure or its reference is no text.
        ValueError: There are none.
    """
    require_texts(measure, reference)
    chosen = [
        row for row in rows if row["measure"] == measure and reference in (None, row["reference"])
    ]
    if not chosen:
        there = sorted({(row["measure"], row["reference"]) for row in rows}, key=str)
        raise ArgumentValueError(
            "measure",
            f"no row has measure {measure!r} and reference {reference!r}. "
            f"The report has (measure, reference): {', '.join(map(str, there)) or 'no rows'}.",
        )
    return chosen


def require_texts(measure: Any, reference: Any) -> None:
    """Raises a TypeError unless the names of a measure and of its reference are texts."""
    checks.require_text(measure, "measure")
    if reference is not None:
        checks.require_text(reference, "reference")


def over_layers(chosen: list[Row], ax: Axes | None) -> Axes:
    """Draws rows of one step over the calls of layers."""
    columns, lines = pivot(chosen)
    ax = axes.axes_for(ax, len(lines))
    series: dict[Column, list[axes.Point]] = {}
    for column in columns:
        cells = enumerate(line.get(column, []) for line in lines.values())
        points = axes.points_of((x, row) for x, cell in cells for row in cell)
        if points:
            series[column] = points
    names = [axes.written(name) for name in column_names(list(series))]
    axes.name_layers(ax, list(lines))
    drawing = axes.Drawing(ax, len(lines), shaded=any(x.direction == "inverse" for x in lines))
    for i, (name, points) in enumerate(zip(names, series.values(), strict=True)):
        drawing.draw(points, name, marker=axes.marker(i), linestyle=axes.linestyle(i))
    # The axis names a single line, the legend several.
    axes.name_y(ax, names[0] if len(names) == 1 else chosen[0]["measure"], chosen[0]["unit"])
    axes.rule(ax)
    drawing.finish(legend=len(names) > 1)
    return ax


def _over_steps(chosen: list[Row], ax: Axes | None) -> Axes:
    columns, lines = pivot(row for row in chosen if row["value"] is not None)
    if len(columns) == 1 and len(lines) >= _MANY:
        ax = axes.axes_for(ax, lines=len(lines))
        _as_map(ax, columns[0], lines, chosen)
    else:
        ax = axes.axes_for(ax)
        _as_lines(ax, columns, lines, chosen)
    return ax


def _as_lines(
    ax: Axes,
    columns: list[Column],
    lines: dict[LayerCall, dict[Column, list[Row]]],
    chosen: list[Row],
) -> None:
    """A line for each layer, and of several references or estimators one each, in other dashes."""
    names = dict(zip(columns, column_names(columns), strict=True))
    colors = axes.shades(len(lines))
    drawing = axes.Drawing(ax, len({row["step"] for row in chosen}))
    for i, (layer_call, line) in enumerate(lines.items()):
        for column, rows in line.items():
            name = layer_call.tick + (f", {names[column]}" if len(columns) > 1 else "")
            drawing.draw(
                axes.points_of((row["step"], row) for row in rows if row["step"] is not None),
                axes.written(name),
                color=colors[i],
                marker=axes.marker(i),
                linestyle=axes.linestyle(columns.index(column)),
            )
    ax.set_xlabel("step")
    one = len({column.reference for column in columns}) == 1
    axes.name_y(ax, columns[0].label if one else chosen[0]["measure"], chosen[0]["unit"])
    axes.rule(ax)
    drawing.forget_names()
    for i, name in enumerate(names.values() if len(names) > 1 else ()):
        drawing.add(name, *ax.plot([], [], color="0.4", linestyle=axes.linestyle(i)))
    ticks = [layer_call.tick for layer_call in lines]
    if len(lines) > _LEGEND:
        drawing.finish()
        axes.name_shades(ax, ticks)
        return
    for i, (tick, color) in enumerate(zip(ticks, colors, strict=True)):
        drawing.add(tick, *ax.plot([], [], color=color, marker=axes.marker(i), markersize=4))
    drawing.place_beside()


def _as_map(
    ax: Axes, column: Column, lines: dict[LayerCall, dict[Column, list[Row]]], chosen: list[Row]
) -> None:
    """A map of colours with a row for each layer, the first at the top, over the steps.

    What is infinite or missing is grey.
    """
    steps = sorted({row["step"] for row in chosen if row["step"] is not None})
    values = []
    for line in lines.values():
        at = {row["step"]: row["value"] for row in line[column]}
        known = [at.get(step) for step in steps]
        values.append([math.nan if y is None or axes.is_off_scale(y) else y for y in known])
    drawn = ax.imshow(values, aspect="auto", interpolation="nearest")
    ax.set_facecolor("0.8")
    axes.name_ticks(ax.yaxis, [call.tick for call in lines])
    bar = ax.figure.colorbar(drawn, ax=ax)
    bar.set_label(axes.with_unit(column.label, chosen[0]["unit"]), **axes.AS_IT_IS)
    axes.lay_out(ax)
    axes.name_ticks(ax.xaxis, list(map(str, steps)))
    ax.set_xlabel("step")
