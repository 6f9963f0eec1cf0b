"""How the axes of the examples' figures look."""

from __future__ import annotations

from matplotlib.axes import Axes


def tidy(ax: Axes) -> None:
    """Leaves of an axis horizontal lines to read values by, and no frame at the top and right."""
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    open_frame(ax)


def open_frame(ax: Axes) -> None:
    """Takes away the frame at the top and right of an axis."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
