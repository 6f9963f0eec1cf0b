"""Averages that are kept: of a number for each sequence, or for each position of sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.errors import widened
from infoprobe.estimators.sequences.outcomes import Outcome, Outcomes
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Kept, Piece, TensorReduction
from infoprobe.probing.kept.damage import counts_of, reals_of
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, total
from infoprobe.probing.processes.means import Means, common_means
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.probing.selection import DoesNotApplyError


@dataclass(frozen=True, eq=False)
class Average:
    """The mean of some numbers that come in groups, and its error; additive, as counts are.

    Numbers of one group may depend on each other; groups do not. All of it stays on the device
    where the numbers are, until somebody asks.

    Attributes:
        moments: Of the groups, (6,), float64: their number; the mean of their sums and of their
            sizes; the sums of the products of deviations from these: of sums with sums, of sums
            with sizes, and of sizes with sizes.
        kinds: How many numbers came to each :class:`Outcome`, int64.
    """

    moments: Tensor
    kinds: Tensor

    @classmethod
    def none(cls) -> Average:
        """The average of no numbers."""
        kinds = torch.zeros(len(Outcome), dtype=torch.int64, device="cpu")
        return cls(torch.zeros(6, dtype=torch.float64, device="cpu"), kinds)

    @classmethod
    def of(cls, found: Outcomes, groups: Tensor | None = None, number: int = 0) -> Average:
        """The average of what came of some sequences or positions.

        Arguments:
            found: What came of them, (m,).
            groups: The group of each, (m,), int64; ``None`` for one group each.
            number: The number of groups, some of which may be empty.
        """
        used = found.kinds == Outcome.USED
        sizes, sums = used.to(torch.float64), torch.where(used, found.values, 0.0)
        if groups is not None:
            sizes = sizes.new_zeros(number).index_add(0, groups, sizes)
            sums = sums.new_zeros(number).index_add(0, groups, sums)
        there = sizes > 0
        count = there.sum()
        a, b = sums.sum() / count.clamp(min=1), sizes.sum() / count.clamp(min=1)
        x, y = (torch.where(there, each, 0.0) for each in (sums - a, sizes - b))
        moments = torch.stack([count, a, b, (x * x).sum(), (x * y).sum(), (y * y).sum()])
        kinds = torch.stack([(found.kinds == kind).sum() for kind in Outcome])
        return cls(moments.to(torch.float64), kinds)

    def __add__(self, other: Average) -> Average:
        device = self.moments.device
        n, a, b, aa, ab, bb = self.moments.unbind()
        m, c, d, cc, cd, dd = other.moments.to(device).unbind()
        total = n + m
        share = m / total.clamp(min=1)
        # Chan, Golub & LeVeque (1979).
        x, y, weight = c - a, d - b, n * share
        moments = torch.stack(
            [
                total,
                a + x * share,
                b + y * share,
                aa + cc + x * x * weight,
                ab + cd + x * y * weight,
                bb + dd + y * y * weight,
            ]
        )
        return Average(moments, self.kinds + other.kinds.to(device))

    def of_outcome(self, outcome: Outcome) -> int:
        """How many numbers came to an outcome."""
        return int(self.kinds[outcome])

    @property
    def used(self) -> int:
        """How many numbers there are."""
        return self.of_outcome(Outcome.USED)

    @property
    def groups(self) -> int:
        """How many groups have numbers."""
        return int(self.moments[0])

    @property
    def mean(self) -> float:
        """The mean of all numbers; NaN if there are none."""
        return float(self.moments[1] / self.moments[2])

    @property
    def stderr(self) -> float | None:
        """The standard error of the mean, by groups; ``None`` where there is one group only."""
        groups = self.groups
        if groups < 2:
            return None
        _, a, b, aa, ab, bb = self.moments.cpu().unbind()
        ratio = a / b
        # A sum of squares, which only rounding can make negative.
        squares = (aa - 2 * ratio * ab + ratio**2 * bb).clamp(min=0)
        noise = (squares / (groups - 1) / groups).sqrt() / b
        return float(widened(noise, groups - 1))

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state as tensors on the CPU."""
        return {"moments": self.moments.cpu().clone(), "kinds": self.kinds.cpu().clone()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Average:
        """Makes the average that :meth:`state_dict` describes."""
        return cls(
            reals_of(state["moments"], 6).clone(),
            counts_of(state["kinds"], len(Outcome)).clone(),
        )


def pooled(own: Average | None) -> Answered[tuple[Average | None, Average | None]]:
    """The average of what all processes have, and of what all but this one have.

    Arguments:
        own: What this process has; ``None`` if it has seen nothing.
    """
    mine = Average.none() if own is None else own
    moments, kinds = mine.moments.cpu(), mine.kinds.cpu()
    n, means = moments[:1], moments[1:3]
    whole, rest = yield from common_means(Means(n, means.unsqueeze(0)))
    spread = moments[3:] + n * _products(means - whole.mean[0])
    spreads = yield total(spread)
    ours = torch.cat([kinds.new_tensor([own is not None]), kinds])
    numbers = yield total(ours)

    def average(known: Means, spreads: Tensor, numbers: Tensor) -> Average | None:
        if not numbers[0]:
            return None
        left = spreads - known.n * _products(known.mean[0] - whole.mean[0])
        a, ab, b = torch.where(known.n > 0, left, 0.0).unbind()
        # Rounding may leave less than nothing of a square.
        left = torch.stack([a.clamp(min=0), ab, b.clamp(min=0)])
        return Average(torch.cat([known.n, known.mean[0], left]), numbers[1:])

    return average(whole, spreads, numbers), average(rest, spreads - spread, numbers - ours)


def _products(x: Tensor) -> Tensor:
    """Of two numbers, the square of the first, the product, and the square of the second."""
    a, b = x.unbind()
    return torch.stack([a * a, a * b, b * b])


class Statistic(ABC):
    """A number for each sequence of tokens; a frozen dataclass of its settings."""

    @abstractmethod
    def of(self, x: Tensor, mask: Tensor | None) -> Outcomes:
        """The numbers of the sequences (n, t, d), of which a mask (n, t) says what counts."""


@dataclass(frozen=True, eq=False)
class AveragePiece(Piece):
    """What came of the sequences of one call.

    Attributes:
        average: Their average.
        note: What a reader should know of the call; empty if nothing.
    """

    average: Average
    note: str = ""


@dataclass(eq=False)
class KeptAverage(Kept[AveragePiece]):
    """The average over the sequences that had one role at one call of a layer.

    Attributes:
        average: The average; ``None`` before the first call.
    """

    average: Average | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return self.average is None

    def _add(self, piece: AveragePiece, run: Pass) -> bool:
        self.average = piece.average if self.average is None else self.average + piece.average
        self.notes.update({piece.note} - {""})
        return False

    def _merge(self, other: KeptAverage, merging: Merging | None) -> None:
        if other.average is not None:
            before = self.average
            self.average = other.average if before is None else before + other.average

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[KeptAverage, KeptAverage]]:
        whole, rest = yield from pooled(self.average)
        return KeptAverage(average=whole), KeptAverage(average=rest)

    def _state(self) -> dict[str, Any]:
        return {"average": None if self.average is None else self.average.state_dict()}

    def _load(self, state: Mapping[str, Any]) -> None:
        average = state["average"]
        self.average = None if average is None else Average.from_state_dict(average)


