"""What came of each sequence or position: a number, or the reason why there is none."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import torch
from torch import Tensor

# About how many float64 numbers are worked on at once.
_BLOCK: Final = 1 << 22


class Outcome(IntEnum):
    """What came of one sequence."""

    USED = 0
    FEW = 1
    """It has too few tokens."""
    EMPTY = 2
    """Its tokens, or all their differences, are zero."""
    NOT_FINITE = 3
    """It holds NaN or infinite values."""
    IMPROPER = 4
    """Its weights are no distribution."""


class Outcomes(NamedTuple):
    """What came of some sequences.

    Attributes:
        values: The number of each sequence, (n,), float64; 0 where there is none.
        kinds: Which :class:`Outcome` each has, (n,), int64.
    """

    values: Tensor
    kinds: Tensor

    @classmethod
    def of(
        cls,
        values: Tensor,
        *,
        few: Tensor | None = None,
        empty: Tensor | None = None,
        improper: Tensor | None = None,
        not_finite: Tensor | None = None,
    ) -> Outcomes:
        """The numbers, without those that are not finite or for which one of the reasons holds."""
        kinds = torch.where(values.isfinite(), int(Outcome.USED), int(Outcome.NOT_FINITE))
        for outcome, holds in (
            (Outcome.EMPTY, empty),
            (Outcome.IMPROPER, improper),
            (Outcome.NOT_FINITE, not_finite),
            (Outcome.FEW, few),
        ):
            if holds is not None:
                kinds = torch.where(holds, int(outcome), kinds)
        return cls(torch.where(kinds == Outcome.USED, values, 0.0), kinds)


def lengths_of(x: Tensor, mask: Tensor | None) -> Tensor:
    """How many tokens the sequences (n, t, d) have under a mask (n, t): (n,), int64."""
    n, t, _ = x.shape
    if mask is None:
        return torch.full((n,), t, dtype=torch.int64, device=x.device)
    lengths: Tensor = mask.sum(1)
    return lengths


def sequences_at_once(x: Tensor) -> int:
    """How many of the sequences (n, t, d) to work on at once."""
    return max(1, _BLOCK // max(1, x.shape[1] * x.shape[2]))
