"""What all figures share: axes, names, marks and legends, with room for each at any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError
from infoprobe.reporting.names import fitted, printable, shortened
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.container import Container
    from matplotlib.figure import Figure

_LINE_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P")
# How many standard errors an interval of 95 % reaches to each side.
INTERVAL = 1.96
# Names are no formulas: neither Matplotlib nor TeX reads what stands between dollar signs.
AS_IT_IS: Any = {"parse_math": False, "usetex": False}

_LARGEST = 1e300
# The width of a letter and the distance of lines, in units of the size of the font.
_LETTER, _LINE = 0.6, 1.3
# How many letters of a legend the mark of a line takes.
_HANDLE = 7
# The height of the strips in which "inverse" and the marks of infinite values stand, in points.
_INVERSE, _INFINITE = 15.0, 10.0


class Point(NamedTuple):
    """A value with its place on the axis; its error is 0 where it is not known."""

    x: float
    y: float
    error: float
    has_findings: bool


def points_of(rows: Iterable[tuple[float, Row]]) -> list[Point]:
    """Points of the rows that have a value; each row comes with its place on the axis."""
    return [
        Point(x, row["value"], row["stderr"] or 0.0, bool(row["findings"]))
        for x, row in rows
        if row["value"] is not None
    ]


def new_figure(size: tuple[float, float] | None = None) -> Figure:
    """A new figure whose layout makes room for all that is drawn; its size is in inches."""
    _require_matplotlib()
    from matplotlib import pyplot

    return pyplot.figure(figsize=size, layout="constrained")


def axes_for(ax: Any, columns: int = 0, lines: int = 0) -> Axes:
    """The axes that were given, or those of a new figure with room for names along them.

    Arguments:
        ax: The axes, or ``None``.
        columns: The number of names below.
        lines: The number of names at the left.

    Raises:
        ImportError: Matplotlib is not installed.
        TypeError: Something else was given.
    """
    if ax is not None:
        return _require_axes(ax)
    figure = new_figure()
    width, height = figure.get_size_inches()
    figure.set_size_inches(
        max(width, min(14.0, 2 + 0.22 * columns)), max(height, min(10.0, 1 + 0.13 * lines))
    )
    return figure.subplots()


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install 'infoprobe[plot]'.") from error


def _require_axes(ax: Any) -> Axes:
    _require_matplotlib()
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise ArgumentTypeError(
            "ax", f"expected axes of matplotlib or None, got {checks.typed(ax)}."
        )
    return ax


def extent(ax: Axes) -> tuple[float, float]:
    """The width and the height of axes in points."""
    box, scale = ax.get_window_extent(), 72 / ax.figure.dpi
    return box.width * scale, box.height * scale


def lay_out(ax: Axes) -> None:
    """Gives axes their place in the figure, which depends on the names beside them."""
    figure: Any = ax.figure.canvas.figure
    figure.draw_without_rendering()


def written(text: str) -> str:
    """A name as it stands in a figure: short, and without control characters."""
    return shortened(printable(text))


def name_y(ax: Axes, name: str, unit: str) -> None:
    """Writes what the vertical axis shows, with its unit."""
    ax.set_ylabel(with_unit(name, unit), **AS_IT_IS)


def with_unit(name: str, unit: str) -> str:
    """What an axis shows: ``H(output) (nats)``."""
    return f"{written(name)} ({written(unit)})"


def rule(ax: Axes) -> None:
    """Draws thin lines to read values by."""
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)


def name_ticks(
    axis: Axis, names: Sequence[str], *, upright: bool = False, across: float | None = None
) -> None:
    """Names the places 0, 1, 2, … of an axis, as far as there is room.

    Beyond it, each second or third place has a name, and so on. Long names lose their middle.

    Arguments:
        axis: The axis.
        names: The name of each place.
        upright: Whether the names of a horizontal axis stand upright where they need the room.
        across: The extent in points of which upright names, and those of a vertical axis, may
            take half; ``None`` for that of the axes.
    """
    from matplotlib import rcParams
    from matplotlib.axis import XAxis

    is_horizontal = isinstance(axis, XAxis)
    sizes = extent(axis.axes)
    along, other = sizes if is_horizontal else sizes[::-1]
    across = other if across is None else across
    size = font_size(rcParams["xtick.labelsize" if is_horizontal else "ytick.labelsize"])
    small = min(size, font_size("x-small"))
    if len(names) * _LINE * size > along:
        size = small
    longest = max(9, int(across / 2 / (_LETTER * size)))
    texts = fitted(names, longest)
    width = _LETTER * (1 + max(map(len, texts), default=0)) * size
    upright = upright and width * len(texts) > along
    step = width if is_horizontal and not upright else _LINE * size
    each = max(1, math.ceil(len(texts) * step / along))
    places = range(0, len(texts), each)
    style = AS_IT_IS | {"fontsize": size, "rotation": 90 if upright else 0}
    axis.set_ticks(places, [texts[i] for i in places], **style)


def name_shades(ax: Axes, names: Sequence[str]) -> None:
    """A bar of colours beside the axes that names what has each of the :func:`shades`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colors = ListedColormap(shades(len(names)))
    bar = ax.figure.colorbar(ScalarMappable(Normalize(-0.5, len(names) - 0.5), colors), ax=ax)
    bar.ax.invert_yaxis()
    bar.minorticks_off()
    name_ticks(bar.ax.yaxis, names, across=extent(ax)[0])


