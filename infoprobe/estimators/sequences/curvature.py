"""How sharply the path of tokens turns, sequence by sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe.estimators.alike import rounding_of
from infoprobe.estimators.sequences.outcomes import Outcomes, lengths_of, sequences_at_once


def curvatures(x: Tensor, mask: Tensor | None) -> Outcomes:
    r"""The mean angle between successive steps of each sequence, in radians.

    With the steps :math:`v_k = z_{k+1} - z_k` between successive tokens, it is the mean of
    :math:`\arccos \frac{v_k^\top v_{k+1}}{|v_k| |v_{k+1}|}` over all k at which both steps have a
    length. Steps as short as the rounding of their tokens have none, since rounding alone would
    decide where they lead. A sequence has none if it has fewer than 3 tokens, or if no two
    successive steps have a length. All is computed in float64, and no device is waited for.

    Arguments:
        x: Sequences of tokens, (n, t, d).
        mask: Which tokens count, (n, t), bool; ``None`` if all do. The tokens on both sides of
            one that does not count are successive.
    """
    size = sequences_at_once(x)
    parts = [
        _curvatures(x[i : i + size], None if mask is None else mask[i : i + size])
        for i in range(0, len(x), size)
    ]
    return Outcomes(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _curvatures(x: Tensor, mask: Tensor | None) -> Outcomes:
    tokens, lengths = x.to(torch.float64), lengths_of(x, mask)
    few = lengths < 3
    if x.shape[1] < 3:
        none = torch.zeros_like(lengths, dtype=torch.float64)
        return Outcomes.of(none, few=few)
    if mask is not None:
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # those that count come first
        tokens = tokens.take_along_dim(order.unsqueeze(-1), 1)
        after = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
        tokens = tokens.masked_fill(after.unsqueeze(-1), 0.0)
    steps = tokens[:, 1:] - tokens[:, :-1]
    squares = torch.einsum("nkd,nkd->nk", steps, steps)
    products = torch.einsum("nkd,nkd->nk", steps[:, :-1], steps[:, 1:])
    sizes = torch.einsum("nkd,nkd->nk", tokens, tokens)
    rounding = rounding_of(torch.finfo(x.dtype).eps) ** 2 * torch.maximum(
        sizes[:, 1:], sizes[:, :-1]
    )
    lengths_of_steps = torch.where(squares < rounding, 0.0, squares).sqrt()
    scales = lengths_of_steps[:, :-1] * lengths_of_steps[:, 1:]
    inside = torch.arange(2, x.shape[1], device=x.device) < lengths.unsqueeze(1)
    defined = inside & (scales != 0)
    cosines = products / torch.where(defined, scales, 1.0)
    # Rounding alone takes a cosine out of [-1, 1], where no angle has it.
    angles = cosines.clamp(-1.0, 1.0).acos()
    number = defined.sum(1)
    mean = torch.where(defined, angles, 0.0).sum(1) / number.clamp(min=1)
    finite = torch.where(inside, scales, 0.0).sum(1).isfinite()
    return Outcomes.of(mean, few=few, empty=number == 0, not_finite=~finite)
