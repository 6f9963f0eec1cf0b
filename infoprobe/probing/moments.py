"""Mean and variance of a stream of numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from infoprobe.errors import ArgumentValueError


@dataclass(frozen=True)
class Moments:
    r"""Mean and spread of some numbers; additive, as counts are.

    Attributes:
        n: How many were finite.
        mean: Their mean.
        squares: The sum of the squares of their deviations from it.
        singular: How many others were minus infinity.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    singular: int = 0

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Those of a tensor.

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
        """The standard error of the mean; NaN of a single number."""
        return math.sqrt(self.squares / (self.n - 1) / self.n) if self.n > 1 else math.nan

    def state_dict(self) -> dict[str, Any]:
        """All of it, as numbers."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Moments:
        """What :meth:`state_dict` describes."""
        return cls(**state)
