"""The information plane: what layers know of the input against what they know of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.reporting import axes
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


# Up to how many layers a legend names and a bar of colours beyond, and beyond how many points
# errors are faint.
_FEW, _CROWD = 12, 60


class _Place(NamedTuple):
    """A point in the plane: information on the input and on the target, with their errors."""

    x: float
    y: float
    x_error: float
    y_error: float
    has_findings: bool


def draw(rows: list[Row], measure: str, ax: Axes | None) -> Axes:
    """Draws a point for each layer, joined in the order of the layers.

    If the rows are of several steps, draws a line through the steps for each layer instead, with
    a larger mark at the last step. The colour tells the layer. Values beyond the grey line are
    errors of the estimates.

    Arguments:
        rows: The rows of a report.
        measure: The name of the measure with the references ``"input"`` and ``"target"``.
        ax: The axes to draw on; ``None`` makes a new figure.

    Raises:
        TypeError: The name of the measure is no text.
        ValueError: No layer has values with both references, or there are several estimators.
    """
    checks.require_text(measure, "measure")
    paths = _paths(rows, measure)
    ax = axes.axes_for(ax)
    _draw_paths(ax, paths)
    unit = next(row["unit"] for row in rows if row["measure"] == measure)
    ax.set_xlabel(axes.with_unit("I(input; layer)", unit), **axes.AS_IT_IS)
    ax.set_ylabel(axes.with_unit("I(layer; target)", unit), **axes.AS_IT_IS)
    _draw_bound(ax)
    return ax


def is_possible(rows: list[Row], measure: str) -> bool:
    """Whether there are values on the input and on the target, by one estimator."""
    valued = [row for row in rows if row["measure"] == measure and row["value"] is not None]
    estimators = {row["estimator"] for row in valued}
    return len(estimators) == 1 and {"input", "target"} <= {row["reference"] for row in valued}


def _paths(rows: list[Row], measure: str) -> dict[LayerCall, list[_Place]]:
    """The points of each layer in the order of the steps."""
    of_both = [
        row
        for row in rows
        if row["measure"] == measure and row["reference"] in ("input", "target")
    ]
    estimators = dict.fromkeys(row["estimator"] for row in of_both)
    if len(estimators) > 1:
        raise ArgumentValueError(
            "measure",
            f"expected {measure!r} by one estimator, got {', '.join(estimators)}. Choose one: "
            "report.select(estimator=...).",
        )
    values: dict[tuple[LayerCall, int | None], dict[str, Row]] = {}
    for row in of_both:
        if row["value"] is not None and not axes.is_off_scale(row["value"]):
            at = values.setdefault((LayerCall.of(row), row["step"]), {})
            at[str(row["reference"])] = row
    paths: dict[LayerCall, list[_Place]] = {}
    for (call, _), at in sorted(values.items(), key=lambda item: item[0][1] or 0):
        if len(at) == 2:
            x, y = axes.points_of([(0, at["input"]), (0, at["target"])])
            noted = x.has_findings or y.has_findings
            paths.setdefault(call, []).append(_Place(x.y, y.y, x.error, y.error, noted))
    if not paths:
        raise ArgumentValueError(
            "measure",
            f"expected rows of {measure!r} with the references 'input' and 'target', and no layer "
            "has values of both. Probe with measures=[ip.MutualInformation(reference='input'), "
            "ip.MutualInformation(reference='target')] and call probe.target(y) before each pass.",
        )
    return {call: paths[call] for call in dict.fromkeys(x for x, _ in values) if call in paths}


def _draw_paths(ax: Axes, paths: dict[LayerCall, list[_Place]]) -> None:
    colors = axes.shades(len(paths))
    # Among many points, errors would hide them.
    opacity = 1.0 if sum(map(len, paths.values())) <= _CROWD else 0.25
    drawing = axes.Drawing(ax, 1)
    if all(len(path) == 1 for path in paths.values()):
        points = [path[0] for path in paths.values()]
        ax.plot([p.x for p in points], [p.y for p in points], color="0.6", linewidth=1, zorder=1)
    for i, (call, path) in enumerate(paths.items()):
        shown = _draw_path(ax, path, colors[i], axes.marker(i), opacity)
        drawing.add(call.tick, shown)
    if len(paths) <= _FEW:
        drawing.place_beside()
    else:
        axes.name_shades(ax, [call.tick for call in paths])


def _draw_path(ax: Axes, path: list[_Place], color: Any, marker: str, opacity: float) -> Line2D:
    """Draws the points of a layer, the last one larger, and returns what a legend shows."""
    x, y = [p.x for p in path], [p.y for p in path]
    ax.errorbar(
        x,
        y,
        xerr=[axes.INTERVAL * p.x_error for p in path],
        yerr=[axes.INTERVAL * p.y_error for p in path],
        color=color,
        linestyle="none",
        elinewidth=0.6,
        alpha=opacity,
    )
    ax.plot(x, y, color=color, marker=marker, markersize=3, linewidth=1)
    noted = [p for p in path if p.has_findings]
    hollow = {"color": color, "marker": marker, "markerfacecolor": "white", "linestyle": "none"}
    ax.plot([p.x for p in noted], [p.y for p in noted], markersize=3, **hollow)
    (last,) = ax.plot(x[-1], y[-1], color=color, marker=marker, markersize=6)
    if path[-1].has_findings:
        ax.plot(x[-1], y[-1], markersize=6, **hollow)
    return last


def _draw_bound(ax: Axes) -> None:
    """The line where a layer would know of the target all that it knows of the input."""
    limits = ax.get_xlim(), ax.get_ylim()
    low, high = min(map(min, limits)), max(map(max, limits))
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1])
