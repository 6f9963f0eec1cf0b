"""The distributions that logits stand for: their entropies, and how far they are from others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.devices import is_here

# About how many logits the processor works on at once, so that they stay in its caches.
_BLOCK = 1 << 18


class Predictions(NamedTuple):
    """Distributions over a vocabulary, (m, vocabulary).

    Attributes:
        scores: The logits minus the largest one of each distribution, float32 at least.
        totals: The sums of their exponentials, (m,), float64.
    """

    scores: Tensor
    totals: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Predictions:
        """The distributions that logits (m, vocabulary) stand for.

        Logits of half precision are converted first. Sums are in float64: in float32, those of
        150,000 terms would take an entropy off by up to 1e-4 nats.
        """
        dtype = torch.promote_types(logits.dtype, torch.float32)
        blocks = []
        for part in _blocks(logits):
            wide = part.to(dtype)
            scores = wide - wide.amax(-1, keepdim=True)
            blocks.append((scores, _sum(scores.exp())))
        return cls(*(torch.cat(each) for each in zip(*blocks, strict=True)))


def entropies(p: Predictions) -> Tensor:
    """The entropies of distributions, in nats: (m,), float64."""
    blocks = []
    for scores, totals in zip(_blocks(p.scores), _blocks(p.totals, p.scores), strict=True):
        weights = scores.exp()
        # What has no probability adds nothing, though its logit may be minus infinity.
        mean = _sum((weights * scores).masked_fill(weights == 0, 0.0)) / totals
        blocks.append(totals.log() - mean)
    return torch.cat(blocks)


def divergences(p: Predictions, q: Predictions) -> Tensor:
    """The divergences KL(p||q) of distributions, in nats: (m,), float64."""
    blocks = []
    parts = (p.scores, p.totals, q.scores, q.totals)
    for ours, total, theirs, other in zip(*(_blocks(x, p.scores) for x in parts), strict=True):
        weights = ours.exp()
        # What p rules out adds nothing, whether q rules it out or not.
        apart = _sum((weights * (ours - theirs)).masked_fill(weights == 0, 0.0)) / total
        blocks.append(apart - total.log() + other.log())
    return torch.cat(blocks)


def _blocks(x: Tensor, like: Tensor | None = None) -> Iterator[Tensor]:
    """The rows of a tensor block by block, as many at once as of another one (m, vocabulary)."""
    shape = x if like is None else like
    rows = max(1, _BLOCK // shape.shape[1]) if is_here(shape) else max(1, len(shape))
    yield from torch.split(x, rows)


def _sum(x: Tensor) -> Tensor:
    total: Tensor = x.sum(-1, dtype=torch.float64)
    return total
