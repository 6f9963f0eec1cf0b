"""The networks that score pairs of samples, and single samples."""

from __future__ import annotations

import itertools
import math
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from infoprobe.estimators.critic.bounds import Bound
from infoprobe.estimators.training import linear_layer

Pair: TypeAlias = tuple[Tensor, Tensor]

_BLOCK = 1 << 22  # numbers that the scores of a block of pairs may take


class PairCritic(nn.Module):
    """Scores all pairs of the samples of two variables.

    Arguments:
        encode_x: Gives the codes of samples of one variable.
        encode_y: Gives the codes of samples of the other.
        score: Gives, from both codes, (r, e) and (m, e), the scores (r, m).
        width: How many numbers a pair takes on the way to its score.
        cap: What the scores are kept below.
    """

    def __init__(
        self, encode_x: nn.Module, encode_y: nn.Module, score: nn.Module, width: int, cap: float
    ) -> None:
        super().__init__()
        self.encode_x: nn.Module = encode_x
        self.encode_y: nn.Module = encode_y
        self.score: nn.Module = score
        self.width: int = width
        self.cap: float = cap

    def forward(self, bound: Bound, x: Tensor, y: Tensor) -> Tensor:
        """The bound, from blocks of rows; where a gradient is taken, they are scored again."""
        u, v = self.encode_x(x), self.encode_y(y)
        size = max(1, _BLOCK // (len(v) * self.width))
        if size >= len(u):
            return bound.value(*self._rows(bound, u, v, 0))
        blocks = [
            checkpoint(
                self._rows,
                bound,
                u[first : first + size],
                v,
                first,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for first in range(0, len(u), size)
        ]
        return bound.value(*(torch.cat(part) for part in zip(*blocks, strict=True)))

    def _rows(self, bound: Bound, u: Tensor, v: Tensor, first: int) -> Pair:
        """The scores of some samples with their partners, and their rows' numbers."""
        scores = capped(self.score(u, v), self.cap)
        others = scores if bound.own else _without_partners(scores, first)
        return scores.diagonal(first), bound.rows(others)


def _without_partners(scores: Tensor, first: int) -> Tensor:
    """Scores (r, m - 1) of the rows from ``first`` on, without those on the diagonal."""
    row = torch.arange(first, first + len(scores), device=scores.device).unsqueeze(1)
    column = torch.arange(scores.shape[1] - 1, device=scores.device)
    return torch.where(column < row, scores[:, :-1], scores[:, 1:])


class InnerProduct(nn.Module):
    """Scores pairs by the inner product of their codes."""

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """From codes (r, e) and (m, e), the scores (r, m)."""
        return u @ v.T


class Head(nn.Module):
    """Scores pairs by the rest of a network whose first layer has been applied to each part."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.rest: nn.Module = nn.Sequential(nn.SiLU(), perceptron(hidden, hidden, 1))

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """From codes (r, hidden) and (m, hidden), the scores (r, m)."""
        scores: Tensor = self.rest(u.unsqueeze(1) + v).squeeze(-1)
        return scores


class SampleCritic(nn.Module):
    """Scores single samples: P takes the place of the joint distribution, Q of the product.

    Arguments:
        network: Gives the scores (n, 1) of samples (n, d).
        cap: What the scores are kept below.
    """

    def __init__(self, network: nn.Module, cap: float) -> None:
        super().__init__()
        self.network: nn.Module = network
        self.cap: float = cap

    def forward(self, bound: Bound, p: Tensor, q: Tensor) -> Tensor:
        """The bound, from samples of P and of Q."""
        joint, product = (capped(self.network(x).squeeze(-1), self.cap) for x in (p, q))
        return bound.value(joint, bound.rows(product.unsqueeze(0)))


def capped(scores: Tensor, cap: float) -> Tensor:
    """Scores in float64, those far below ``cap`` as they are, and all others below it."""
    return cap - nn.functional.softplus(cap - scores.double())


def perceptron(*widths: int, zero: bool = True) -> nn.Sequential:
    """Linear layers with activations in between; ``zero`` makes all that comes out 0 at first."""
    linear = [linear_layer(*pair) for pair in itertools.pairwise(widths)]
    if zero:
        for parameter in linear[-1].parameters():
            nn.init.zeros_(parameter)
    layers: list[nn.Module] = [linear[0]]
    for layer in linear[1:]:
        layers += [nn.SiLU(), layer]
    return nn.Sequential(*layers)


def pair_critic(
    x_width: int, y_width: int, *, separable: bool, hidden: int, embedding: int, cap: float
) -> PairCritic:
    """A critic of pairs of samples (n, x_width) and (n, y_width), which is 0 everywhere at first.

    Arguments:
        x_width: The features of one variable.
        y_width: The features of the other.
        separable: Whether each has a network of its own, rather than one network for the pair.
        hidden: Units in each hidden layer.
        embedding: The length of the codes of separate networks.
        cap: What the scores are kept below.
    """
    if separable:
        widths = (hidden, hidden, embedding)
        encoders = perceptron(x_width, *widths, zero=False), perceptron(y_width, *widths)
        return PairCritic(*encoders, score=InnerProduct(), width=1, cap=cap)
    # The first layer of a network of (x, y) is a sum of one of x and one of y.
    first = linear_layer(x_width, hidden), linear_layer(y_width, hidden)
    return PairCritic(*first, score=Head(hidden), width=hidden, cap=cap)


def pair_cap(held_out: int) -> float:
    """The cap of the scores of pairs: ln of how many held-out pairs do not belong together."""
    return math.log(held_out * (held_out - 1))
