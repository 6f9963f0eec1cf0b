"""What maps report of their log-determinants, in one form."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError


class LogDeterminant(NamedTuple):
    """What a map that ought to be invertible reports of its log|det J|.

    Attributes:
        value: Numbers in any form; ``None`` if it reports nothing.
        doubt: Why it reports nothing, or why not to believe it; empty if all is well.
    """

    value: Any
    doubt: str = ""


def per_sample(claimed: Any, x: Tensor) -> Tensor:
    """A log-determinant in any form as one number for each sample of ``x``: (n,) float64.

    Raises:
        ValueError: It is neither one number nor one for each sample.
    """
    value = torch.as_tensor(claimed, dtype=torch.float64, device=x.device).detach()
    if value.numel() not in (1, len(x)):
        raise ArgumentValueError(
            "module",
            f"expected a log-determinant for each of {len(x):,} samples, got shape "
            f"{tuple(value.shape)}. Sum it over all but the first axis.",
        )
    return value.reshape(-1).expand(len(x))
