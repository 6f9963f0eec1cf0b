"""Units that are constant, which carry no information."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor

from infoprobe.estimators.moments import GroupedMoments
from infoprobe.findings import Finding

T = TypeVar("T", Tensor, GroupedMoments)


def constant_units(x: Tensor | GroupedMoments) -> Tensor:
    """Which units of samples (n, ...), or of their moments, have one value: (d,), bool."""
    if isinstance(x, GroupedMoments):
        return x.total.constant
    units = x.flatten(1)
    constant: Tensor = (units == units[:1]).all(0)
    return constant


def findings_on_constant_units(x: Tensor | GroupedMoments, name: str) -> Iterator[Finding]:
    """That some units are constant, unless all are."""
    if isinstance(x, GroupedMoments) or x.dim() > 1:
        constant = constant_units(x)
        n, d = int(constant.sum()), len(constant)
        if 0 < n < d:
            yield Finding(
                "warning",
                f"{n:,} of {d:,} units are constant and were left out, which does not change the "
                "information",
                n / d,
                "Nothing needs to be done.",
                name,
                code="constant-units",
            )


def varying(x: T) -> T:
    """The samples, or their moments, without units that are constant, unless all are."""
    if isinstance(x, Tensor) and x.dim() < 2:
        return x
    constant = constant_units(x)
    if not bool(constant.any()) or bool(constant.all()):
        return x
    if isinstance(x, GroupedMoments):
        return x.of_units(~constant)
    return x.flatten(1)[:, ~constant]
