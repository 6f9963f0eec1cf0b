"""Whether the log-determinants that a layer reports are to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from infoprobe.directions import Direction
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.libraries.lookup import (
    changing_parts,
    known_wrong,
    library_of,
    stochastic_parts,
)


@dataclass(frozen=True)
class Doubts:
    """Why the log-determinants of a layer should not be believed, found once for all its calls.

    Attributes:
        wrong: For each direction, what is known to be wrong about them.
        stochastic: The classes in the layer whose log-determinants are random estimates.
        changing: The modules in the layer whose parameters decide whether theirs are right.
    """

    wrong: dict[Direction, list[str]]
    stochastic: list[str]
    changing: list[nn.Module]

    @classmethod
    def of(cls, module: nn.Module) -> Doubts:
        """What the adapters know of a module and of all inside it."""
        wrong: dict[Direction, list[str]] = {
            "forward": known_wrong(module, rev=False),
            "inverse": known_wrong(module, rev=True),
        }
        return cls(wrong, stochastic_parts(module), changing_parts(module))

    def reported(
        self,
        module: nn.Module,
        direction: Direction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
    ) -> LogDeterminant:
        """What a layer reports of one call, with the doubt that there is about it."""
        library = library_of(module)
        found = self._judged(library.reported(module, direction, args, kwargs, output), direction)
        conditional = library.is_conditional(module, args, kwargs)
        return found.given_condition() if conditional else found

    def _judged(self, reported: LogDeterminant, direction: Direction) -> LogDeterminant:
        if reported.doubt:
            return reported
        now = {library_of(part).wrong_now(part) for part in self.changing}
        wrong = [*self.wrong[direction], *sorted(now - {""})]
        if wrong:
            return LogDeterminant(
                None, f"{' and '.join(wrong)}. ip.entropy_change takes it from autograd instead."
            )
        if self.stochastic:
            names = " and ".join(self.stochastic)
            return reported._replace(doubt=f"a stochastic estimate ({names}), not exact.")
        return reported
