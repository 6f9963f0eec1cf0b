"""Where the histogram of ``q`` leaves a gap that makes KL(p || q) infinite or large."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infoprobe.estimators.histogram import divergences
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.formulas import Formulas
from infoprobe.estimators.histogram.tabulation import counts_of_all, pooled, tabulate


def uncovered(binning: Binning, p: Any, q: Any) -> Tensor:
    """The share of ``p``'s values (or samples) that lie in bins where ``q`` has none: 0-dim."""
    counts = [
        torch.stack([(a.counts * (b.counts == 0)).sum(), a.counts.sum()])
        for a, b in tabulate(binning, p=p, q=q)
    ]
    alone, total = torch.stack(counts).sum(0).to(torch.float64).unbind()
    return alone / total


def kl_at_zero(binning: Binning, formulas: Formulas, p: Any, q: Any) -> Tensor:
    """By how much KL(p || q) over values falls when the bins beside zero are made one: 0-dim."""
    a, b = counts_of_all(binning, p=p, q=q)
    p, q = (formulas.probability(pooled(counts)).squeeze(0) for counts in (a, b))
    whole = divergences.relative_entropy(p, q)
    (edge,) = (a.grid.edges()[1:-1] == 0).nonzero(as_tuple=True)
    if a.grid != b.grid or len(edge) != 1:  # equal data make every edge the same
        return torch.zeros_like(whole)
    left = int(edge)
    p, q = divergences.merged(p, left), divergences.merged(q, left)
    return whole - divergences.relative_entropy(p, q)
