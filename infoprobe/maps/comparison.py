"""How the log-determinants that a map reports are compared with each other and with autograd's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infoprobe.maps.passage import Passage

# Reported log-determinants may be off by this many nats, besides what rounding explains.
TOLERANCE = 1e-3

_REPETITIONS = 8


def differences(a: Tensor, b: Tensor) -> Tensor:
    """Absolute differences; equal infinities differ by 0."""
    return torch.where(a == b, 0.0, (a - b).abs()).nan_to_num(math.inf, math.inf)


def spread_of_repetitions(passage: Passage) -> float:
    """The largest standard deviation in nats of a sample's log-determinants in repeated runs.

    0 unless they are random: threads may add up the same numbers in another order.
    """
    runs = (passage.run()[1] for _ in range(_REPETITIONS))
    repeated = torch.stack([reported for reported in runs if reported is not None])
    spread = float(repeated.std(0).max())
    return spread if spread > TOLERANCE / 10 else 0.0
