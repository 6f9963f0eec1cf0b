"""Functions of the user's, and what tells one from another in every process."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infoprobe import checks
from infoprobe.estimators.configuration import configuration


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
            return {"function": self.function.__qualname__, "code": self._digest()}
        return configuration(self.function)

    def _digest(self) -> str:
        assert isinstance(self.function, types.FunctionType)
        cells = [cell.cell_contents for cell in self.function.__closure__ or ()]
        known = _code(self.function.__code__), cells, self.function.__defaults__
        return hashlib.sha256(repr(known).encode()).hexdigest()[:8]

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", None)
        if name == "<lambda>":
            return f"lambda {self._digest()[:4]}"
        return str(name) if name else checks.shown(self.function)


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """What a function does, without where it stands."""
    inner = [_code(x) if isinstance(x, types.CodeType) else x for x in code.co_consts]
    return code.co_code, code.co_names, inner