@dataclass(frozen=True, eq=False)
class OverSequences(TensorReduction):
    """The average of a statistic over all sequences of tokens is kept.

    Attributes:
        statistic: The statistic.
    """

    statistic: Statistic

    takes_for_independent: ClassVar[bool] = True

    def empty(self) -> KeptAverage:
        """Nothing kept yet."""
        return KeptAverage()

    def reduce(self, tensors: list[Tensor], run: Pass) -> AveragePiece:
        """The average over the sequences of one call, on the device where they are."""
        x = tokens_of(tensors)
        found = self.statistic.of(x, run.mask_of(x))
        return AveragePiece(n=len(x), values=x.numel(), average=Average.of(found))

    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> list[Average | None]:
        """The average of each."""
        return [x.average for x in kept if isinstance(x, KeptAverage)]


def tokens_of(tensors: list[Tensor]) -> Tensor:
    """The sequences (n, t, d) that one role's tensors are.

    Raises:
        DoesNotApplyError: They are something else.
        TypeError: They hold no real numbers.
    """
    x = checks.as_tensor(tensors[0], "x")
    if len(tensors) > 1 or x.dim() != 3:
        shapes = " and ".join(str(tuple(each.shape)) for each in tensors)
        raise DoesNotApplyError(
            "x", f"It does not apply: shape {shapes} has no sequences of tokens (n, t, d)."
        )
    if not x.is_floating_point():
        raise DoesNotApplyError(
            "x", f"It does not apply: tokens of {x.dtype} are symbols, and no vectors."
        )
    return x
