"""Parts of samples, of which one is held out from another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.estimators.knn.atoms import copies
from infoprobe.neighbors import fingerprints


def split_apart(order: Tensor, sizes: Sequence[int], factors: Sequence[Tensor]) -> list[Tensor]:
    """Splits an order of samples, but never a sample from its copies.

    Without copies, the parts are consecutive and have just these sizes. All copies of a row go
    where one of them falls: otherwise, what is held out would be known already.

    Arguments:
        order: The numbers of the samples to split, (m,), in a random order.
        sizes: The sizes of the parts, which sum to m.
        factors: The variables of all samples, (n, d_f); row i of each belongs to sample i.
    """
    copied = copies(factors) > 0
    if not copied.any():
        return list(torch.split(order, list(sizes)))
    numbers = torch.arange(len(copied), device=copied.device)
    _, group = torch.unique(fingerprints(*factors), return_inverse=True)
    first = torch.full_like(numbers, len(copied)).scatter_reduce(0, group, numbers, "amin")
    places = torch.zeros_like(numbers)
    places[order] = numbers[: len(order)]
    places = places[torch.where(copied, first[group], numbers)][order]
    ends = torch.tensor(list(sizes), device=copied.device).cumsum(0)
    part = torch.bucketize(places, ends, right=True)
    return [order[part == i] for i in range(len(sizes))]
