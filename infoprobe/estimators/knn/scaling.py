"""The spread of each feature, by which distances do not depend on units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The spread is that of this share of the values, so that the rest may lie as far out as it likes.
_CENTRAL = 0.9


def spreads(x: Tensor) -> Tensor:
    r"""The mean distance of each feature's values from their median, (d,) float64, differentiable.

    The tenth of the values that lie farthest out is left aside. A distance between samples whose
    features are divided by their spreads does not change when a feature is scaled or shifted.
    With n = 3,000 and k = 3, the entropy of three normal features with standard deviations of 1,
    10 and 100 is missed by +0.17 nats without this division and by -0.03 with it, and that of ten
    with deviations from 1 to 1,000 by +10.3 and +0.05. Standard deviations do as well unless
    tails are heavy: with a Cauchy and two normal features, they miss +0.23 nats in place of -0.03.
    """
    columns = x.double().T.contiguous()
    n = columns.shape[1]
    middle = [torch.kthvalue(columns, 1 + i, dim=1).values for i in ((n - 1) // 2, n // 2)]
    center = torch.stack(middle).mean(0)
    deviations = (columns - center.unsqueeze(1)).abs()
    limit = torch.kthvalue(deviations.detach(), math.ceil(_CENTRAL * n), dim=1).values
    central = (deviations <= limit.unsqueeze(1)).double()
    trimmed = (deviations * central).sum(1) / central.sum(1)
    # Where nine tenths of the values are equal, the others must do.
    spread: Tensor = torch.where(trimmed > 0, trimmed, deviations.mean(1))
    return spread
