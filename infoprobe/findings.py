"""Something to know before trusting an estimate."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """Something to know before trusting an estimate.

    ``str(finding)`` is the whole of it in sentences: the argument, what was found, the remedy.

    Attributes:
        severity: ``"error"`` where the estimate is impossible or meaningless, ``"warning"``
            where it may be far off.
        what: What was found and what it means for the number, a sentence without its full stop.
        figure: The figure in that sentence, as a number.
        remedy: What to do about it, in sentences.
        argument: The name of the argument that the finding is about, such as ``"x"`` or
            ``"p, q"``; empty where it is about none in particular.
    """

    severity: Literal["error", "warning"]
    what: str
    figure: float
    remedy: str
    argument: str = ""

    def __str__(self) -> str:
        about = f"{self.argument}: " if self.argument else ""
        return f"{about}{self.what}. {self.remedy}"
