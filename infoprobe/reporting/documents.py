"""Reports as JSON documents, of which every field is checked."""

from __future__ import annotations

import csv
import io
import json
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from infoprobe.errors import ArgumentValueError
from infoprobe.rows import Row

_FORMAT = "infoprobe report"
_VERSION = 2
# Standard JSON has no such numbers; they are written as strings where a number may be one.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MAY_BE_INFINITE = ("value", "stderr")
_NOT_NEGATIVE = ("call", "order", "step", "stderr", "n", "d")
# Integers of data frames and figures have 64 bits.
_MOST = 2**63 - 1
_SHOWN = 60


def dumped(rows: list[Row], settings: Mapping[str, str], name: str) -> bytes:
    """The document of a report.

    Arguments:
        rows: The rows of the report.
        settings: What the report was made with.
        name: What the caller calls the report, for error messages.

    Raises:
        ValueError: A row or a setting is not one of a report; the message says where.
    """
    checked = [_row(row, f"{name}.rows[{i}]") for i, row in enumerate(rows)]
    encoded = [{key: _encoded(x) for key, x in row.items()} for row in checked]
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "settings": _settings(settings, f"{name}.settings"),
        "rows": encoded,
    }
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    # A lone surrogate, which no UTF-8 holds, becomes the escape that JSON has for it.
    return (text + "\n").encode("utf-8", "backslashreplace")


def separated(rows: list[Row]) -> bytes:
    """The rows as comma-separated values (RFC 4180), with a head line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(get_type_hints(Row)), lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "findings": "\n".join(row["findings"])})
    return text.getvalue().encode("utf-8", "backslashreplace")


def loaded(data: bytes, name: str) -> tuple[list[Row], dict[str, str]]:
    """The rows and the settings of a report from its document.

    Arguments:
        data: The document.
        name: What the caller calls the document, for error messages.

    Raises:
        ValueError: It is no document of a report, or of another version, or one of its rows or
            settings is not one of a report; the message says which.
    """
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_refused, parse_float=_float)
        form, version, rows = (document[key] for key in ("format", "version", "rows"))
        if form != _FORMAT or not isinstance(rows, list):
            raise ValueError("it has another form")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArgumentValueError(
            name, f"expected a file made by Report.save() ({_short(str(error))})."
        ) from error
    if type(version) is not int or version != _VERSION:
        raise ArgumentValueError(
            name,
            f"expected a report of version {_VERSION}, got {_FORMAT!r} of version "
            f"{_short(version)}. Update infoprobe, or measure again.",
        )
    settings = _settings(document.get("settings"), f"{name}: settings")
    return [_row(_decoded(row), f"{name}: rows[{i}]") for i, row in enumerate(rows)], settings


def _settings(settings: object, name: str) -> dict[str, str]:
    if not isinstance(settings, Mapping) or not all(
        isinstance(text, str) for pair in settings.items() for text in pair
    ):
        raise ArgumentValueError(name, f"expected a dictionary of texts, got {_short(settings)}.")
    return dict(settings)


def _refused(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"it holds {_short(text)}, which is too large for a number")
    return value


def _encoded(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decoded(row: object) -> object:
    if not isinstance(row, dict):
        return row
    numbers = {
        key: _NOT_FINITE[x]
        for key in _MAY_BE_INFINITE
        if isinstance(x := row.get(key), str) and x in _NOT_FINITE
    }
    return row | numbers


def _row(row: object, name: str) -> Row:
    """``row`` if it has the keys of :class:`Row`, with values of their types and ranges."""
    if not isinstance(row, Mapping):
        raise ArgumentValueError(name, f"expected the columns of a row, got {_short(row)}.")
    hints = get_type_hints(Row)
    if differing := sorted(map(str, hints.keys() ^ row.keys())):
        raise ArgumentValueError(
            name,
            f"expected the columns {', '.join(hints)}; they differ in {_short(differing)}. "
            "Measure again with this version of infoprobe.",
        )
    return cast(
        "Row",
        {key: _field(row[key], key, hint, f"{name}[{key!r}]") for key, hint in hints.items()},
    )


def _field(value: Any, key: str, hint: Any, name: str) -> object:
    if not _is_a(value, hint):
        raise ArgumentValueError(name, f"expected {_described(hint)}, got {_short(value)}.")
    if isinstance(value, list):
        return list(value)
    if value is None or isinstance(value, str):
        return value
    if key in _NOT_NEGATIVE and value < 0:
        raise ArgumentValueError(name, f"expected a number of at least 0, got {_short(value)}.")
    if _is_a(1.0, hint):
        if isinstance(value, int) and abs(value) > _MOST:
            raise ArgumentValueError(name, f"expected a number below 2**63, got {_short(value)}.")
        if not math.isfinite(value) and key not in _MAY_BE_INFINITE:
            raise ArgumentValueError(name, f"expected a finite number, got {_short(value)}.")
        return float(value)
    if value > _MOST:
        raise ArgumentValueError(name, f"expected an integer below 2**63, got {_short(value)}.")
    return value


def _is_a(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is_a(value, argument) for argument in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is list:
        return isinstance(value, list) and all(_is_a(x, arguments[0]) for x in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and not isinstance(value, bool)


def _described(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_described, get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is list:
        return "a list of texts"
    names = {float: "a number", int: "an integer", str: "a text", type(None): "null"}
    return names[hint]


def _short(value: object) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of many digits, or a list within itself
        text = f"one of type {type(value).__name__}"
    return ascii(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