def font_size(name: float | str) -> float:
    """The size in points of a font that is called ``"small"``, or has that size."""
    from matplotlib.font_manager import FontProperties

    return float(FontProperties(size=name).get_size_in_points())


def name_layers(ax: Axes, layer_calls: Sequence[LayerCall]) -> None:
    """Names the layers at 0, 1, 2, … of the axis, and shades those of the inverse pass."""
    name_ticks(ax.xaxis, [layer_call.tick for layer_call in layer_calls], upright=True)
    ax.set_xlim(-0.5, len(layer_calls) - 0.5)
    end = 0
    for is_inverse, run in itertools.groupby(x.direction == "inverse" for x in layer_calls):
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
                color="0.4",
                fontsize="small",
            )


def marker(i: int) -> str:
    """The marker of the i-th line: what tells lines apart without colours."""
    return _MARKERS[i % len(_MARKERS)]


def linestyle(i: int) -> str:
    """The dashes of the i-th line, between which one beneath it shows."""
    return _LINE_STYLES[i % len(_LINE_STYLES)]


def shades(n: int) -> list[tuple[float, float, float, float]]:
    """Colours for things in an order, from the user's colours for maps.

    The lightest ones, which are hard to see on white, are left out.
    """
    from matplotlib import colormaps, rcParams

    colors = colormaps[rcParams["image.cmap"]]
    return [colors(0.9 * i / max(1, n - 1)) for i in range(n)]


def is_off_scale(y: float) -> bool:
    """Whether a value is NaN, infinite, or too large for an axis, which computes in float64."""
    return not abs(y) < _LARGEST


class Marks(NamedTuple):
    """How large marks are, in points."""

    marker: float
    cap: float


def marks(ax: Axes, n: int) -> Marks:
    """How large the marks of ``n`` points beside each other are, so that they stay apart."""
    room = extent(ax)[0] / max(1, n)
    return Marks(min(4.0, max(1.5, 0.6 * room)), min(2.5, max(0.0, room / 3 - 1)))


