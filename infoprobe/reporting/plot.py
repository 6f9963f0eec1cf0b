"""Figures of measures over layers and over steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from infoprobe.errors import ArgumentValueError
from infoprobe.reporting.pivot import Column, pivot
from infoprobe.rows import Row, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE_STYLES = ("-", "--", ":", "-.")


def layers(rows: list[Row], measure: str, reference: str | None, ax: Axes | None) -> Axes:
    """Draws a line over the layers, in the order of their calls, for each reference and estimator.

    If the rows are of several steps, draws a line over the steps for each layer instead.

    The inverse pass has a grey background. Markers of values with findings are hollow, and
    infinite values are triangles at the top.
    """
    chosen = [
        row for row in rows if row["measure"] == measure and reference in (None, row["reference"])
    ]
    if not chosen:
        there = sorted({(row["measure"], row["reference"]) for row in rows}, key=str)
        raise ArgumentValueError(
            "measure",
            f"no row has measure {measure!r} and reference {reference!r}. "
            f"The report has (measure, reference): {', '.join(map(str, there))}.",
        )
    ax = _new_axes() if ax is None else ax
    if len({row["step"] for row in chosen}) > 1:
        _over_steps(ax, chosen)
    else:
        _over_layers(ax, chosen)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


class _Point(NamedTuple):
    x: int
    y: float
    has_findings: bool


def _points(rows: Iterable[tuple[int, Row]]) -> list[_Point]:
    """Points of the rows that have a value; each row comes with its position on the axis."""
    return [
        _Point(x, row["value"], bool(row["findings"]))
        for x, row in rows
        if row["value"] is not None
    ]


def _over_layers(ax: Axes, chosen: list[Row]) -> None:
    columns, lines = pivot(chosen)
    series: dict[Column, list[_Point]] = {}
    for column in columns:
        cells = enumerate(line.get(column, []) for line in lines.values())
        points = _points((x, row) for x, cell in cells for row in cell)
        if points:
            series[column] = points
    several = len({column.estimator for column in series}) > 1
    names = [column.label + (f", {column.estimator}" if several else "") for column in series]
    for name, points in zip(names, series.values(), strict=True):
        _draw(ax, points, name)
    _shade_inverse(ax, [layer_call.direction == "inverse" for layer_call in lines])
    ax.set_xticks(range(len(lines)), [layer_call.tick for layer_call in lines], rotation=90)
    ax.set_xlim(-0.5, len(lines) - 0.5)
    # The axis names a single line, the legend several.
    name = names[0] if len(names) == 1 else chosen[0]["measure"]
    ax.set_ylabel(f"{name} ({chosen[0]['unit']})")
    if len(names) > 1:
        ax.legend(frameon=False)


def _over_steps(ax: Axes, chosen: list[Row]) -> None:
    """A line for each layer, from dark for the first to light for the last."""
    from matplotlib import colormaps

    columns, lines = pivot(row for row in chosen if row["value"] is not None)
    references = {column.reference for column in columns}
    several = len({column.estimator for column in columns}) > 1
    for i, (layer_call, line) in enumerate(lines.items()):
        for column, rows in line.items():
            name = layer_call.tick
            name += f", {column.label}" if len(references) > 1 else ""
            name += f", {column.estimator}" if several else ""
            _draw(
                ax,
                _points((row["step"], row) for row in rows if row["step"] is not None),
                name,
                color=colormaps["viridis"](0.9 * i / max(1, len(lines) - 1)),
                linestyle=_LINE_STYLES[columns.index(column) % len(_LINE_STYLES)],
            )
    ax.set_xlabel("step")
    measure = chosen[0]["measure"]
    name = label(measure, *references) if len(references) == 1 else measure
    ax.set_ylabel(f"{name} ({chosen[0]['unit']})")
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=1 + sum(map(len, lines.values())) // 20,
    )


def _draw(
    ax: Axes,
    points: list[_Point],
    name: str,
    color: tuple[float, float, float, float] | None = None,
    linestyle: str | None = None,
) -> None:
    x = [point.x for point in points]
    # Matplotlib leaves a gap at NaN, so that no line suggests a finite value there.
    y = [point.y if math.isfinite(point.y) else math.nan for point in points]
    (drawn,) = ax.plot(
        x, y, marker="o", markersize=4, label=name, color=color, linestyle=linestyle
    )
    noted = [i for i, point in enumerate(points) if point.has_findings]
    ax.plot(
        [x[i] for i in noted],
        [y[i] for i in noted],
        marker="o",
        markersize=5,
        linestyle="none",
        color=drawn.get_color(),
        markerfacecolor="white",
    )
    infinite = [point.x for point in points if math.isinf(point.y)]
    if infinite:
        ax.plot(
            infinite,
            [0.98] * len(infinite),
            marker="^",
            linestyle="none",
            color=drawn.get_color(),
            transform=ax.get_xaxis_transform(),
            label=f"{name} = ∞",
        )


def _shade_inverse(ax: Axes, inverse: list[bool]) -> None:
    end = 0
    for is_inverse, run in itertools.groupby(inverse):
        start, end = end, end + len(list(run))
        if is_inverse:
            ax.axvspan(start - 0.5, end - 0.5, color="0.94", linewidth=0, zorder=0)
            ax.annotate(
                "inverse",
                ((start + end - 1) / 2, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, -4),
                textcoords="offset points",
                ha="center",
                va="top",
                color="0.5",
            )


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install 'infoprobe[plot]'.") from error
    _, ax = pyplot.subplots(layout="constrained")
    return ax
