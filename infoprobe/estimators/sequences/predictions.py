"""The distributions that logits stand for: their entropies, and how far they are from others."""

from __future__ import annotations

import torch
from torch import Tensor


def log_probabilities(logits: Tensor) -> Tensor:
    """The logarithms of the probabilities that logits (m, vocabulary) stand for, float32 at least.

    Logits of half precision are converted first: a sum of 150,000 terms needs more digits.
    """
    wide = logits if logits.dtype == torch.float64 else logits.to(torch.float32)
    return wide.log_softmax(-1)


def entropies(log_p: Tensor) -> Tensor:
    """The entropies of distributions (m, vocabulary), in nats: (m,), float64."""
    found: Tensor = torch.special.entr(log_p.exp()).sum(-1, dtype=torch.float64)
    return found


def divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The divergences KL(p||q) of distributions (m, vocabulary), in nats: (m,), float64."""
    p = log_p.exp()
    # What p rules out adds nothing, whether q rules it out or not.
    return (p * (log_p - log_q)).masked_fill(p == 0, 0.0).sum(-1, dtype=torch.float64)
