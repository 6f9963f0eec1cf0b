"""Features by their ranks, which no increasing map of a feature changes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The most features whose ranks are compared.
_FEATURES = 256


def normal_scores(x: Tensor) -> Tensor:
    r"""Each feature carried by an increasing map to a standard Gaussian one, by its ranks.

    .. math:: \Phi^{-1}\left(\frac{r - 1/2}{n}\right), \quad r = 1, \dots, n

    where equal values have the mean of their ranks.
    """
    scores: Tensor = torch.special.ndtri(doubled_ranks(x).double() / (2 * len(x)))
    return scores.to(x.dtype).contiguous()


def doubled_ranks(x: Tensor) -> Tensor:
    r"""Twice the ranks of the values of each feature, less 1: integers from 1 to :math:`2n - 1`.

    Equal values have the mean of their ranks.
    """
    n, d = x.shape
    line, order = x.T.contiguous().sort(1)
    first = last = torch.arange(n, device=x.device).expand(d, n)
    same = line[:, 1:] == line[:, :-1]
    if same.any():
        edge = same.new_zeros(d, 1)
        first = first.masked_fill(torch.cat([edge, same], 1), 0).cummax(1).values
        last = last.masked_fill(torch.cat([same, edge], 1), n)
        last = last.flip(1).cummin(1).values.flip(1)
    return torch.empty_like(order).scatter_(1, order, first + last + 1).T


def standard_ranks(x: Tensor) -> Tensor:
    """The ranks of each feature that varies, with mean 0 and variance 1: (d, n) float64.

    Of many features, every so many are taken.
    """
    ranks = doubled_ranks(x.detach()[:, :: math.ceil(x.shape[1] / _FEATURES)]).T.double()
    ranks -= ranks.mean(1, keepdim=True)
    return ranks / ranks.square().mean(1, keepdim=True).sqrt().clamp_min(1e-9)
