r"""Standard errors: how far an estimate would move with other samples.

An estimate that is a function of counts is computed again without the samples of one group after
the other (the delete-a-group jackknife). The groups hold whole samples, for the values within a
sample depend on each other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.findings import Finding

# From how many nats on a bias is worth a finding, and how many standard errors an interval of 95 %
# reaches to each side.
_BIAS = 0.1
_INTERVAL = 1.96

# Into how many groups samples are divided.
GROUPS = 32


class Uncertainty(NamedTuple):
    """How far an estimate may be off, 0-dim float64 tensors in nats.

    Attributes:
        noise: The standard deviation of estimates from fresh samples.
        bias: By how much such estimates are too large on average, as far as the groups tell.
    """

    noise: Tensor
    bias: Tensor

    @property
    def stderr(self) -> Tensor:
        """The root of the mean squared error."""
        return torch.hypot(self.noise, self.bias)


def jackknife(value: Tensor, without: Tensor, shares: Tensor) -> Uncertainty | None:
    r"""The delete-a-group jackknife for groups of unequal size (Busing et al., 1999).

    With the share :math:`w_j` of group j in all samples and the estimate :math:`\theta_{(j)}`
    without it,

    .. math::
        \mathrm{bias} = \sum_j (1 - w_j)(\theta_{(j)} - \theta), \qquad
        \mathrm{noise}^2 = \frac1G \sum_j \frac{w_j}{1 - w_j}
        \left(\frac{\theta_{(j)} - \theta}{w_j}(1 - w_j) - \mathrm{bias}\right)^2.

    Arguments:
        value: The estimate from all samples, 0-dim.
        without: The estimate without each of the groups, (groups,).
        shares: The share of each group in the samples, (groups,): they add up to 1.

    Returns:
        The error; ``None`` where fewer than two groups have samples, or an estimate is not finite.

    References:
        F. Busing, E. Meijer & R. van der Leeden (1999). Delete-m jackknife for unequal m.
        Statistics and Computing 9, 3-8.
    """
    there = shares > 0
    change, share = (without - value)[there], shares[there]
    if len(share) < 2 or not bool(change.isfinite().all()):
        return None
    bias = ((1 - share) * change).sum()
    pseudo = (1 - share) / share * change
    variance = (share / (1 - share) * (pseudo - bias).square()).mean()
    return Uncertainty(variance.sqrt(), bias)


def bias_findings(error: Uncertainty, remedy: str) -> list[Finding]:
    """A finding if the bias is beyond the interval that noise alone would give."""
    noise, bias = float(error.noise), float(error.bias)
    if abs(bias) < max(_BIAS, _INTERVAL * noise):
        return []
    what = (
        f"the estimate is too {'high' if bias > 0 else 'low'} by about {abs(bias):.2g} nats, "
        "which is more than its random error"
    )
    return [Finding("warning", what, bias, remedy, code="bias-beyond-error")]


def random_groups(n: int, groups: int = GROUPS) -> Tensor:
    """A group for each of n samples, from 0: at random, always the same, of nearly equal sizes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(n, generator=generator, device="cpu") % groups
