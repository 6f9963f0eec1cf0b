"""The rows of a report in another unit of information."""

from __future__ import annotations

from infoprobe.rows import Row
from infoprobe.units import NATS_IN


def in_unit(rows: list[Row], unit: str) -> list[Row]:
    """The rows with their values and errors in this unit; shares and other numbers as they are.

    Arguments:
        rows: The rows of a report.
        unit: The name of the unit, such as ``"bits"``.
    """
    return [_converted(row, unit) for row in rows]


def _converted(row: Row, unit: str) -> Row:
    if row["unit"] == unit or row["unit"] not in NATS_IN:
        return row
    nats, per_unit = NATS_IN[row["unit"]], NATS_IN[unit]
    value, stderr = (
        None if x is None else x * nats / per_unit for x in (row["value"], row["stderr"])
    )
    return {**row, "value": value, "stderr": stderr, "unit": unit}
