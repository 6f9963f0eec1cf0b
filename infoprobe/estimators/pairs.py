"""Two samples that were to be independent, and are in part the same, or belong row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from infoprobe.estimators.ranks import standard_ranks
from infoprobe.findings import Finding
from infoprobe.neighbors import fingerprints

# How seldom independent samples are taken for pairs.
_CHANCE = 1e-4


def paired(p: Tensor, q: Tensor) -> Iterator[Finding]:
    """A finding if row i of p (n, d) visibly belongs to row i of q (m, e).

    Then some feature of p goes up and down with some feature of q.
    """
    n = len(p)
    if len(q) != n or n < 8:
        return
    correlations = (standard_ranks(p) @ standard_ranks(q).T).abs() / n
    strongest = float(correlations.max())
    # Of independent samples, each is a standard normal number over the root of n - 1.
    chance = correlations.numel() * math.erfc(strongest * math.sqrt((n - 1) / 2))
    if chance < _CHANCE:
        yield Finding(
            "warning",
            f"row i of one belongs to row i of the other (rank correlation {strongest:.2f}), "
            "and samples in pairs make a divergence come out too low",
            strongest,
            "Pass independent samples: p of one half of the data and q of the other half.",
            "p, q",
            code="paired-samples",
        )


def shared_samples(p: Tensor, q: Tensor) -> Iterator[Finding]:
    """A finding if samples of p (n, d) are samples of q (m, d), too."""
    if p.shape[1] != q.shape[1]:
        return
    both = fingerprints(torch.cat([p.detach().double(), q.detach().to(p.device).double()]))
    share = float(torch.isin(both[: len(p)], both[len(p) :]).double().mean())
    if share:
        yield Finding(
            "warning",
            f"{share:.1%} of the samples of the first are samples of the second, too",
            share,
            "A divergence needs samples that are independent: split the data first.",
            "p, q",
            code="shared-samples",
        )
