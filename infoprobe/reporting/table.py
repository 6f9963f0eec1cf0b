"""Tables as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from infoprobe.findings import code_of
from infoprobe.reporting.names import printable
from infoprobe.reporting.pivot import pivot, scalar_key
from infoprobe.reporting.width import folded, terminal_width
from infoprobe.rows import LayerCall, Row, label

MISSING = "–"
HEADS = ("layer", "type", "direction", "n", "d")
_LEFT = HEADS[:3]
# The settings with the width of a histogram's bins, followed by its repr.
WIDTH_OF = "bin width of "
# One of several blocks of a model: ``blocks.3``.
_BLOCK = re.compile(r".*?\.\d+(?=\.|$)")
# How many kinds of findings a printed report spells out, and how many lines it shows at most: of
# longer tables the first and the last ones.
_NOTES = 3
_FIRST, _LAST = 40, 20
# Errors with so many digits behind the point are shown with an exponent.
_SMALL = 7


def report_table(rows: list[Row], settings: Mapping[str, str]) -> str:
    """A report as a table with a line for each call of a layer and a column for each measure.

    Values come with their standard errors. Notes below the table give the unit, the estimators
    and the first findings.

    Arguments:
        rows: At least one row, all of one step.
        settings: The settings of the report.
    """
    estimators = list(dict.fromkeys(row["estimator"] for row in rows))
    several = len(estimators) > 1
    marks = {name: f"[{i}]" if several else "" for i, name in enumerate(estimators, 1)}
    columns, lines = pivot(rows)
    heads = [f"{column.label} {marks[column.estimator]}".strip() for column in columns]
    table = [[*HEADS, *heads]]
    calls = list(lines)
    start, end = _hidden(calls)
    shown, hidden = calls[:start] + calls[end:], calls[start:end]
    cells = zip(
        *(_cells([lines[call].get(column) for call in shown]) for column in columns), strict=True
    )
    for layer_call, of_call in zip(shown, cells, strict=True):
        if hidden and layer_call == calls[end]:
            table.append([f"… {len(hidden):,} more", *[""] * (len(table[0]) - 1)])
        (first, *_), *_ = lines[layer_call].values()
        table.append([*description(layer_call, first), *of_call])
    notes = [f"{mark} {estimator}".strip() for estimator, mark in marks.items()]
    units = ", ".join(dict.fromkeys(row["unit"] for row in rows))
    notes[0] = f"{units}; {notes[0]}"
    notes += width_notes(rows, settings)
    if hidden:
        notes.append(
            f"report.select(layer=...) and report.head(n) show other lines, from {hidden[0].name} "
            f"to {hidden[-1].name}."
        )
    notes += _finding_notes(rows)
    notes += _reasons(row for row in rows if row["value"] is None)
    table = [[printable(cell) for cell in line] for line in table]
    parts, common = folded(table, len(HEADS), terminal_width())
    notes[:0] = [common] if common else []
    texts = [aligned(part, left=sum(head in _LEFT for head in part[0])) for part in parts]
    return "\n".join(["\n\n".join(texts), *map(printable, notes)])


def _hidden(calls: Sequence[LayerCall]) -> tuple[int, int]:
    """Where the lines begin and end that a long table leaves out, at the edges of whole blocks."""
    if len(calls) <= _FIRST + _LAST:
        return len(calls), len(calls)
    blocks = [(_BLOCK.match(call.layer) or [call.layer])[0] for call in calls]
    edges = [i for i in range(1, len(calls)) if blocks[i - 1] != blocks[i]]
    # Of a block that is longer than that, some lines are shown all the same.
    start = max((i for i in edges if _FIRST // 2 <= i <= _FIRST), default=_FIRST)
    least = len(calls) - _LAST
    return start, min((i for i in edges if least <= i <= least + _LAST // 2), default=least)


def _finding_notes(rows: list[Row]) -> list[str]:
    """The most frequent kinds of findings, each with the first sentence of its kind."""
    kinds = findings_by_code(row for row in rows if row["value"] is not None)
    without_code: dict[str, list[tuple[Row, str]]] = {}
    for row, sentence in kinds.pop("", []):
        without_code.setdefault(sentence, []).append((row, sentence))
    listed = [*kinds.values(), *without_code.values()]
    notes = []
    for found in listed[:_NOTES]:
        row, sentence = found[0]
        notes.append(f"* {_places(row, len({id(row) for row, _ in found}))}: {sentence}")
    left = sum(map(len, listed[_NOTES:]))
    if left:
        notes.append(f"* and {left:,} more findings of other kinds; report.findings() has all")
    return notes


def _reasons(rows: Iterable[Row]) -> list[str]:
    """Why rows have no value, the most frequent reason first."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(" ".join(row["findings"]), []).append(row)
    listed = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    notes = [
        f"{MISSING} {_places(those[0], len(those))}: {reason or 'there is no value.'}"
        for reason, those in listed[:_NOTES]
    ]
    left = sum(len(those) for _, those in listed[_NOTES:])
    if left:
        notes.append(f"{MISSING} and {left:,} more for other reasons; report.rows has all")
    return notes


