"""Some of the rows of a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.reporting.pivot import Column
from infoprobe.rows import Row

Patterns = str | Iterable[str]

# The texts of a row that a pattern may match.
_TEXTS: dict[str, Callable[[Row], list[str]]] = {
    "layer": lambda row: [row["layer"]],
    "type": lambda row: [row["type"]],
    "direction": lambda row: [row["direction"]],
    "measure": lambda row: [row["measure"], Column.of(row).key],
    "reference": lambda row: [row["reference"] or ""],
    "estimator": lambda row: [row["estimator"]],
}


def selected(rows: list[Row], wanted: dict[str, Patterns | None]) -> list[Row]:
    """The rows that match a pattern in each of the columns.

    Arguments:
        rows: The rows to choose from.
        wanted: For each column one pattern, several of which one must match, or ``None`` for all.

    Raises:
        ValueError: A pattern of a column matches no row; the message names what is there.
    """
    for column, patterns in wanted.items():
        if patterns is None:
            continue
        those = _listed(patterns, column)
        texts = _TEXTS[column]
        for pattern in those:
            if not any(_matches(text, pattern) for row in rows for text in texts(row)):
                there = dict.fromkeys(text for row in rows for text in texts(row))
                raise ArgumentValueError(
                    column,
                    f"expected a {column} of the rows or a pattern that matches one, got "
                    f"{pattern!r}. There are {checks.shown(list(there))}.",
                )
        rows = [
            row
            for row in rows
            if any(_matches(text, pattern) for text in texts(row) for pattern in those)
        ]
    return rows


def _matches(text: str, pattern: str) -> bool:
    # A name itself may hold the characters of a pattern, as the repr of an estimator does.
    return text == pattern or fnmatchcase(text, pattern)


def _listed(patterns: Patterns, column: str) -> list[str]:
    those = [patterns] if isinstance(patterns, str) else list(checks.items(patterns))
    if not all(isinstance(pattern, str) for pattern in those):
        raise ArgumentTypeError(
            column,
            f"expected a text or several, got {checks.shown(patterns)}. Pass a name such as "
            "'conv1', a pattern such as 'conv*', or a list of them.",
        )
    return those
