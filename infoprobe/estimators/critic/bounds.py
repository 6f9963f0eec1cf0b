"""The bounds that a critic is trained by, chosen by and valued by, in terms of its scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


@dataclass(frozen=True)
class Bound:
    """A bound in terms of scores of samples of the joint distribution and of the product.

    Attributes:
        rows: From the scores (r, k) of the product, one number for each row.
        value: From the scores (m,) of the joint distribution and those numbers, the bound.
        own: Whether a row of scores includes the sample's own partner.
    """

    rows: Callable[[Tensor], Tensor]
    value: Callable[[Tensor, Tensor], Tensor]
    own: bool = False


def _log_mean_exp(scores: Tensor) -> Tensor:
    return scores.logsumexp(-1) - math.log(scores.shape[-1])


def _donsker_varadhan(joint: Tensor, rows: Tensor) -> Tensor:
    return joint.mean() - _log_mean_exp(rows)


_softplus = nn.functional.softplus

BOUNDS = {
    "infonce": Bound(_log_mean_exp, lambda joint, rows: (joint - rows).mean(), own=True),
    "dv": Bound(_log_mean_exp, _donsker_varadhan),
    "nwj": Bound(_log_mean_exp, lambda joint, rows: 1 + joint.mean() - _log_mean_exp(rows).exp()),
}

JENSEN_SHANNON = Bound(
    lambda scores: _softplus(scores).mean(-1),
    lambda joint, rows: -_softplus(-joint).mean() - rows.mean(),
)


def smile(clip: float) -> Bound:
    """The bound of Song & Ermon (2020), with scores of the product clipped at ±``clip``."""
    return Bound(lambda scores: _log_mean_exp(scores.clamp(-clip, clip)), _donsker_varadhan)


class Roles(NamedTuple):
    """The bounds that one estimate takes.

    Attributes:
        objective: What the critic is trained by.
        criterion: What its weights are chosen by.
        value: What is reported.
    """

    objective: Bound
    criterion: Bound
    value: Bound


def roles_of(bound: str, clip: float) -> Roles:
    """The bounds that an estimate of the bound of this name takes."""
    if bound == "smile":
        # It is no bound, so that the weights with the greatest value need not be the best.
        return Roles(JENSEN_SHANNON, JENSEN_SHANNON, smile(clip))
    if bound == "jsd":
        return Roles(JENSEN_SHANNON, BOUNDS["nwj"], BOUNDS["nwj"])
    if bound == "dv":
        return Roles(BOUNDS["nwj"], BOUNDS["nwj"], BOUNDS["dv"])
    return Roles(BOUNDS[bound], BOUNDS[bound], BOUNDS[bound])
