"""How estimators, layers and sentences are written where there is little room or no trust."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, takewhile
from typing import NamedTuple

_CALL = re.compile(r"([\w.]+)\((.*)\)", re.DOTALL)
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""
# A name beyond this length is cut in its middle.
_LENGTH = 48
# How many estimators deep, each a setting of the one before, names look for a difference.
_DEPTH = 3


def printable(text: str) -> str:
    r"""The text with escapes for what is no visible character, as in ``repr``: ``\n``, ``\x1b``.

    A report may come from a file that somebody else wrote. Printed as they are, its control
    characters would move the cursor of a terminal or reverse the text behind them.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def shortened(text: str, length: int = _LENGTH) -> str:
    """The text without its middle if it is longer than this."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def fitted(names: Iterable[str], longest: int) -> list[str]:
    """Names of at most so many letters, as they are printed.

    If any is longer, they are written without the modules that all layers are in, and those that
    are still too long without their middle.
    """
    texts = [printable(name) for name in names]
    if any(len(text) > longest for text in texts):
        parts = [text.split(".") for text in texts]
        modules = zip(*(part[:-1] for part in parts if len(part) > 1), strict=False)
        shared = len(list(takewhile(lambda names: len(set(names)) == 1, modules)))
        short = [part if len(part) == 1 else part[shared:] for part in parts]
        texts = [shortened(".".join(part), longest) for part in short]
    return texts


def short_names(estimators: Iterable[str]) -> dict[str, str]:
    """A short name for each estimator: its class, and the settings in which its class differs.

    Arguments:
        estimators: The ``repr`` of each estimator, or the formula of an exact measure.

    Returns:
        A name for each different one, no two alike, in the order of first appearance.

    Example:
        >>> from infoprobe.reporting.names import short_names
        >>> list(short_names(["Histogram(bins=256)", "KNN(k=3, seed=0)"]).values())
        ['Histogram()', 'KNN()']
        >>> list(short_names(["KNN(k=3, seed=0)", "KNN(k=5, seed=0)"]).values())
        ['KNN(k=3)', 'KNN(k=5)']
    """
    names = _names(dict.fromkeys(estimators), _DEPTH)
    cut = [shortened(printable(name)) for name in names.values()]
    return dict(zip(names, different(cut), strict=True))


def different(names: Iterable[str]) -> list[str]:
    """The names with a number behind each that was there before: ``["a", "b", "a [2]"]``."""
    names = list(names)
    taken, times, result = set(names), Counter[str](), list[str]()
    for name in names:
        times[name] += 1
        own = name
        while times[name] > 1 and own in taken:
            own = f"{name} [{times[name]}]"
            times[name] += own in taken
        taken.add(own)
        result.append(own)
    return result


def _names(texts: Iterable[str], depth: int) -> dict[str, str]:
    parts = {text: _parts(text) for text in texts}
    classes: dict[str, list[dict[str, str]]] = {}
    for kind, settings, _ in parts.values():
        classes.setdefault(kind, []).append(settings)
    written = {kind: _differences(alike, depth) for kind, alike in classes.items()}
    return {
        text: f"{kind}({_listed(settings, written[kind])})" if is_call else kind
        for text, (kind, settings, is_call) in parts.items()
    }


def _differences(alike: list[dict[str, str]], depth: int) -> dict[str, dict[str, str]]:
    """For each setting in which estimators of one class differ, how its values are written."""
    written = {}
    for key in dict.fromkeys(chain(*alike)):
        if len({settings.get(key) for settings in alike}) > 1:
            values = dict.fromkeys(settings[key] for settings in alike if key in settings)
            written[key] = _names(values, depth - 1) if depth else {x: x for x in values}
    return written


def _listed(settings: dict[str, str], written: dict[str, dict[str, str]]) -> str:
    return ", ".join(f"{key}={written[key][x]}" for key, x in settings.items() if key in written)


class _Parts(NamedTuple):
    """A ``repr`` as class and settings; other text as it is, without settings."""

    kind: str
    settings: dict[str, str]
    is_call: bool


def _parts(text: str) -> _Parts:
    call = _CALL.fullmatch(text)
    pairs = [part.partition("=") for part in _split(call[2])] if call else []
    if call and all(key.isidentifier() and equals for key, equals, _ in pairs):
        return _Parts(call[1], {key: value for key, _, value in pairs}, is_call=True)
    return _Parts(text, {}, is_call=False)


def _split(text: str) -> Iterator[str]:
    """The parts between the commas that stand in no brackets and no quotes."""
    depth, start, quote, escaped = 0, 0, "", False
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote and not escaped else quote
            escaped = c == "\\" and not escaped
        elif c in _QUOTES:
            quote = c
        elif c == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
        else:
            depth += (c in _OPENING) - (c in _CLOSING)
    if text[start:].strip():
        yield text[start:].strip()
