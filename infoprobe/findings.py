"""Something to know before trusting an estimate."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

# The end of a finding in sentences.
_CODE = re.compile(r" \[([a-z]+(?:-[a-z]+)*)\]$")


class Finding(NamedTuple):
    """Something to know before trusting an estimate.

    ``str(finding)`` is the whole of it in sentences: the argument, what was found, the remedy,
    and the code in brackets, as in ``"... The remedy. [near-ceiling]"``.

    Attributes:
        severity: ``"error"`` where the estimate is impossible or meaningless, ``"warning"``
            where it may be far off.
        what: What was found and what it means for the number, a sentence without its full stop.
        figure: The figure in that sentence, as a number.
        remedy: What to do about it, in sentences.
        argument: The name of the argument that the finding is about, such as ``"x"`` or
            ``"p, q"``; empty where it is about none in particular.
        code: What kind of finding it is, in lower-case words joined by hyphens, the same in every
            version. ``docs/trust.md`` lists the codes of infoprobe's own estimators. Empty where
            an estimator of somebody else gives none.
    """

    severity: Literal["error", "warning"]
    what: str
    figure: float
    remedy: str
    argument: str = ""
    code: str = ""

    def __str__(self) -> str:
        about = f"{self.argument}: " if self.argument else ""
        code = f" [{self.code}]" if self.code else ""
        return f"{about}{self.what}. {self.remedy}{code}"


class TrustWarning(UserWarning):
    """A plain function such as :func:`infoprobe.entropy` knows that its number is bad."""


def code_of(sentences: str) -> str:
    """The code of a finding that was written as sentences; empty where there is none.

    Example:
        >>> from infoprobe.findings import code_of
        >>> code_of("x: 3 of 5 features are constant. Drop them. [constant-features]")
        'constant-features'
    """
    found = _CODE.search(sentences)
    return found[1] if found else ""
