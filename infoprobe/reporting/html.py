"""A report as HTML: one page that needs no other file, and the table of a notebook."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from functools import cache
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NamedTuple

from infoprobe.directions import Direction
from infoprobe.findings import code_of
from infoprobe.reporting import plot
from infoprobe.reporting.names import printable
from infoprobe.reporting.pivot import Column, column_names, pivot
from infoprobe.reporting.table import MISSING, number, standard_error, width_notes
from infoprobe.rows import LayerCall, Row, numbered

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure


# Up to how many calls of layers figures stand side by side.
_NARROW = 12
_NO_VALUE = f"{MISSING} means that a measure has no value at that layer"


class _Cell(NamedTuple):
    """A value with its error, the letters of its findings, and what to show when pointed at."""

    text: str = ""
    error: str = ""
    marks: tuple[str, ...] = ()
    title: str = ""
    key: str = ""
    anchor: str = ""


class _Line(NamedTuple):
    description: list[str]
    cells: list[_Cell]


class _Head(NamedTuple):
    name: str
    estimator: str


class _Place(NamedTuple):
    """A value that has a finding: its name, where it stands, and the finding in sentences."""

    name: str
    anchor: str
    sentence: str


class _Findings(NamedTuple):
    """All findings of one kind."""

    mark: str
    code: str
    places: list[_Place]


class _Grid(NamedTuple):
    """A table with a line for each layer, where forward and inverse face each other."""

    heads: tuple[str, ...]
    directions: list[Direction]
    columns: list[_Head]
    lines: list[_Line]
    units: str
    no_value: str
    widths: list[str]
    findings: list[_Findings]


def page(rows: list[Row], latest: list[Row], title: str, settings: Mapping[str, str]) -> str:
    """The text of the page.

    Arguments:
        rows: All rows of a report, for the figures.
        latest: The rows of its last step, for the table.
        title: The heading of the page.
        settings: What the report was made with.
    """
    from markupsafe import Markup

    figures = _figures(rows)
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            figures=[Markup(_svg(figure, name)) for name, figure in figures or ()],
            drawable=figures is not None,
            many=len({LayerCall.of(row) for row in rows}) > _NARROW,
            settings=list(settings.items()),
            **_table(rows, latest, settings),
        )
    )


def notebook(rows: list[Row], latest: list[Row], settings: Mapping[str, str]) -> str:
    """The table with its findings, to stand in a notebook.

    Arguments:
        rows: All rows of a report.
        latest: The rows of its last step.
        settings: What the report was made with.
    """
    return _environment().get_template("notebook.html").render(**_table(rows, latest, settings))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader  # torch depends on it

    # What stands between double braces is escaped.
    return Environment(
        loader=PackageLoader("infoprobe.reporting"),
        autoescape=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )


def _visible(value: Any) -> Any:
    # Markup is a subclass of str that is not escaped, here the figures and the macros.
    return printable(value) if type(value) is str else value


def _table(rows: list[Row], latest: list[Row], settings: Mapping[str, str]) -> dict[str, Any]:
    steps = {row["step"] for row in rows}
    several = len(steps) > 1
    step = latest[0]["step"] if several else None
    return {"grid": _grid(latest, settings), "step": step, "steps": len(steps)}


def _grid(rows: list[Row], settings: Mapping[str, str]) -> _Grid:
    columns, lines = pivot(rows)
    heads = [
        _Head(name, column.estimator)
        for name, column in zip(column_names(columns), columns, strict=True)
    ]
    directions = sorted({call.direction for call in lines})
    found: dict[str, _Findings] = {}
    layers: dict[tuple[str, str, int], dict[Direction, dict[Column, list[Row]]]] = {}
    for at, line in lines.items():
        layers.setdefault((at.layer, at.type, at.call), {})[at.direction] = line
    made = []
    for i, ((layer, kind, call), ways) in enumerate(layers.items()):
        cells = [
            _cell(row, found, f"value-{i}-{j}-{k}")
            for j, way in enumerate(directions)
            for k, row in enumerate(_row(ways, way, column) for column in columns)
        ]
        own = [row for line in ways.values() for those in line.values() for row in those[-1:]]
        sizes = dict.fromkeys(f"{row['n']:,}" for row in own)
        widths = dict.fromkeys(MISSING if row["d"] is None else f"{row['d']:,g}" for row in own)
        description = [numbered(layer, call), kind, " / ".join(sizes), " / ".join(widths)]
        made.append(_Line(description, cells))
    return _Grid(
        heads=("layer", "type", "n", "d"),
        directions=directions,
        columns=heads,
        lines=made,
        units=", ".join(dict.fromkeys(row["unit"] for row in rows)) or "nats",
        no_value=_NO_VALUE if any(row["value"] is None for row in rows) else "",
        widths=width_notes(rows, settings),
        findings=list(found.values()),
    )


def _row(
    ways: Mapping[Direction, Mapping[Column, list[Row]]], way: Direction, column: Column
) -> Row | None:
    rows = ways.get(way, {}).get(column)
    return rows[-1] if rows else None


def _cell(row: Row | None, found: dict[str, _Findings], anchor: str) -> _Cell:
    """The value with the letters of its findings, which are gathered in ``found`` by kind."""
    if row is None:
        return _Cell()
    why = " ".join(row["findings"])
    if row["value"] is None:
        return _Cell(number(None), title=why)
    name = f"{LayerCall.of(row).tick}, {Column.of(row).label}"
    marks: dict[str, None] = {}
    for sentence in row["findings"]:
        code = code_of(sentence)
        kind = found.setdefault(code, _Findings(_letter(len(found)), code, []))
        kind.places.append(_Place(name, anchor, sentence.removesuffix(f" [{code}]")))
        marks.setdefault(kind.mark)
    text = number(row["value"])
    return _Cell(text, standard_error(row), tuple(marks), why, repr(row["value"]), anchor)


def _letter(i: int) -> str:
    """The letter of the i-th finding: a, b, …, z, a1, b1, … ."""
    turn, letter = divmod(i, len(ascii_lowercase))
    return ascii_lowercase[letter] + (str(turn) if turn else "")


def _figures(rows: list[Row]) -> list[tuple[str, Figure]] | None:
    """A figure for each measure that has a value anywhere; ``None`` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figures = []
    layer_calls = {LayerCall.of(row) for row in rows}
    for measure in dict.fromkeys(row["measure"] for row in rows if row["value"] is not None):
        figure = Figure(figsize=(min(14, 5 + 0.3 * len(layer_calls)), 4.5), layout="constrained")
        plot.layers(rows, measure, None, figure.subplots())
        figures.append((measure, figure))
    return figures


def _svg(figure: Figure, name: str) -> str:
    from markupsafe import escape

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    # Comments repeat the names in the figure.
    svg = re.sub("<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    title = escape(printable(f"{name} at every layer"))
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
