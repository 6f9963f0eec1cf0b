"""The spread of each feature, by which distances do not depend on units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.devices import ascending


def spreads(x: Tensor) -> Tensor:
    r"""The spread of each feature of samples (n, d): (d,) float64, differentiable.

    .. math:: s = \exp \Big\langle \ln (x_{(i + m)} - x_{(i)}) \Big\rangle, \quad
        m = \lfloor\sqrt n\rfloor

    where :math:`x_{(i)}` are the values in ascending order, and the mean is over those that
    differ. Up to a factor, this is the exponential of the feature's entropy: neither outliers nor
    the distance between clusters count for more than their share. A constant feature has 0.

    A distance between samples whose features are divided by their spreads does not change when a
    feature is scaled or shifted. Errors of the entropy with k = 3 and n = 3,000, in nats, for
    features as they are, over their standard deviations, and over their spreads:

    ======================================  ======  ==========  =======
    features                                as is   deviations  spreads
    ======================================  ======  ==========  =======
    3 normal, deviations 1, 10 and 100      +0.17   -0.03       -0.03
    10 normal, deviations from 1 to 1,000   +10.34  +0.05       +0.05
    Cauchy and 2 normal                     -0.03   +0.23       -0.05
    2 clusters, 20 apart, and 2 normal      -0.03   +0.01       -0.04
    uniform, exponential and normal         +0.12   +0.07       +0.07
    banana, d = 20                          +4.50   +3.79       +3.85
    4 clusters at random places, d = 20     +1.29   +2.02       +1.68
    ======================================  ======  ==========  =======
    """
    line = ascending(x, 0).double()
    step = math.isqrt(len(x))
    widths = line[step:] - line[:-step]
    apart = widths > 0
    logs = torch.where(apart, widths, 1.0).log().sum(0) / apart.sum(0).clamp(min=1)
    spread: Tensor = torch.where(apart.any(0), logs.exp(), 0.0)
    return spread


def spreads_within(x: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """The geometric mean of the spreads of features within groups of samples, (d,) float64.

    A feature that is constant within each group tells them apart: its unit is the n-th part of
    its spread among all samples, or 1 if it has none.
    """
    each = torch.stack([spreads(x[members]) for members in groups])
    sizes = torch.tensor([len(members) for members in groups], device=x.device).unsqueeze(1)
    shares = sizes * (each > 0)
    logs = (torch.where(each > 0, each, 1.0).log() * shares).sum(0) / shares.sum(0).clamp(min=1)
    whole = spreads(x)
    return torch.where(shares.any(0), logs.exp(), torch.where(whole > 0, whole / len(x), 1.0))
