"""A report as a table of LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from infoprobe.reporting.names import printable
from infoprobe.reporting.pivot import column_names, pivot
from infoprobe.rows import Row

# What LaTeX takes for something else, or writes as another character.
_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: rf"\{c}" for c in "&%$#_{}"},
}
# The digits of a value whose error is not known, and the significant digits of an error.
_DIGITS, _SIGNIFICANT = 4, 2


def table(rows: Sequence[Row]) -> str:
    """A ``tabular`` with a line for each call of a layer and a column for each measure.

    Arguments:
        rows: The rows of one step.
    """
    columns, lines = pivot(rows)
    directions = len({call.direction for call in lines}) > 1
    units = {row["unit"] for row in rows}
    heads = ["layer", *(["direction"] if directions else []), *column_names(columns)]
    body = [
        [
            *([escaped(call.name), call.direction] if directions else [escaped(call.name)]),
            *(_cell(line.get(column)) for column in columns),
        ]
        for call, line in lines.items()
    ]
    left = 2 if directions else 1
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{'l' * left}{'r' * len(columns)}}}",
            r"\hline",
            _line([escaped(head) for head in heads]),
            r"\hline",
            *map(_line, body),
            r"\hline",
            r"\end{tabular}",
            f"% in {', '.join(sorted(units))}; a star marks a value with a finding",
            "",
        ]
    )


def escaped(text: str) -> str:
    """The text as LaTeX writes it."""
    return "".join(_ESCAPED.get(c, c) for c in printable(text))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(rows: Sequence[Row] | None) -> str:
    row = rows[-1] if rows else None
    if row is None or row["value"] is None:
        return "--" if row is not None else ""
    star = "^{*}" if row["findings"] else ""
    return f"${_number(row['value'], row['stderr'])}{star}$"


def _number(value: float, stderr: float | None) -> str:
    """A value with as many digits as its error tells."""
    if math.isinf(value):
        return r"\infty" if value > 0 else r"-\infty"
    if stderr is None or not math.isfinite(stderr):
        return f"{value:.{_DIGITS}f}"
    if stderr == 0:
        return f"{value:.{_DIGITS}f} \\pm 0"
    digits = max(0, _SIGNIFICANT - 1 - math.floor(math.log10(stderr)))
    return f"{value:.{digits}f} \\pm {stderr:.{digits}f}"
