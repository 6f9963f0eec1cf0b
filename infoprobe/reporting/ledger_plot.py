"""A ledger over the layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infoprobe.reporting import plot
from infoprobe.rows import LayerCall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from infoprobe.reporting.ledger import LedgerRow

_MARKERS = ("s", "^", "D", "v", "P")


def draw(rows: Sequence[LedgerRow], unit: str, names: Mapping[str, str], ax: Axes | None) -> Axes:
    """Draws the exact changes as points with errors, and the estimates as hollow markers.

    Arguments:
        rows: The rows of the ledger.
        unit: The unit of their values.
        names: The short name of each estimator by its ``repr``.
        ax: The axes to draw on; ``None`` makes a new figure.
    """
    ax = plot.axes(ax, len(rows))
    places = range(len(rows))
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.errorbar(
        places,
        [row["exact"] for row in rows],
        yerr=[plot.INTERVAL * (row["stderr"] or 0) for row in rows],
        marker="o",
        linestyle="none",
        capsize=2.5,
        label="exact",
    )
    for (estimator, name), marker in zip(names.items(), itertools.cycle(_MARKERS)):
        values = [row["estimates"].get(estimator) for row in rows]
        ax.plot(
            places,
            [math.nan if value is None else value for value in values],
            marker=marker,
            markerfacecolor="none",
            linestyle="none",
            label=plot.written(name),
        )
    calls = [LayerCall(row["layer"], "", row["direction"], row["call"]) for row in rows]
    plot.name_layers(ax, calls)
    ax.set_ylabel(f"change of entropy ({plot.written(unit)})")
    ax.legend(frameon=False)
    return ax
