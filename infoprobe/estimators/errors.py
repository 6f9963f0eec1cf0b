r"""Standard errors: how far an estimate would move with other samples.

An estimate that is a function of counts is computed again without the samples of one group after
the other (the delete-a-group jackknife). The groups hold whole samples, for the values within a
sample depend on each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.findings import Finding
from infoprobe.progress import progress_bar

# From how many nats on a bias is worth a finding, and how many standard errors an interval of 95 %
# reaches to each side.
_BIAS = 0.1
_INTERVAL = 1.96

# Into how many groups samples are divided, and about how many estimates from parts there are.
GROUPS = 32
_ESTIMATES = 16
# As many samples are shuffled as a whole; more of them in parts, since the memory is not near.
_SHUFFLED, _PART = 1 << 16, 1 << 13


class Uncertainty(NamedTuple):
    """How far an estimate may be off, 0-dim float64 tensors in nats.

    Attributes:
        noise: The standard deviation of estimates from fresh samples.
        bias: By how much such estimates are too large on average, as far as the groups tell.
        degrees: The degrees of freedom with which the noise is known.
    """

    noise: Tensor
    bias: Tensor
    degrees: float

    @property
    def stderr(self) -> Tensor:
        """The root of the mean squared error, with :func:`widened` noise."""
        return torch.hypot(widened(self.noise, self.degrees), self.bias)


def widened(noise: Tensor, degrees: float) -> Tensor:
    """A standard deviation that is known with few degrees of freedom, such that 1.96 of it cover.

    It is multiplied by Student's quantile over the normal one: by 1.04 for 31 degrees of freedom,
    and by 1.18 for 8.
    """
    from scipy.special import stdtrit  # takes a while, and not everybody needs it

    return noise * float(stdtrit(degrees, 0.975) / _INTERVAL)


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
    return Uncertainty(variance.sqrt(), bias, float(1 / share.square().sum()) - 1)


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
    if n <= _SHUFFLED:
        return torch.randperm(n, generator=generator, device="cpu") % groups
    # Many samples are dealt out part by part: a shuffled one, shifted at random each time.
    part = torch.randperm(_PART, generator=generator, device="cpu")
    shifts = torch.arange(groups, device="cpu").unsqueeze(1)
    parts = -(-n // _PART)
    drawn = torch.randint(groups, (parts,), generator=generator, device="cpu")
    return ((part + shifts) % groups)[drawn].view(-1)[:n]


def noise_of_parts(
    measure: Callable[..., Tensor],
    samples: Sequence[Any],
    orders: Sequence[bool],
    least: int,
    *,
    halves: bool,
) -> Tensor | None:
    r"""The standard deviation of estimates from fresh samples, by estimates from parts of them.

    The samples are divided at random into m parts of equal size, again and again. An estimate
    from all of them varies as the mean of m independent estimates from parts does, if its
    variance falls like :math:`1 / n`: neighbours may depend on each other.

    Arguments:
        measure: What estimates, from the number of the part and then its samples: what is drawn
            for an estimate should be drawn anew for each.
        samples: Its arguments, samples along the first axis: tensors, or what has a length, a
            device and parts as they do.
        orders: Whether each is divided by itself, and not as the one before.
        least: The least samples in a part. There are up to 32 parts, or else the samples are
            divided several times.
        halves: Whether there are two parts, always: for estimates that rest on counts of
            neighbours.

    Returns:
        The deviation, :func:`widened`, 0-dim float64; ``None`` where there are no two parts, or
        an estimate from one is refused, or is not finite, for it has too few samples.
    """
    n = min(map(len, samples))
    parts = min(2 if halves else GROUPS, n // least)
    if parts < 2:
        return None
    repeats = max(1, _ESTIMATES // parts)
    generator = torch.Generator().manual_seed(0)
    variances, number = [], itertools.count(1)
    with torch.no_grad(), progress_bar(repeats * parts, "error", unit="estimate") as bar:
        for _ in range(repeats):
            divided, order = [], None
            for x, own in zip(samples, orders, strict=True):
                if order is None or own:
                    order = torch.randperm(len(x), generator=generator, device="cpu")
                divided.append([x[rows.to(x.device)] for rows in torch.tensor_split(order, parts)])
            found = []
            for part in zip(*divided, strict=True):
                try:
                    found.append(measure(next(number), *part))
                except ArgumentValueError:
                    return None
                bar.update()
            variances.append(torch.stack(found).double().var() / parts)
    noise = widened(torch.stack(variances).mean().sqrt(), repeats * (parts - 1))
    return noise if bool(noise.isfinite()) else None


def stderr_without_groups(
    measure: Callable[..., Tensor], value: Tensor, samples: Sequence[Tensor], groups: int
) -> Tensor | None:
    """The standard error of an estimate, by :func:`jackknife` and without its bias.

    Arguments:
        measure: What estimates.
        value: Its estimate from all samples.
        samples: Its arguments, samples along the first axis.
        groups: The number of groups.

    Returns:
        The error, :func:`widened`; ``None`` where there are too few samples to do without some.
    """
    labels = [random_groups(len(x), groups) for x in samples]
    shares = torch.stack([each.bincount(minlength=groups) / len(each) for each in labels])
    without = []
    with torch.no_grad(), progress_bar(groups, "error", unit="estimate") as bar:
        for group in range(groups):
            left = [x[(of != group).to(x.device)] for x, of in zip(samples, labels, strict=True)]
            try:
                without.append(measure(*left))
            except ArgumentValueError:
                return None
            bar.update()
    error = jackknife(value.detach(), torch.stack(without), shares.mean(0).to(value))
    return None if error is None else widened(error.noise, error.degrees)
