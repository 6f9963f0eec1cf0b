"""Moments that are kept: the mean and the spread of numbers that layers report."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.devices import extremes, is_here, send, to_compute_with
from infoprobe.errors import ArgumentValueError
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import CallReduction, Kept, Piece, Problem
from infoprobe.probing.kept.refused import Refused, refused_call
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, total
from infoprobe.probing.processes.means import Means, common_means
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.taps.sink import Event
from infoprobe.torch_internals import under_vmap


@dataclass(frozen=True)
class Moments:
    r"""The mean and the spread of some numbers; additive, as counts are.

    Attributes:
        n: The number of finite ones.
        mean: The mean of the finite ones.
        squares: The sum of the squares of their deviations from the mean.
        singular: The number of those that were minus infinity.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    singular: int = 0

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """The moments of the values of a tensor.

        Raises:
            ValueError: A value is NaN or plus infinity.
        """
        finite = values[values.isfinite()]
        singular = int((values == -math.inf).sum())
        if len(finite) + singular < values.numel():
            bad = values.numel() - len(finite) - singular
            raise ArgumentValueError(
                "x",
                f"expected numbers, got {bad:,} of {values.numel():,} that are NaN or infinite.",
            )
        if not len(finite):
            return cls(singular=singular)
        mean = finite.mean()
        squares = (finite - mean).square().sum()
        return cls(len(finite), float(mean), float(squares), singular)

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        if not n:
            return Moments(singular=self.singular + other.singular)
        apart = other.mean - self.mean
        return Moments(
            n,
            # Chan, Golub & LeVeque (1979).
            self.mean + apart * other.n / n,
            self.squares + other.squares + apart**2 * self.n * other.n / n,
            self.singular + other.singular,
        )

    @property
    def stderr(self) -> float:
        """The standard error of the mean; NaN for a single number."""
        return math.sqrt(self.squares / (self.n - 1) / self.n) if self.n > 1 else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Returns the whole state as numbers."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Moments:
        """Makes the moments that :meth:`state_dict` describes."""
        return cls(**state)


@dataclass(frozen=True, eq=False)
class MomentsPiece(Piece):
    """The moments of the numbers that a layer reported at one call.

    Attributes:
        moments: The moments; on a device, what :func:`unread_moments` made.
        doubt: Why not to believe what the layer reports; empty if all is well.
    """

    moments: Moments | Tensor
    doubt: str = ""


@dataclass(eq=False)
class KeptMoments(Kept[MomentsPiece]):
    """The moments of the numbers that a layer reported at one of its calls in a pass.

    Attributes:
        moments: The moments; ``None`` before the first call.
        doubt: Why not to believe what the layer reports; empty if all is well.
        unread_moments: The moments that are on a device, until they are read.
    """

    moments: Moments | None = None
    doubt: str = ""
    unread_moments: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return self.moments is None and self.unread_moments is None

    def remarks(self) -> Iterator[str]:
        """What a reader should know of the calls, and of what the layer reports."""
        yield from super().remarks()
        if self.doubt and not self.left_out and not self.inapplicable:
            yield self.doubt

    def _add(self, piece: MomentsPiece, run: Pass) -> bool:
        if isinstance(piece.moments, Moments):
            before = Moments() if self.moments is None else self.moments
            self.moments = before + piece.moments
        else:
            unread = self.unread_moments
            self.unread_moments = (
                piece.moments if unread is None else _joined(unread, piece.moments)
            )
        self.doubt = self.doubt or piece.doubt
        return False

    def _unread(self) -> list[Tensor]:
        return [] if self.unread_moments is None else [self.unread_moments]

    def _take(self, read: Sequence[Tensor], refused: Refused) -> None:
        for found in read:
            n, mean, squares, singular = found.tolist()
            moments = Moments(int(n), mean, squares, int(singular))
            if self.n:  # some call was measured
                self.moments = moments if self.moments is None else self.moments + moments
        self.unread_moments = None

    def _merge(self, other: KeptMoments, merging: Merging | None) -> None:
        if other.moments is not None:
            before = self.moments
            self.moments = other.moments if before is None else before + other.moments
        self.doubt = self.doubt or other.doubt

    def outline(self) -> dict[str, Any]:
        """What processes must agree on: why not to believe what the layer reports."""
        return {**super().outline(), "doubt": self.doubt}

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[KeptMoments, KeptMoments]]:
        own = Moments() if self.moments is None else self.moments
        n, mean = _floats(own.n), _floats(own.mean).unsqueeze(1)
        whole, rest = yield from common_means(Means(n, mean))
        squares = _floats(own.squares) + n * (mean - whole.mean).square().squeeze(1)
        everything = yield total(squares)
        ours = torch.tensor([self.moments is not None, own.singular], device="cpu")
        numbers = yield total(ours.to(torch.int64))

        def kept(known: Means, squares: Tensor, numbers: Tensor) -> KeptMoments:
            there, singular = numbers.tolist()
            left = squares - known.n * (known.mean - whole.mean).square().squeeze(1)
            # Rounding may leave less than nothing.
            spread = float(left.clamp(min=0)) if known.n else 0.0
            moments = Moments(int(known.n), float(known.mean), spread, singular)
            return KeptMoments(moments=moments if there else None, doubt=agreed["doubt"])

        return kept(whole, everything, numbers), kept(rest, everything - squares, numbers - ours)

    def _state(self) -> dict[str, Any]:
        moments = None if self.moments is None else self.moments.state_dict()
        return {"moments": moments, "doubt": self.doubt}

    def _load(self, state: Mapping[str, Any]) -> None:
        moments = state["moments"]
        self.moments = None if moments is None else Moments.from_state_dict(moments)
        self.doubt = state["doubt"]


