"""What stands in the way of trusting a critic."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from infoprobe.errors import ArgumentError
from infoprobe.estimators.ceilings import NEAR
from infoprobe.estimators.gaussian import Gaussian
from infoprobe.estimators.ranks import normal_scores
from infoprobe.findings import Finding

# From how many nats below another estimate on a value is worth a finding, beyond so much noise.
_NATS, _NOISE = 0.1, 4.0


def out_of_reach(value: float, held_out: int) -> Iterator[Finding]:
    """A finding if a divergence is beyond what the held-out samples of q can confirm."""
    most = math.log(held_out)
    if value >= NEAR * most:
        yield Finding(
            "warning",
            f"the divergence is {value:.2f} nats, but {held_out:,} held-out samples can confirm "
            f"no more than {most:.2f}",
            value / most,
            "Take it for a sign that there is much, or compare fewer features.",
            "p, q",
            code="near-ceiling",
        )


def below_gaussians(x: Tensor, y: Tensor, value: float) -> Iterator[Finding]:
    """A finding if the linear dependence of normal scores alone is more information."""
    n, d = len(x), x.shape[1] + y.shape[1]
    if n < 2 * d or len(y) != n:
        return
    try:
        linear = float(Gaussian().mutual_information(*(normal_scores(v.double()) for v in (x, y))))
    except ArgumentError:
        return  # Features are constant or redundant.
    if value < linear - _NATS - _NOISE * math.sqrt(d / n):
        yield Finding(
            "warning",
            f"the critic has missed much: linear dependence alone makes {linear:.2f} nats",
            linear,
            "Pass more samples, or use ip.KNN(calibration='copula').",
            "x, y",
            code="below-bound",
        )
