"""A report as one HTML page with figures, table and findings, which needs no other file."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from infoprobe.reporting import plot
from infoprobe.reporting.names import printable
from infoprobe.reporting.pivot import Column, column_names, pivot
from infoprobe.reporting.table import HEADS, NO_VALUE, description, number, width_notes
from infoprobe.rows import LayerCall, Row, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What stands between double braces is escaped.
_PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
.wide { overflow-x: auto } table { border-collapse: collapse; white-space: nowrap }
th, td { padding: .15rem .7rem; text-align: right } th { border-bottom: 1px solid #999 }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left }
tr.inverse { background: #f2f2f2 } td { border-bottom: 1px solid #eee }
sup { color: #b04000; margin-left: .15em } ol.findings { white-space: normal }
</style>
<h1>{{ title }}</h1>
{% for figure in figures -%}
<figure>{{ figure }}</figure>
{% endfor -%}
<div class="wide"><table><tr>
{% for head in heads -%}
<th>{{ head }}</th>
{% endfor -%}
{% for column in columns -%}
<th><span title="{{ column.estimator }}">{{ column.name }}</span></th>
{% endfor -%}
</tr>
{% for line in lines -%}
<tr class="{{ line.direction }}">
{%- for text in line.description %}<td>{{ text }}</td>{% endfor -%}
{%- for cell in line.cells %}<td>
{%- if cell.why_none -%}
<span title="{{ cell.why_none }}">{{ cell.text }}</span>
{%- else -%}
{{ cell.text }}
{%- if cell.marks -%}
<sup>
{%- for mark in cell.marks -%}
<a href="#f{{ mark }}">{{ mark }}</a>{{ "" if loop.last else "," }}
{%- endfor -%}
</sup>
{%- endif -%}
{%- endif -%}
</td>{% endfor -%}
</tr>
{% endfor -%}
</table></div>
<p>{{ units }}</p>
{% for sentence in widths -%}
<p>{{ sentence }}.</p>
{% endfor -%}
<ul>
{% for column in columns -%}
<li>{{ column.name }}: <code>{{ column.estimator }}</code></li>
{% endfor -%}
</ul>
{% if no_value -%}
<p>{{ no_value }}; point at it to read why.</p>
{% endif -%}
{% if notes -%}
<h2>Findings</h2><ol class="findings">
{% for note, mark in notes.items() -%}
<li id="f{{ mark }}">{{ note }}</li>
{% endfor -%}
</ol>
{% endif -%}
</html>
"""


class _Head(NamedTuple):
    name: str
    estimator: str


class _Cell(NamedTuple):
    """A value, the numbers of its findings, and why there is no value if there is none."""

    text: str
    marks: list[int]
    why_none: str


class _Line(NamedTuple):
    direction: str
    description: list[str]
    cells: list[_Cell]


def page(rows: list[Row], latest: list[Row], title: str, settings: Mapping[str, Setting]) -> str:
    """The text of the page.

    Arguments:
        rows: All rows of a report, for the figures.
        latest: The rows of its last step, for the table.
        title: The heading of the page.
        settings: The settings of the report.
    """
    from jinja2 import Environment  # torch depends on it
    from markupsafe import Markup

    columns, lines = pivot(latest)
    heads = [
        _Head(name, column.estimator)
        for name, column in zip(column_names(columns), columns, strict=True)
    ]
    notes: dict[str, int] = {}
    units = ", ".join(dict.fromkeys(row["unit"] for row in latest)) or "nats"
    environment = Environment(autoescape=True, keep_trailing_newline=True, finalize=_visible)
    return environment.from_string(_PAGE).render(
        title=title,
        figures=[Markup(_svg(figure)) for figure in _figures(rows)],
        heads=HEADS,
        columns=heads,
        lines=[_line(layer_call, line, columns, notes) for layer_call, line in lines.items()],
        widths=width_notes(latest, settings),
        units=f"All values in {units}.",
        no_value=NO_VALUE if any(row["value"] is None for row in latest) else "",
        notes=notes,
    )


def _visible(value: Any) -> Any:
    # Markup is a subclass of str that is not escaped, here the figures.
    return printable(value) if type(value) is str else value


def _line(
    layer_call: LayerCall,
    line: dict[Column, list[Row]],
    columns: list[Column],
    notes: dict[str, int],
) -> _Line:
    (first, *_), *_ = line.values()
    cells = [
        _cell(line[column][-1], notes) if column in line else _Cell("", [], "")
        for column in columns
    ]
    return _Line(layer_call.direction, description(layer_call, first), cells)


def _cell(row: Row, notes: dict[str, int]) -> _Cell:
    """The value with its findings, which are numbered in ``notes``."""
    text = number(row["value"])
    if row["value"] is None:
        return _Cell(text, [], " ".join(row["findings"]))
    marks = [notes.setdefault(finding, len(notes) + 1) for finding in row["findings"]]
    return _Cell(text, marks, "")


def _figures(rows: list[Row]) -> list[Figure]:
    """A figure for each measure that has a value anywhere."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("to_html() needs matplotlib: pip install 'infoprobe[plot]'.") from error
    figures = []
    layer_calls = {LayerCall.of(row) for row in rows}
    for measure in dict.fromkeys(row["measure"] for row in rows if row["value"] is not None):
        figure = Figure(figsize=(min(14, 5 + 0.3 * len(layer_calls)), 4.5), layout="constrained")
        plot.layers(rows, measure, None, figure.subplots())
        figures.append(figure)
    return figures


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    # Comments repeat the names in the figure.
    return re.sub("<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
