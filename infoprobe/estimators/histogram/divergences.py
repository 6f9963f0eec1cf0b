"""Divergences of probabilities: (…, bins) each, to (…)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`-\sum_i p_i \ln q_i`."""
    return -torch.xlogy(p, q).sum(-1)


def relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`\sum_i p_i \ln (p_i / q_i)`."""
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(-1)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`\tfrac12 KL(p \| m) + \tfrac12 KL(q \| m)` for the mixture :math:`m`."""
    mixture = (p + q) / 2
    return (relative_entropy(p, mixture) + relative_entropy(q, mixture)) / 2


def merged(p: Tensor, i: int) -> Tensor:
    """Probabilities (bins,) with the bins ``i`` and ``i + 1`` as one."""
    return torch.cat([p[:i], p[i : i + 2].sum(0, keepdim=True), p[i + 2 :]])


OF: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "kl_divergence": relative_entropy,
    "js_divergence": jensen_shannon,
}
