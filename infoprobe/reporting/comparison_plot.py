"""A measure of two reports over the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infoprobe.reporting import plot
from infoprobe.rows import LayerCall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infoprobe.reporting.comparison import ComparedRow

_STYLES: tuple[dict[str, Any], ...] = (
    {"marker": "o", "linestyle": "-"},
    {"marker": "s", "linestyle": "--", "markerfacecolor": "white"},
)
_Point = tuple[float | None, float | None]


def draw(names: tuple[str, str], rows: Sequence[ComparedRow], label: str, ax: Axes | None) -> Axes:
    """Draws a line for each report: over the layers, or over relative depth where these differ.

    Arguments:
        names: What the reports are called.
        rows: The rows of one measure.
        label: What the measure is called.
        ax: The axes to draw on; ``None`` makes a new figure.
    """
    ax = plot.axes(ax, len(rows))
    alike = all(row["first"] is not None and row["second"] is not None for row in rows)
    series: tuple[list[_Point], ...] = (
        [(row["first"], row["first_stderr"]) for row in rows],
        [(row["second"], row["second_stderr"]) for row in rows],
    )
    for name, points, style in zip(names, series, _STYLES, strict=True):
        own = [(y, error or 0.0) for y, error in points if y is not None]
        last = len(own) - 1 if not alike and len(own) > 1 else 1
        ax.errorbar(
            [i / last for i in range(len(own))],
            # Matplotlib leaves a gap at NaN, where a value is infinite.
            [y if math.isfinite(y) else math.nan for y, _ in own],
            yerr=[plot.INTERVAL * error for _, error in own],
            label=plot.written(name),
            capsize=2,
            markersize=4,
            **style,
        )
    if alike:
        calls = [LayerCall(row["layer"], "", row["direction"], row["call"]) for row in rows]
        plot.name_layers(ax, calls)
    else:
        ax.set_xlabel("relative depth")
    ax.set_ylabel(f"{plot.written(label)} ({plot.written(rows[0]['unit'])})", **plot.AS_IT_IS)
    ax.legend(frameon=False)
    return ax
