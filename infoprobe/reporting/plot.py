"""Figures of measures over layers and over steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.reporting.names import printable, shortened
from infoprobe.reporting.pivot import Column, column_names, pivot
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LINE_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P")
# From how many layers on steps are a map, and how many names an axis has room for.
_MANY, _NAMES = 30, 60
_LARGEST = 1e300
# How many standard errors an interval of 95 % reaches to each side.
INTERVAL = 1.96
# Names are no formulas: neither Matplotlib nor TeX reads what stands between dollar signs.
AS_IT_IS: Any = {"parse_math": False, "usetex": False}


def layers(rows: list[Row], measure: str, reference: str | None, ax: Axes | None) -> Axes:
    """Draws a line over the layers, in the order of their calls, for each reference and estimator.

    If the rows are of several steps, draws a line over the steps for each layer instead.

    From 30 layers on, their steps are a map of colours, if there is one measure. Bars show the
    interval of 95 % that the standard errors give. The inverse pass has a grey background.
    Markers of values with findings are hollow, and infinite values are triangles at the top.
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
    ax = axes(ax, len({LayerCall.of(row) for row in chosen}))
    if len({row["step"] for row in chosen}) > 1:
        columns, lines = pivot(row for row in chosen if row["value"] is not None)
        if len(columns) == 1 and len(lines) >= _MANY:
            _as_map(ax, columns[0], lines, chosen)
            return ax
        _over_steps(ax, chosen)
    else:
        _over_layers(ax, chosen)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


class _Point(NamedTuple):
    x: int
    y: float
    error: float
    has_findings: bool