class Drawing:
    """Lines on axes, and what they are called in the legend.

    Arguments:
        ax: The axes.
        n: The number of places along the horizontal axis.
        shaded: Whether the axes have a strip that says which part is the inverse pass.
    """

    def __init__(self, ax: Axes, n: int, *, shaded: bool = False) -> None:
        self.ax = ax
        self._lines: dict[str, Any] = {}
        self._marks = marks(ax, n)
        self._strip = _INVERSE if shaded else 0.0
        self._infinite = 0.0

    def draw(
        self,
        points: Sequence[Point],
        name: str,
        *,
        marker: str = "o",
        linestyle: str = "-",
        color: Any = None,
    ) -> None:
        """Draws a line with the intervals of 95 % of its points.

        Markers of values with findings are hollow, and infinite values are triangles at the top.
        """
        from matplotlib.transforms import ScaledTranslation

        ax, size = self.ax, self._marks.marker
        x = [point.x for point in points]
        # Matplotlib leaves a gap at NaN, so that no line suggests a finite value there.
        y = [math.nan if is_off_scale(point.y) else point.y for point in points]
        (drawn,) = ax.plot(
            x, y, marker=marker, markersize=size, label=name, color=color, linestyle=linestyle
        )
        color = drawn.get_color()
        self._lines[name] = drawn
        self._draw_errors(points, color)
        noted = [i for i, point in enumerate(points) if point.has_findings]
        ax.plot(
            [x[i] for i in noted],
            [y[i] for i in noted],
            marker=marker,
            markersize=size + 1,
            linestyle="none",
            color=color,
            markerfacecolor="white",
        )
        infinite = [p.x for p in points if is_off_scale(p.y) and not math.isnan(p.y)]
        if infinite:
            self._infinite = _INFINITE
            down = ScaledTranslation(0, -(self._strip + 6) / 72, ax.figure.dpi_scale_trans)
            (self._lines[f"{name} = ∞"],) = ax.plot(
                infinite,
                [1.0] * len(infinite),
                marker="^",
                markersize=size + 1,
                linestyle="none",
                color=color,
                transform=ax.get_xaxis_transform() + down,
                label=f"{name} = ∞",
            )

    def _draw_errors(self, points: Sequence[Point], color: Any) -> None:
        """Draws the interval of each finite value, where its standard error is known."""
        known = [p for p in points if p.error and not is_off_scale(p.y + INTERVAL * p.error)]
        if known:
            self.ax.errorbar(
                [point.x for point in known],
                [point.y for point in known],
                [INTERVAL * point.error for point in known],
                linestyle="none",
                color=color,
                elinewidth=1,
                capsize=self._marks.cap,
            )

    def forget_names(self) -> None:
        """Empties the legend, up to what says that some values are infinite."""
        self._lines = {}
        if self._infinite:
            (shown,) = self.ax.plot([], [], color="0.4", marker="^", linestyle="none")
            self._lines["∞"] = shown

    def add(self, name: str, drawn: Artist | Container) -> None:
        """Puts something else into the legend."""
        self._lines[name] = drawn

    def finish(self, *, legend: bool = True) -> None:
        """Makes room above the lines, and puts the legend there.

        Arguments:
            legend: Whether there is one.
        """
        ax = self.ax
        lay_out(ax)
        top = self._strip + self._infinite
        if not (legend and self._lines):
            make_room(ax, top)
            return
        from matplotlib import rcParams

        size, (width, height) = font_size(rcParams["legend.fontsize"]), extent(ax)
        letters = _HANDLE + max(map(len, self._lines))
        columns = max(1, min(len(self._lines), int(width / (letters * _LETTER * size))))
        make_room(ax, top + math.ceil(len(self._lines) / columns) * 1.5 * size + 8)
        at = {"loc": "upper left", "bbox_to_anchor": (0, 1 - top / height), "ncols": columns}
        self._place(list(self._lines), **at)

    def place_beside(self) -> None:
        """Puts the legend at the right of the axes, where it takes up to half of their width."""
        if not self._lines:
            return
        size, (width, height) = font_size("small"), extent(self.ax)
        columns = math.ceil(len(self._lines) * 1.5 * size / height)
        longest = max(6, int(width / 2 / columns / (_LETTER * size)) - _HANDLE)
        at = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "ncols": columns}
        self._place(fitted(self._lines, longest), fontsize="small", **at)

    def _place(self, names: Sequence[str], **settings: Any) -> None:
        """Puts the legend on the axes, whatever characters the names hold."""
        lines = list(self._lines.values())
        legend = self.ax.legend(lines, names, frameon=False, **settings)
        for text in legend.get_texts():
            text.set(**AS_IT_IS)


def make_room(ax: Axes, points: float) -> None:
    """Moves the upper limit of axes so that there is room above what is drawn."""
    share = points / extent(ax)[1]
    if ax.get_yscale() == "linear" and ax.get_autoscaley_on() and 0 < share < 0.7:
        low, high = ax.get_ylim()
        # What is drawn later counts for the limits as well.
        ax.set_ylim(low, low + (high - low) / (1 - share), auto=True)
