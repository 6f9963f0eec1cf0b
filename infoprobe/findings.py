"""Something to know before trusting an estimate."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """Something to know before trusting an estimate.

    Attributes:
        severity: ``"error"`` where the estimate is impossible or meaningless, ``"warning"``
            where it may be far off.
        what: What was found, with the figure in words.
        figure: The figure itself.
        remedy: What to do about it.
    """

    severity: Literal["error", "warning"]
    what: str
    figure: float
    remedy: str
