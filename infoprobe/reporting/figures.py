"""The figures of a report, as its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infoprobe.reporting import dashboard, mirrored_plot, plane_plot, plot
from infoprobe.rows import Row, of_last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


class Figures:
    """Draws rows.

    Attributes:
        rows: Those of a report.
    """

    rows: list[Row]

    def plot(
        self, measure: str = "entropy", reference: str | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draws a measure over the layers, in the order in which they were called.

        Bars are intervals of 95 %, that is 1.96 standard errors to each side. Values with
        findings have hollow markers, and infinite values are triangles at the top.
        If several steps were tracked, each layer is a line over the steps instead. Needs the
        extra ``infoprobe[plot]``.

        Arguments:
            measure: The name of the measure to draw, such as ``"entropy"`` or ``"divergence"``,
                or ``"entropy@tokens"`` where samples were selected.
            reference: The reference of the rows to draw; ``None`` draws a line for each.
            ax: The axes to draw on; ``None`` makes a new figure.

        Returns:
            The axes. The figure is neither shown nor saved.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: No row has this measure and reference.
        """
        return plot.layers(self.rows, measure, reference, ax)

    def plot_mirrored(
        self, measure: str = "entropy", reference: str | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draws a measure of the forward and the inverse pass over the same layers.

        The inverse of a layer stands where the layer stands. If steps were tracked, the last one
        is drawn. The marks, the arguments, the result and the errors are those of :meth:`plot`,
        and there must be rows of both directions.
        """
        return mirrored_plot.draw(of_last_step(self.rows), measure, reference, ax)

    def plot_plane(self, measure: str = "mutual_information", ax: Axes | None = None) -> Axes:
        """Draws the information plane: I(layer; target) over I(input; layer).

        There is a point for each layer, with intervals of 95 %. If several steps were tracked,
        each layer is a line through the steps instead, with a larger mark at the last one. No
        layer can know more of the target than it knows of the input, so true values lie below
        the dashed line. The marks, the arguments, the result and the errors are those of
        :meth:`plot`, and there must be rows with the references ``"input"`` and ``"target"``, by
        one estimator.
        """
        return plane_plot.draw(self.rows, measure, ax)

    def plot_dashboard(self, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
        """Draws all that the report has in one figure.

        There is a panel for each measure over the layers, and if steps were tracked, one for its
        course; one for the ledger, one for the information plane, and one for the findings,
        where there are any.

        Arguments:
            figure: The figure to draw in, best made with ``layout="constrained"``; ``None`` makes
                a new one.

        Returns:
            The figure. It is neither shown nor saved.

        Raises:
            ValueError: No row has a value.
        """
        drawn: Figure | SubFigure = dashboard.draw(self.rows, of_last_step(self.rows), figure)
        return drawn
