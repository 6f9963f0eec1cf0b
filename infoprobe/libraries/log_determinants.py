"""The log-determinants that maps report, in one form."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError

# The code of the finding on a map that was given a condition.
CONDITIONAL = "conditional-map"

_GIVEN = (
    "The map was given a condition c, so this is h(output|c) - h(input|c), the change of the "
    f"entropy given c. Compare it with estimates for each value of c. [{CONDITIONAL}]"
)


class LogDeterminant(NamedTuple):
    """The log|det J| that an invertible layer reports of one call.

    Attributes:
        value: In nats, one number or one for each sample, in any form; ``None`` if the layer
            reports none.
        doubt: A sentence that says why the layer reports none, or why its value should not be
            believed; empty if all is well.
    """

    value: Any
    doubt: str = ""

    def given_condition(self) -> LogDeterminant:
        """The same of a map that was given a condition."""
        if self.value is None:
            return self
        return self._replace(doubt=f"{self.doubt} {_GIVEN}".lstrip())


def per_sample(reported: Any, x: Tensor) -> Tensor:
    """A log-determinant in any form as one number for each sample of ``x``: (n,) float64.

    It keeps its gradient.

    Raises:
        ValueError: It is neither one number nor one for each sample.
    """
    if isinstance(reported, (int, float)):  # sent to a device, it would make the host wait
        return torch.full((len(x),), float(reported), dtype=torch.float64, device=x.device)
    value = torch.as_tensor(reported, dtype=torch.float64, device=x.device)
    if value.numel() not in (1, len(x)):
        raise ArgumentValueError(
            "module",
            f"expected a log-determinant for each of {len(x):,} samples, got shape "
            f"{tuple(value.shape)}. Sum it over all but the first axis.",
        )
    return value.reshape(-1).expand(len(x))