def _places(row: Row, times: int) -> str:
    """Where something is, and how often it is there."""
    return scalar_key(row) + (f" and {times - 1:,} more" if times > 1 else "")


def findings_by_code(rows: Iterable[Row]) -> dict[str, list[tuple[Row, str]]]:
    """The findings of each kind with their rows, the most frequent kind first."""
    kinds: dict[str, list[tuple[Row, str]]] = {}
    for row in rows:
        for sentence in row["findings"]:
            kinds.setdefault(code_of(sentence), []).append((row, sentence))
    return dict(sorted(kinds.items(), key=lambda kind: -len(kind[1])))


def width_notes(rows: Iterable[Row], settings: Mapping[str, str]) -> list[str]:
    """A sentence on the width of the bins for each estimator whose rows were brought to one."""
    return [
        f"{label('entropy', None)} is of bins of width {settings[key]} at every layer"
        for key in dict.fromkeys(WIDTH_OF + row["estimator"] for row in rows)
        if key in settings
    ]


def description(layer_call: LayerCall, row: Row) -> list[str]:
    """The cells under :data:`HEADS`, which tell the call of a layer and the size of its output.

    Arguments:
        layer_call: The call of the layer.
        row: Any of the rows of this call.
    """
    width = MISSING if row["d"] is None else f"{row['d']:,g}"
    return [layer_call.name, layer_call.type, layer_call.direction, f"{row['n']:,}", width]


def number(value: float | None) -> str:
    """A value with four digits behind the point."""
    return MISSING if value is None else f"{value:.4f}"


def standard_error(row: Row) -> str:
    """The standard error of a row with two significant digits; empty where it has none."""
    error = row["stderr"]
    if error is None:
        return ""
    if error == 0 or not math.isfinite(error):
        return f"{error:g}"
    digits = 1 - math.floor(math.log10(error))
    return f"{error:.{max(0, digits)}f}" if digits < _SMALL else f"{error:.1e}"


def aligned(table: Sequence[Sequence[str]], left: int) -> str:
    """A table whose columns have two spaces between them.

    Arguments:
        table: The lines, all with the same number of cells.
        left: The number of columns that are aligned to the left; the others are aligned to the
            right.
    """
    table = [[printable(cell) for cell in line] for line in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
    return "\n".join(lines)


def _cells(column: list[list[Row] | None]) -> list[str]:
    """A column's values with their standard errors, and a star where there is a finding."""
    rows = [None if found is None else found[-1] for found in column]
    notes = [_after(row) for row in rows]
    # Numbers stay aligned whether or not an error or a star follows.
    width = max(1, *map(len, notes))
    return [
        "" if row is None else number(row["value"]) + note.ljust(width)
        for row, note in zip(rows, notes, strict=True)
    ]


def _after(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return ""
    error = standard_error(row)
    return (f" ± {error}" if error else "") + "*" * bool(row["findings"])
