"""A ledger over the layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infoprobe.reporting import axes
from infoprobe.rows import LayerCall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infoprobe.reporting.ledger import LedgerRow

_MARKERS = ("s", "^", "D", "v", "P")


def draw(rows: Sequence[LedgerRow], unit: str, names: Mapping[str, str], ax: Axes | None) -> Axes:
    """Draws the exact changes as points with errors, and the estimates as hollow markers.

    Arguments:
        rows: The rows of the ledger.
        unit: The unit of its values.
        names: The short name of each estimator by its ``repr``.
        ax: The axes to draw on; ``None`` makes a new figure.
    """
    ax = axes.axes_for(ax, len(rows))
    places = range(len(rows))
    calls = [LayerCall(row["layer"], "", row["direction"], row["call"]) for row in rows]
    axes.name_layers(ax, calls)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0.5)
    drawing = axes.Drawing(ax, len(rows), shaded=any(x.direction == "inverse" for x in calls))
    sizes = axes.marks(ax, len(rows))
    exact = ax.errorbar(
        places,
        [row["exact"] for row in rows],
        yerr=[axes.INTERVAL * (row["stderr"] or 0) for row in rows],
        marker="o",
        linestyle="none",
        zorder=3,
        markersize=sizes.marker,
        capsize=sizes.cap,
    )
    drawing.add("exact", exact)
    for (estimator, name), marker in zip(names.items(), itertools.cycle(_MARKERS)):
        values = [row["estimates"].get(estimator) for row in rows]
        (estimates,) = ax.plot(
            places,
            [math.nan if value is None else value for value in values],
            marker=marker,
            markersize=sizes.marker + 1,
            markerfacecolor="none",
            linestyle="none",
        )
        drawing.add(axes.written(name), estimates)
    ax.set_ylabel(axes.with_unit("change of entropy", unit), **axes.AS_IT_IS)
    drawing.finish()
    return ax
