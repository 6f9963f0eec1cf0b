"""Where the bins of a histogram lie, and what becomes of values outside of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram.arguments import Argument
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.grids import DyadicGrid, Grid, UniformGrid, indexer

Range: TypeAlias = Literal["dyadic", "minmax", "own"] | tuple[float, float]
Over: TypeAlias = Literal["values", "units", "samples"]
Outside: TypeAlias = Literal["raise", "clip", "drop"]

_MAX_BINS = 1 << 24


@dataclass(frozen=True)
class Binning:
    """The settings of a :class:`~infoprobe.Histogram` that decide which bin a value falls in."""

    bins: int
    range: Range
    over: Over
    outside: Outside

    @property
    def streams(self) -> bool:
        """Whether data may come in batches: over values, with ``"dyadic"`` and ``(low, high)``."""
        return self.over == "values" and (
            self.range == "dyadic" or not isinstance(self.range, str)
        )

    def require_streaming(self) -> None:
        """Raises a ValueError unless data may come in batches."""
        if self.over != "values":
            raise ArgumentValueError(
                "over",
                f"{self.over!r} needs all the data at once, since counts know of no "
                f"{self.over}. Use over='values', or pass the tensors themselves.",
            )
        if not self.streams:
            raise ArgumentValueError(
                "range",
                f"{self.range!r} needs all the values at once, so counts cannot be added "
                "up over batches. Use range='dyadic' or an explicit (low, high).",
            )

    def require_own_grid(self, counts: Counts, name: str) -> None:
        """Raises a ValueError unless the counts are on a grid of this binning."""
        self.require_streaming()
        if isinstance(self.range, str):
            same = isinstance(counts.grid, DyadicGrid) and counts.grid.bins == self.bins
        else:
            same = counts.grid == UniformGrid(*self.range, self.bins)
        if not same:
            raise ArgumentValueError(
                name,
                f"expected counts made by an estimator with bins={self.bins} and "
                f"range={self.range!r}, got counts on {counts.grid}. Count again with this one.",
            )

    def grid(self, low: float, high: float) -> Grid:
        """The grid for values from ``low`` to ``high``."""
        if self.range == "dyadic":
            return DyadicGrid.spanning(low, high, self.bins)
        if not isinstance(self.range, str):
            return UniformGrid(*self.range, self.bins)
        if not math.isfinite(high - low):
            raise ArgumentValueError(
                "range",
                f"the values span {low} to {high}, which overflows float64. "
                "Rescale them, or use range='dyadic'.",
            )
        return UniformGrid(low, high, self.bins)

    def shared(self, extents: Sequence[tuple[float, float]]) -> list[Grid]:
        """The grid of each argument: the same for all, unless each has its own."""
        if self.range == "own":
            return [self.grid(*extent) for extent in extents]
        lows, highs = zip(*extents, strict=True)
        return [self.grid(min(lows), max(highs))] * len(extents)

    def grids(self, parts: Sequence[Tensor]) -> list[tuple[Grid, ...]]:
        """The grids of each argument (n, columns), one for each of its columns."""
        extents = (
            zip(part.amin(0).tolist(), part.amax(0).tolist(), strict=True) for part in parts
        )
        by_column = [self.shared(column) for column in zip(*extents, strict=True)]
        return list(zip(*by_column, strict=True))

    def indexer(self, grids: Sequence[Grid], device: torch.device) -> Callable[[Tensor], Tensor]:
        """What finds the places of values (n, columns) on the grids; -1 for one to be dropped."""
        index = indexer(grids, device)
        if isinstance(self.range, str):
            return index
        low, high = self.range

        def within(x: Tensor) -> Tensor:
            x = x.to(torch.float64)  # in which the edges are exactly those that the user wrote
            places = index(x.clamp(low, high))
            if self.outside == "drop":
                places.masked_fill_((x < low) | (x > high), -1)
            return places

        return within

    def inside(self, x: Argument) -> Tensor:
        """The values of an argument, less those outside the range or moved to its edges."""
        self.require_inside(x)
        if isinstance(self.range, str):
            return x.tensor
        low, high = self.range
        if low <= x.low and x.high <= high:
            return x.tensor
        values = x.tensor.to(torch.float64)
        if self.outside == "clip":
            return values.clamp(low, high)
        return values[self.kept(x)]

    def kept(self, x: Argument) -> Tensor:
        """Which values of an argument lie within an explicit range."""
        values = x.tensor.to(torch.float64)
        low, high = cast("tuple[float, float]", self.range)
        return (values >= low) & (values <= high)

    def samples_inside(self, *samples: Argument) -> list[Argument]:
        """The samples of all arguments, less those that are outside the range in any."""
        binned = [x for x in samples if not x.labels]
        self.require_inside(*binned)
        if self.outside != "drop" or isinstance(self.range, str):
            return list(samples)
        low, high = self.range
        keep = torch.ones(len(samples[0].tensor), dtype=torch.bool, device="cpu")
        for x in binned:
            least, greatest = x.tensor.amin(1).double().cpu(), x.tensor.amax(1).double().cpu()
            keep &= (least >= low) & (greatest <= high)
        self.require_some_left(keep.unsqueeze(0), ", ".join(x.name for x in samples))
        return [x._replace(tensor=x.tensor[keep.to(x.tensor.device)]) for x in samples]

    def require_inside(self, *arguments: Argument) -> None:
        """Raises a ValueError if values are outside the range and may not be."""
        if isinstance(self.range, str) or self.outside != "raise":
            return
        low, high = self.range
        for x in arguments:
            if x.low < low or x.high > high:
                values = x.tensor.to(torch.float64)
                outside = ((values < low) | (values > high)).to(torch.float64).mean()
                raise ArgumentValueError(
                    x.name,
                    f"expected values within range=({low}, {high}), got values from "
                    f"{x.low!r} to {x.high!r}, {float(outside):.3%} of them outside. Widen the "
                    "range, or pass outside='clip' or outside='drop'.",
                )

    def require_some_left(self, counts: Tensor, name: str) -> None:
        """Raises a ValueError if dropping what is outside has left a row without a count."""
        if self.outside == "drop" and not bool(counts.any(1).all()):
            where = " in a unit" if self.over == "units" else ""
            raise ArgumentValueError(
                name,
                f"expected values within range={self.range}, but outside='drop' left "
                f"none{where}. Widen the range.",
            )


def checked_range(bins: int, range: Any, over: str, outside: str) -> Range:
    """The range that the settings of a binning give, once they are known to fit together.

    Raises:
        TypeError: ``bins`` is no integer.
        ValueError: A setting is none of those that exist, or does not fit the others.
    """
    checks.require_integer(bins, 1, _MAX_BINS, "bins")
    checks.require_one_of(over, ["values", "units", "samples"], "over")
    checks.require_one_of(outside, ["raise", "clip", "drop"], "outside")
    if not isinstance(range, str):
        return _explicit_range(range)
    checks.require_one_of(range, ["dyadic", "minmax", "own"], "range")
    if outside != "raise":
        raise ArgumentValueError(
            "outside",
            f"expected 'raise' with range={range!r}, under which no value "
            f"lies outside, got {outside!r}. Give an explicit range=(low, high).",
        )
    if range == "dyadic" and bins < 2:
        raise ArgumentValueError(
            "bins",
            "expected at least 2 with range='dyadic', where zero is always an "
            f"edge, got {bins}. Use range='minmax' for a single bin.",
        )
    return cast("Range", range)


def _explicit_range(value: Any) -> tuple[float, float]:
    try:
        low, high = (float(edge) for edge in value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ArgumentValueError(
            "range",
            "expected 'dyadic', 'minmax', 'own' or a pair (low, high) of numbers, got "
            f"{checks.shown(value)}.",
        ) from error
    if not (math.isfinite(high - low) and low < high):
        raise ArgumentValueError("range", f"expected finite low < high, got ({low}, {high}).")
    return low, high
