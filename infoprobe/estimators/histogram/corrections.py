r"""Entropies from tables of counts: as they are, or corrected for their bias.

Two kinds of correction exist. One shrinks the probabilities towards the uniform distribution,
with a weight :math:`\lambda`,

.. math:: \hat p_i = \lambda \frac1B + (1 - \lambda) \frac{n_i}{N},

and a pseudo-count :math:`a` is one of them, with :math:`\lambda = a B / (N + a B)`. The other kind
corrects the entropy alone and knows of no probabilities: :data:`OF_ENTROPY`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram.tables import Table

# Within these, probabilities and their logarithms stay within float64 for any number of bins.
SMALLEST_PSEUDOCOUNT, LARGEST_PSEUDOCOUNT = 1e-280, 1e280


def probabilities(table: Table, weight: Tensor) -> Tensor:
    """The probability of each cell, shrunk by ``weight`` (rows, 1); 0 where a row is padded.

    No cell of the table may have been left out.
    """
    p = weight / table.cells + (1 - weight) * table.frequencies
    cell = torch.arange(p.shape[1], device=p.device)
    return p.masked_fill_(cell >= table.cells, 0)


def entropy(table: Table, weight: Tensor) -> Tensor:
    """The entropy of each row's probabilities, shrunk by ``weight`` (rows, 1): (rows,)."""
    p_empty = weight / table.cells
    p = p_empty + (1 - weight) * table.frequencies
    p.masked_fill_(table.counts == 0, 0)
    return -torch.xlogy(p, p).sum(1) - (table.empty * torch.xlogy(p_empty, p_empty)).squeeze(1)


def pseudocount(table: Table, count: float) -> Tensor:
    """The weight that amounts to ``count`` more in every cell: (rows, 1)."""
    added = count * table.cells
    return added / (table.total + added)


def james_stein(table: Table) -> Tensor:
    r"""The weight of least estimated risk, at most 1 (Hausser & Strimmer, 2009): (rows, 1).

    .. math:: \lambda^* = \frac{1 - \sum_i (n_i / N)^2}{(N - 1) \sum_i (1 / B - n_i / N)^2}

    It is 1 where the frequencies are uniform already, and for a single value.
    """
    p, uniform = table.frequencies, 1 / table.cells
    distance = ((uniform - p) ** 2).masked_fill_(table.counts == 0, 0).sum(1, keepdim=True)
    distance += table.empty * uniform**2
    weight = (1 - (p**2).sum(1, keepdim=True)) / ((table.total - 1) * distance)
    return torch.where((table.total == 1) | (distance == 0), 1.0, weight).clamp(max=1)


def miller_madow(table: Table) -> Tensor:
    r"""The plug-in entropy plus :math:`(K - 1) / 2N`, with :math:`K` cells occupied: (rows,)."""
    p = table.frequencies
    occupied = (table.counts > 0).sum(1)
    return -torch.xlogy(p, p).sum(1) + (occupied - 1) / (2 * table.total.squeeze(1))


def chao_shen(table: Table) -> Tensor:
    r"""The terms of the occupied cells, each over the chance that it is occupied: (rows,).

    With :math:`f_1` cells of a single value, and the coverage :math:`C = 1 - f_1 / N`,

    .. math:: H = -\sum_i \frac{C \hat p_i \ln(C \hat p_i)}{1 - (1 - C \hat p_i)^N}.

    For :math:`C \to 0` this has no bound: it is infinite where each value is alone in its cell.
    """
    total = table.total
    coverage = 1 - (table.counts == 1).sum(1, keepdim=True) / total
    p = coverage * table.frequencies
    terms = torch.xlogy(p, p) / torch.expm1(total * torch.log1p(-p))
    value = terms.masked_fill_(table.counts == 0, 0).sum(1)
    return value.masked_fill_(coverage.squeeze(1) == 0, math.inf)


def grassberger(table: Table) -> Tensor:
    r"""Each :math:`\ln n_i` of the plug-in entropy replaced by :math:`G(n_i)`: (rows,).

    .. math::

        H = \ln N - \frac1N \sum_i n_i G(n_i), \qquad
        G(n) = \psi(n) + \tfrac{(-1)^n}{2}
        \left[\psi\left(\tfrac{n + 1}{2}\right) - \psi\left(\tfrac n2\right)\right]
    """
    n = table.counts
    # G has one value for 2m and 2m + 1, and is this by its recursion (Grassberger, 2003).
    g = torch.digamma((n // 2).to(torch.float64) + 0.5) + math.log(2)
    total = table.total.squeeze(1)
    return total.log() - (n * g).sum(1) / total


OF_ENTROPY: dict[str, Callable[[Table], Tensor]] = {
    "miller-madow": miller_madow,
    "chao-shen": chao_shen,
    "grassberger": grassberger,
}


def require_one_correction(pseudocount: float, correction: str | None, over: str) -> None:
    """Raises a ValueError unless a histogram over this can be corrected in this way."""
    if 0 < pseudocount < SMALLEST_PSEUDOCOUNT:
        raise ArgumentValueError(
            "pseudocount",
            f"expected 0 or at least {SMALLEST_PSEUDOCOUNT:g}, got {pseudocount!r}, for "
            "which float64 has no probabilities. Pass more, or 0 for none.",
        )
    checks.require_one_of(correction, [None, "james-stein", *OF_ENTROPY], "correction")
    if pseudocount and correction:
        raise ArgumentValueError(
            "pseudocount",
            f"expected 0 with correction={correction!r}, got "
            f"{pseudocount!r}. Both make up for few data: choose one.",
        )
    if over == "samples" and (pseudocount or correction == "james-stein"):
        setting = "correction='james-stein'" if correction else "a pseudocount"
        raise ArgumentValueError(
            "over",
            f"'samples' cannot have {setting}, which gives mass to each of up to "
            "bins**d symbols. Use correction='miller-madow', 'chao-shen' or 'grassberger', "
            "which ask for the observed symbols only.",
        )


def require_probabilities(correction: str | None) -> None:
    """Raises a ValueError if a correction gives no probabilities."""
    if correction in OF_ENTROPY:
        raise ArgumentValueError(
            "correction",
            f"{correction!r} corrects entropies and gives no probabilities, "
            "which this measure compares. Use correction='james-stein', a pseudocount, or "
            "correction=None.",
        )
