"""Writes numbers and tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table whose first column is aligned to the left and all others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float, digits: int) -> str:
    """Returns a number, without a minus if it is rounded to zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def spread(values: Sequence[float | None], digits: int) -> str:
    """Returns the mean of the seeds with the lowest and the highest; a dash if one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    mean, low, high = (
        number(value, digits) for value in (sum(known) / len(known), min(known), max(known))
    )
    return mean if low == high else f"{mean} ({low} to {high})"


def interval(found: dict[str, float] | None, digits: int) -> str:
    """Returns a value with the ends of its interval, if they differ; a dash if there is none."""
    if found is None:
        return "–"
    value, low, high = (number(found[key], digits) for key in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"
