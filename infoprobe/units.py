"""What information is measured in: everything is computed in nats, and converted at the end."""

from __future__ import annotations

import math

from infoprobe import checks
from infoprobe.errors import ArgumentValueError

NATS_IN = {"nats": 1.0, "bits": math.log(2), "hartleys": math.log(10)}
"""How many nats one of a unit is."""

_UNIT_OF = {math.e: "nats", 2: "bits", 10: "hartleys"}


def nats_per_unit(base: object) -> float:
    """How many nats the unit is that belongs to the base of a logarithm.

    Raises:
        TypeError: The base is no number.
        ValueError: It is not positive, or it is 1.
    """
    number = checks.require_real(base, -math.inf, "base")
    if number <= 0 or number == 1:
        raise ArgumentValueError(
            "base",
            f"expected a positive number other than 1, got {number!r}. "
            "Use math.e for nats or 2 for bits.",
        )
    return 1.0 if number == math.e else math.log(number)


def unit_of(base: object) -> str:
    """The name of the unit that belongs to the base of a logarithm.

    Raises:
        TypeError: The base is no number.
        ValueError: Its unit has no name.
    """
    checks.require_real(base, -math.inf, "base")
    for known, unit in _UNIT_OF.items():
        if base == known:
            return unit
    raise ArgumentValueError(
        "base",
        f"expected math.e for nats, 2 for bits or 10 for hartleys, got {checks.shown(base)}. "
        "Divide the values by the logarithm of another base yourself.",
    )
