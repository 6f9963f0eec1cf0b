"""How widely attention is spread: the entropy of each query's distribution over the keys."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe.estimators.sequences.outcomes import Outcomes

# About how many probabilities are worked on at once.
_BLOCK = 1 << 22

# How far a sum of float32 probabilities may be from 1, and in roundings those of half precision.
_APART, _ROUNDINGS = 1e-4, 2


def attention_entropies(p: Tensor, keys: Tensor | None = None) -> Outcomes:
    r"""The entropy :math:`- \sum_j p_{ij} \ln p_{ij}` of each query i of each head, in nats.

    Probabilities are divided by their sum, which rounding to half precision takes from 1. A query
    whose sum is farther from 1 has none.

    Arguments:
        p: The probabilities, (n, heads, queries, keys).
        keys: How many keys each query can see, (n, queries): then the entropy is divided by the
            logarithm of that number, and queries that see one key have none.

    Returns:
        What came of each query, (n, heads, queries).
    """
    size = max(1, _BLOCK // max(1, p[0].numel()))
    found = [_entropies(part) for part in torch.split(p, size)]
    total, entropy = (torch.cat(each) for each in zip(*found, strict=True))
    improper = (total - 1).abs() > _APART + _ROUNDINGS * torch.finfo(p.dtype).eps
    value = entropy / total + total.log()
    few = None
    if keys is not None:
        most = keys.unsqueeze(1).expand_as(value)
        few = (most < 2) & value.isfinite()
        value = value / most.clamp(min=2).log()
    return Outcomes.of(value, few=few, improper=improper)


def _entropies(p: Tensor) -> tuple[Tensor, Tensor]:
    wide = p.to(torch.promote_types(p.dtype, torch.float32))
    return (
        wide.sum(-1, dtype=torch.float64),
        torch.special.entr(wide).sum(-1, dtype=torch.float64),
    )


def visible_keys(p: Tensor, mask: Tensor | None) -> Tensor:
    """How many keys each query can see, as the probabilities of all heads tell.

    A query can see a key if any query of its sequence pays attention to that key, and if any query
    of the batch does so to a key as far before or behind it. So keys that are padding, later ones
    under causal attention, and those beyond a sliding window do not count, and keys that a query
    could see and ignores do.

    Arguments:
        p: The probabilities, (n, heads, queries, keys).
        mask: Which queries count, (n, queries), bool; ``None`` if all do.

    Returns:
        The numbers, (n, queries), float64.
    """
    seen = (p > 0).any(1)  # NaN tells of no key
    if mask is not None:
        seen &= mask.unsqueeze(-1)
    queries, keys = seen.shape[1:]
    pairs = seen.any(0)
    apart = torch.arange(keys, device=p.device) - torch.arange(queries, device=p.device)[:, None]
    nearest = torch.where(pairs, apart, keys).amin()
    farthest = torch.where(pairs, apart, -queries).amax()
    inside = (apart >= nearest) & (apart <= farthest)
    return seen.any(1).to(torch.float64) @ inside.to(torch.float64).T
