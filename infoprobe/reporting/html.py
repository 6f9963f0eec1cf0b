"""A report as one HTML page with figures, table and findings, which needs no other file."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from infoprobe.reporting import plot
from infoprobe.reporting.pivot import Column, pivot
from infoprobe.reporting.table import HEADS, NO_VALUE, description, number
from infoprobe.rows import LayerCall, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
.wide { overflow-x: auto } table { border-collapse: collapse; white-space: nowrap }
th, td { padding: .15rem .7rem; text-align: right } th { border-bottom: 1px solid #999 }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left }
tr.inverse { background: #f2f2f2 } td { border-bottom: 1px solid #eee }
sup { color: #b04000; margin-left: .15em } ol.findings { white-space: normal }
"""


def page(rows: list[Row], latest: list[Row], title: str) -> str:
    """The text of the page.

    Arguments:
        rows: All rows of a report, for the figures.
        latest: The rows of its last step, for the table.
        title: The heading of the page.
    """
    columns, lines = pivot(latest)
    notes: dict[str, int] = {}
    table = [_line(layer_call, line, columns, notes) for layer_call, line in lines.items()]
    heads = [*HEADS, *map(_head, columns)]
    settings = dict.fromkeys((column.label, column.estimator) for column in columns)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<figure>{_svg(figure)}</figure>" for figure in _figures(rows)),
        '<div class="wide"><table><tr>',
        *(f"<th>{head}</th>" for head in heads),
        "</tr>",
        *table,
        "</table></div>",
        "<p>All values in nats.</p><ul>",
        *(f"<li>{html.escape(of)}: <code>{html.escape(x)}</code></li>" for of, x in settings),
        "</ul>",
    ]
    if any(row["value"] is None for row in latest):
        parts += [f"<p>{NO_VALUE}; point at it to read why.</p>"]
    if notes:
        parts += ['<h2>Findings</h2><ol class="findings">']
        parts += [f'<li id="f{mark}">{html.escape(note)}</li>' for note, mark in notes.items()]
        parts += ["</ol>"]
    return "\n".join([*parts, "</html>", ""])


def _head(column: Column) -> str:
    return f'<span title="{html.escape(column.estimator)}">{html.escape(column.label)}</span>'


def _line(
    layer_call: LayerCall,
    line: dict[Column, list[Row]],
    columns: list[Column],
    notes: dict[str, int],
) -> str:
    (first, *_), *_ = line.values()
    cells = [html.escape(text) for text in description(layer_call, first)]
    cells += [_cell(line[column][-1], notes) if column in line else "" for column in columns]
    tags = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{layer_call.direction}">{tags}</tr>'


def _cell(row: Row, notes: dict[str, int]) -> str:
    """The value with links to its findings, which are numbered in ``notes``."""
    text = number(row["value"])
    if row["value"] is None:
        return f'<span title="{html.escape(" ".join(row["findings"]))}">{text}</span>'
    marks = [notes.setdefault(finding, len(notes) + 1) for finding in row["findings"]]
    links = ",".join(f'<a href="#f{mark}">{mark}</a>' for mark in marks)
    return text + (f"<sup>{links}</sup>" if links else "")


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
    return svg[svg.index("<svg") :]
