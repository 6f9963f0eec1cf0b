"""A report as one HTML page that needs nothing else: figures, table and findings."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any

from infoprobe.reporting import plot

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


def page(rows: list[dict[str, Any]], latest: list[dict[str, Any]], title: str) -> str:
    """The page.

    Arguments:
        rows: Of a report, for the figures.
        latest: Those of its last step, for the table.
        title: Its heading.
    """
    columns = list(dict.fromkeys(_column(row) for row in latest))
    lines: dict[tuple[Any, ...], dict[tuple[str, Any, str], dict[str, Any]]] = {}
    for row in latest:
        place = (row["layer"], row["type"], row["direction"], row["call"])
        lines.setdefault(place, {})[_column(row)] = row
    notes: dict[str, int] = {}
    table = [
        _line(place, [line.get(column) for column in columns], notes)
        for place, line in lines.items()
    ]
    heads = ["layer", "type", "direction", "n", "d"]
    heads += [
        f'<span title="{html.escape(x)}">{html.escape(plot.label(m, of))}</span>'
        for m, of, x in columns
    ]
    settings = dict.fromkeys((plot.label(m, of), x) for m, of, x in columns)
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
    if notes:
        parts += ['<h2>Findings</h2><ol class="findings">']
        parts += [f'<li id="f{number}">{html.escape(note)}</li>' for note, number in notes.items()]
        parts += ["</ol>"]
    return "\n".join([*parts, "</html>", ""])


def _column(row: dict[str, Any]) -> tuple[str, Any, str]:
    return row["measure"], row["reference"], row["estimator"]


def _line(place: tuple[Any, ...], line: list[dict[str, Any] | None], notes: dict[str, int]) -> str:
    layer, kind, direction, call = place
    row = next(row for row in line if row is not None)
    width = "–" if row["d"] is None else f"{row['d']:,g}"
    name = f"{layer} #{call}" if call else layer
    cells = [*map(html.escape, (name, kind, direction)), f"{row['n']:,}", width]
    cells += [_cell(row, notes) for row in line]
    return f'<tr class="{direction}">' + "".join(f"<td>{x}</td>" for x in cells) + "</tr>"


def _cell(row: dict[str, Any] | None, notes: dict[str, int]) -> str:
    if row is None:
        return ""
    marks = [notes.setdefault(finding, len(notes) + 1) for finding in row["findings"]]
    links = ",".join(f'<a href="#f{mark}">{mark}</a>' for mark in marks)
    value = "–" if row["value"] is None else f"{row['value']:.4f}"
    return value + (f"<sup>{links}</sup>" if links else "")


def _figures(rows: list[dict[str, Any]]) -> list[Figure]:
    """A figure a measure, of those that have a value anywhere."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("to_html() needs matplotlib: pip install 'infoprobe[plot]'.") from error
    figures = []
    for measure in dict.fromkeys(row["measure"] for row in rows if row["value"] is not None):
        places = {(row["layer"], row["direction"], row["call"]) for row in rows}
        figure = Figure(figsize=(min(14, 5 + 0.3 * len(places)), 4.5), layout="constrained")
        plot.layers(rows, measure, None, figure.subplots())
        figures.append(figure)
    return figures


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
