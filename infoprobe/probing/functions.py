"""Functions of the user's, and what tells one from another in every process."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.configuration import configuration
from infoprobe.probing.lambdas import does, text_of

# The most letters of a lambda that tables and figures show.
_LONGEST = 40


@dataclass(frozen=True)
class OwnFunction:
    """A function that the user has written, as a setting of a measure.

    Attributes:
        function: The function.
    """

    function: Callable[[Any], Any]

    def configuration(self) -> Any:
        """The name of the function and what it does, the same in every process."""
        if isinstance(self.function, types.FunctionType):
            return {"function": self.function.__qualname__, "code": _digest(self.function)}
        return configuration(self.function)

    def __repr__(self) -> str:
        """Its name, or the text of a lambda."""
        name = getattr(self.function, "__name__", None)
        if name == "<lambda>" and isinstance(self.function, types.FunctionType):
            return _shown(self.function)
        return str(name) if name else checks.shown(self.function)


def _shown(function: types.FunctionType) -> str:
    """The text of a lambda, with a checksum where the text does not tell it from all others."""
    text, tells_all = text_of(function) or ("lambda", False)
    if tells_all and len(text) <= _LONGEST:
        return text
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f"{short} {_digest(function)[:4]}"


def _digest(function: types.FunctionType) -> str:
    cells = [_told(cell.cell_contents) for cell in function.__closure__ or ()]
    defaults = [_told(value) for value in function.__defaults__ or ()]
    named = {name: _told(value) for name, value in (function.__kwdefaults__ or {}).items()}
    known = does(function.__code__), cells, defaults, named
    return hashlib.sha256(repr(known).encode()).hexdigest()[:8]


def _told(value: object) -> Any:
    """What identifies a value that a function was given; the text of a tensor leaves out some."""
    return configuration(value) if isinstance(value, Tensor | np.ndarray) else value