def unread_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """The moments of values on a device, and whether some are NaN or plus infinity.

    Returns:
        The fields of :class:`Moments`, (4,), float64, all zero if they are; and a 0-dim bool.
    """
    finite = values.isfinite()
    singular = values == -math.inf
    refused = ~(finite | singular).all()
    n = finite.sum().to(torch.float64)
    mean = torch.where(finite, values, 0.0).sum() / n.clamp(min=1)
    squares = torch.where(finite, values - mean, 0.0).square().sum()
    found = torch.stack([n, mean, squares, singular.sum().to(torch.float64)])
    return torch.where(refused, 0.0, found), refused


def _joined(a: Tensor, b: Tensor) -> Tensor:
    """The moments of the values of both: (4,), float64, as :meth:`Moments.__add__`."""
    b = send(b, a.device)
    n = a[0] + b[0]
    apart, share = b[1] - a[1], b[0] / n.clamp(min=1)
    mean, squares = a[1] + apart * share, a[2] + b[2] + apart.square() * a[0] * share
    return torch.stack([n, mean, squares, a[3] + b[3]])


def _floats(number: float) -> Tensor:
    return torch.tensor([number], dtype=torch.float64, device="cpu")


class Numbers(NamedTuple):
    """What a layer reported at one call.

    Attributes:
        values: A number for each sample, (n,).
        doubt: Why not to believe it; empty if all is well.
    """

    values: Tensor
    doubt: str = ""


class Quantity(ABC):
    """A number for each sample that layers of some kind report when they return.

    Attributes:
        wants_log_determinants: Whether invertible layers are to be asked for their log|det J|.
    """

    wants_log_determinants: ClassVar[bool] = False

    @abstractmethod
    def of(self, event: Event) -> Numbers | Problem:
        """What the layer reported, or why it did not.

        The tensors of the event may be wrapped by torch's function transforms.
        """


@dataclass(frozen=True, eq=False)
class Averaging(CallReduction):
    """The mean and the variance of a quantity are kept.

    Attributes:
        quantity: What the layer reports.
    """

    quantity: Quantity

    @property
    def wants_log_determinants(self) -> bool:
        """Whether the quantity needs the log|det J| of invertible layers."""
        return self.quantity.wants_log_determinants

    def empty(self) -> KeptMoments:
        """Nothing kept yet."""
        return KeptMoments()

    def reduce(self, event: Event, run: Pass) -> MomentsPiece | Problem:
        """The moments of what a layer reported at one call."""
        if under_vmap():
            return Problem("Under torch.func.vmap tensors have no values.", applies=False)
        numbers = self.quantity.of(event)
        if isinstance(numbers, Problem):
            return numbers
        n = checks.length(event.outputs[0])
        if numbers.values.shape != (n,):
            raise ArgumentValueError(
                "numbers",
                f"expected one number for each of {n:,} samples, got shape "
                f"{tuple(numbers.values.shape)}.",
            )
        values = sum(x.numel() for x in event.outputs)
        reported = to_compute_with(numbers.values).double()
        if is_here(reported):
            return MomentsPiece(n, values, Moments.of(reported), numbers.doubt)
        moments, doubtful = unread_moments(reported)
        refused = refused_call(doubtful, extremes([reported]), n, values, 0, run.number)
        return MomentsPiece(n, values, moments, numbers.doubt, refused=refused)

    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> list[Moments | None]:
        """The moments of each."""
        return [x.moments for x in kept if isinstance(x, KeptMoments)]