def _points(rows: Iterable[tuple[int, Row]]) -> list[_Point]:
    """Points of the rows that have a value; each row comes with its position on the axis."""
    return [
        _Point(x, row["value"], row["stderr"] or 0.0, bool(row["findings"]))
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
    names = [written(name) for name in column_names(list(series))]
    legend = _Legend()
    for name, points, marker in zip(names, series.values(), itertools.cycle(_MARKERS)):
        _draw(ax, points, name, legend, marker=marker)
    name_layers(ax, list(lines))
    # The axis names a single line, the legend several.
    _name_y(ax, names[0] if len(names) == 1 else chosen[0]["measure"], chosen)
    if len(names) > 1:
        legend.show(ax)


def _over_steps(ax: Axes, chosen: list[Row]) -> None:
    """A line for each layer, in the order of the user's colours for maps."""
    from matplotlib import colormaps, rcParams

    colors = colormaps[rcParams["image.cmap"]]
    columns, lines = pivot(row for row in chosen if row["value"] is not None)
    names = dict(zip(columns, column_names(columns), strict=True))
    legend = _Legend()
    for i, (layer_call, line) in enumerate(lines.items()):
        for column, rows in line.items():
            name = layer_call.tick + (f", {names[column]}" if len(columns) > 1 else "")
            _draw(
                ax,
                _points((row["step"], row) for row in rows if row["step"] is not None),
                written(name),
                legend,
                color=colors(0.9 * i / max(1, len(lines) - 1)),
                marker=_MARKERS[i % len(_MARKERS)],
                linestyle=_LINE_STYLES[columns.index(column) % len(_LINE_STYLES)],
            )
    ax.set_xlabel("step")
    one = len({column.reference for column in columns}) == 1
    _name_y(ax, columns[0].label if one else chosen[0]["measure"], chosen)
    legend.show(
        ax,
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=1 + sum(map(len, lines.values())) // 20,
    )


def _as_map(
    ax: Axes, column: Column, lines: dict[LayerCall, dict[Column, list[Row]]], chosen: list[Row]
) -> None:
    """A map of colours with a row for each layer, the first at the top, over the steps."""
    steps = sorted({row["step"] for row in chosen if row["step"] is not None})
    values = []
    for line in lines.values():
        at = {row["step"]: row["value"] for row in line[column]}
        known = [at.get(step) for step in steps]
        values.append([math.nan if y is None or _is_off_scale(y) else y for y in known])
    drawn = ax.imshow(values, aspect="auto", interpolation="nearest")
    _name_ticks(ax.yaxis, [call.tick for call in lines])
    _name_ticks(ax.xaxis, list(map(str, steps)), room=8)
    ax.set_xlabel("step")
    bar = ax.figure.colorbar(drawn, ax=ax)
    bar.set_label(f"{written(column.label)} ({written(chosen[0]['unit'])})", **AS_IT_IS)


def _name_ticks(axis: Axis, names: list[str], room: int = _NAMES, **settings: Any) -> None:
    """Names the places 0, 1, 2, … of an axis; beyond its room every second or third, and so on."""
    each = -(-len(names) // room)
    places = range(0, len(names), each)
    size: dict[str, Any] = {"fontsize": "x-small"} if len(names) > room // 2 else {}
    axis.set_ticks(places, [written(names[i]) for i in places], **size, **settings, **AS_IT_IS)


def _is_off_scale(y: float) -> bool:
    """Whether a value is NaN, infinite, or too large for an axis, which computes in float64."""
    return not abs(y) < _LARGEST


def name_layers(ax: Axes, layer_calls: list[LayerCall]) -> None:
    """Names the layers at 0, 1, 2, … of the axis, and shades those of the inverse pass."""
    _shade_inverse(ax, [layer_call.direction == "inverse" for layer_call in layer_calls])
    _name_ticks(ax.xaxis, [layer_call.tick for layer_call in layer_calls], rotation=90)
    ax.set_xlim(-0.5, len(layer_calls) - 0.5)


def written(text: str) -> str:
    """A name as it stands in a figure: short, and without control characters."""
    return shortened(printable(text))


def _name_y(ax: Axes, name: str, rows: list[Row]) -> None:
    ax.set_ylabel(f"{written(name)} ({written(rows[0]['unit'])})", **AS_IT_IS)


class _Legend:
    """The lines of a figure with their names, whatever characters these hold."""

    def __init__(self) -> None:
        self.lines: dict[str, Artist] = {}

    def show(self, ax: Axes, **settings: Any) -> None:
        """Puts the legend on the axes, unless there are no lines."""
        if self.lines:
            legend = ax.legend(
                list(self.lines.values()), list(self.lines), frameon=False, **settings
            )
            for text in legend.get_texts():
                text.set(**AS_IT_IS)


def _draw(
    ax: Axes,
    points: list[_Point],
    name: str,
    legend: _Legend,
    color: tuple[float, float, float, float] | None = None,
    linestyle: str | None = None,
    marker: str = "o",
) -> None:
    x = [point.x for point in points]
    # Matplotlib leaves a gap at NaN, so that no line suggests a finite value there.
    y = [math.nan if _is_off_scale(point.y) else point.y for point in points]
    (drawn,) = ax.plot(
        x, y, marker=marker, markersize=4, label=name, color=color, linestyle=linestyle
    )
    legend.lines[name] = drawn
    _draw_errors(ax, points, drawn.get_color())
    noted = [i for i, point in enumerate(points) if point.has_findings]
    ax.plot(
        [x[i] for i in noted],
        [y[i] for i in noted],
        marker=marker,
        markersize=5,
        linestyle="none",
        color=drawn.get_color(),
        markerfacecolor="white",
    )
    infinite = [p.x for p in points if _is_off_scale(p.y) and not math.isnan(p.y)]
    if infinite:
        (legend.lines[f"{name} = ∞"],) = ax.plot(
            infinite,
            [0.98] * len(infinite),
            marker="^",
            linestyle="none",
            color=drawn.get_color(),
            transform=ax.get_xaxis_transform(),
            label=f"{name} = ∞",
        )


def _draw_errors(ax: Axes, points: list[_Point], color: Any) -> None:
    """Draws the interval of 95 % of each finite value, where its standard error is known."""
    known = [p for p in points if p.error and not _is_off_scale(p.y + INTERVAL * p.error)]
    if known:
        ax.errorbar(
            [point.x for point in known],
            [point.y for point in known],
            [INTERVAL * point.error for point in known],
            linestyle="none",
            ecolor=color,
            elinewidth=1,
            capsize=2.5,
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


def require_texts(measure: Any, reference: Any) -> None:
    """Raises a TypeError unless the names of a measure and of its reference are texts."""
    checks.require_text(measure, "measure")
    if reference is not None:
        checks.require_text(reference, "reference")


def axes(ax: Any, layers: int) -> Axes:
    """The axes that were given, or those of a new figure with room for so many layers.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: Something else was given.
    """
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install 'infoprobe[plot]'.") from error
    if isinstance(ax, Axes):
        return ax
    if ax is not None:
        raise ArgumentTypeError(
            "ax", f"expected axes of matplotlib or None, got {checks.typed(ax)}."
        )
    width, height = pyplot.rcParams["figure.figsize"]
    size = (max(width, min(14.0, 2 + 0.22 * layers)), height)
    return pyplot.subplots(figsize=size, layout="constrained")[1]
