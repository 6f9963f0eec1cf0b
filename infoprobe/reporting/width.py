"""Tables that fit into the width of a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from infoprobe.reporting.names import fitted

# The least room of names, and the space between columns.
_SHORTEST, _GAP = 16, 2


def terminal_width() -> int | None:
    """The number of characters in a line; ``None`` where no terminal says how many there are.

    The variable ``COLUMNS`` of the environment goes before what the terminal says.
    """
    known = os.environ.get("COLUMNS") or (sys.stdout is not None and sys.stdout.isatty())
    return shutil.get_terminal_size().columns if known else None


def folded(
    table: Sequence[Sequence[str]], described: int, width: int | None
) -> tuple[list[list[list[str]]], str]:
    """The table in parts that fit into lines of some width, as far as it can be done.

    Columns that describe lines go into a note where they are the same in all lines. Names take
    half of the width, and columns that have no room follow in another part, beside the names.

    Arguments:
        table: The lines, the first of which has the heads.
        described: The number of columns that describe the line; the first has the names.
        width: The number of characters of a line; ``None`` for any.

    Returns:
        The parts, and the note, which may be empty.
    """
    lines = [list(line) for line in table]
    if width is None or _width(lines) <= width:
        return [lines], ""
    lines, described, note = _without_constant(lines, described)
    names = fitted((full := [line[0] for line in lines[1:]]), max(_SHORTEST, width // 2))
    for name, short in zip(full, names, strict=True):
        if name != short and name.endswith(f".{short}"):
            note += f"{'; ' * bool(note)}names leave out {name.removesuffix(short)!r}"
            break
    lines = [lines[0], *([name, *line[1:]] for name, line in zip(names, lines[1:], strict=True))]
    beside = [*range(described)]
    parts: list[list[int]] = [beside]
    for i in range(described, len(lines[0])):
        if len(parts[-1]) > described and _width(_taken(lines, [*parts[-1], i])) > width:
            parts.append(beside)
        parts[-1] = [*parts[-1], i]
    return [_taken(lines, part) for part in parts], note


def _without_constant(lines: list[list[str]], described: int) -> tuple[list[list[str]], int, str]:
    """The lines without the describing columns that are the same in all, and what these say."""
    heads, *rows = lines
    kept, told = [*range(len(heads))], []
    for i in range(1, described):
        values = {row[i] for row in rows if any(row[1:])}
        if len(values) == 1:
            kept.remove(i)
            told.append(f"{heads[i]} {values.pop()}")
    note = f"{', '.join(told)} in all lines" if told else ""
    return _taken(lines, kept), described - len(told), note


def _taken(lines: list[list[str]], columns: Sequence[int]) -> list[list[str]]:
    return [[line[i] for i in columns] for line in lines]


def _width(lines: list[list[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1)
