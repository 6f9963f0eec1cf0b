"""Whether the log-determinants that a layer reports are to be believed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from infoprobe.directions import Direction
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.libraries.lookup import known_wrong, stochastic_parts


@dataclass(frozen=True)
class Doubts:
    """Why the log-determinants of a layer should not be believed, found once for all its calls.

    Attributes:
        wrong: For each direction, what is known to be wrong about them.
        stochastic: The classes in the layer whose log-determinants are random estimates.
    """

    wrong: dict[Direction, list[str]]
    stochastic: list[str]

    @classmethod
    def of(cls, module: nn.Module) -> Doubts:
        """What the adapters know of a module and of all inside it."""
        wrong: dict[Direction, list[str]] = {
            "forward": known_wrong(module, rev=False),
            "inverse": known_wrong(module, rev=True),
        }
        return cls(wrong, stochastic_parts(module))

    def judge(self, reported: LogDeterminant, direction: Direction) -> LogDeterminant:
        """What a layer reports of one call, with the doubt that there is about it."""
        if reported.doubt:
            return reported
        wrong = self.wrong[direction]
        if wrong:
            return LogDeterminant(
                None, f"{' and '.join(wrong)}. ip.entropy_change takes it from autograd instead."
            )
        if self.stochastic:
            names = " and ".join(self.stochastic)
            return reported._replace(doubt=f"a stochastic estimate ({names}), not exact.")
        return reported
