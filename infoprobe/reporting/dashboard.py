"""One figure of all that a report has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from infoprobe.errors import ArgumentValueError
from infoprobe.reporting import axes, ledger, mirrored_plot, plane_plot, plot, table
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Up to how many calls of layers a figure has its panels side by side.
_NARROW = 24

_Panel = Callable[..., "Axes | None"]


def draw(rows: list[Row], latest: list[Row], figure: Figure | SubFigure | None) -> Any:
    """Draws every measure over the layers, its course over steps, the ledger and the findings.

    Arguments:
        rows: All rows of a report.
        latest: The rows of its last step.
        figure: The figure to draw in; ``None`` makes a new one.

    Returns:
        The figure.

    Raises:
        ValueError: No row has a value.
    """
    panels = list(_panels(rows, latest))
    if not panels:
        raise ArgumentValueError(
            "report", "expected rows with values, got none. Run the model within the probe."
        )
    wide = len({LayerCall.of(row) for row in latest}) > _NARROW
    columns = 1 if wide else 2
    lines = -(-len(panels) // columns)
    if figure is None:
        figure = axes.new_figure((14.0 if wide else 12.0, 3.6 * lines))
    # Each panel has a layout of its own, since names beside one need no room beside the others.
    places = figure.subfigures(lines, columns, squeeze=False).flat
    for place, panel in zip(places, panels, strict=False):
        panel(ax=place.subplots())
    return figure


def _panels(rows: list[Row], latest: list[Row]) -> Iterator[_Panel]:
    """What draws each panel."""
    valued = [row for row in rows if row["value"] is not None]
    for measure in dict.fromkeys(row["measure"] for row in valued):
        of_latest = [row for row in latest if row["measure"] == measure]
        both = len({row["direction"] for row in of_latest}) == 2
        if measure == "entropy_change":
            yield ledger.ledger(latest).plot
        elif both:
            yield partial(mirrored_plot.draw, of_latest, measure, None)
        else:
            yield partial(plot.over_layers, of_latest)
        if len({row["step"] for row in valued if row["measure"] == measure}) > 1:
            references = dict.fromkeys(x["reference"] for x in valued if x["measure"] == measure)
            for reference in references:
                yield partial(plot.layers, rows, measure, reference)
        if plane_plot.is_possible(latest, measure):
            yield partial(plane_plot.draw, rows, measure)
    if any(row["findings"] for row in latest):
        yield partial(_findings, latest)


def _findings(latest: list[Row], ax: Axes) -> None:
    """A bar for each kind of finding, as long as there are values that have it."""
    kinds = table.findings_by_code(latest)
    counts = [len({id(row) for row, _ in found}) for found in kinds.values()]
    bars = ax.barh(range(len(counts)), counts, color="0.6")
    ax.bar_label(bars, padding=3)
    ax.set_ylim(max(4, len(counts)) - 0.5, -0.5)
    ax.margins(x=0.1)
    axes.name_ticks(ax.yaxis, [code or "other" for code in kinds])
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("values with a finding of this kind")
