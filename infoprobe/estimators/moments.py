"""The mean and the covariance of all data, added up over batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate
from operator import add
from typing import Any, final

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.errors import GROUPS, jackknife, widened
from infoprobe.estimators.protocols import Estimate, method_of

# A symmetric matrix is kept, and computed, as panels of so many rows from the diagonal on: fewer
# where it is narrow.
_PANELS = ((64, 16), (128, 32))
_PANEL = 64

_TENSORS = ("n", "mean", "panels", "refused")

# Into how many groups samples are divided, by the most values of a sample.
_GROUPS = {256: GROUPS, 512: 16, 1024: 8}

# So many samples at most, or values of narrower ones, are converted and multiplied at once.
_ROWS, _VALUES = 512, 1 << 18

# So many samples tell about where the mean is, from which deviations lose no digits.
_FEW = 64


@dataclass(frozen=True, eq=False)
class SecondMoments:
    r"""The number of some samples, their mean, and the squares and products about it.

    Additive: ``a + b`` is what both streams together give, up to rounding in float64, whatever
    the order (Chan, Golub & LeVeque, 1979). Products are about the mean of each batch, so that a
    mean far from zero costs no digits.

    Attributes:
        n: The number of samples, 0-dim float64, on the device of the data.
        mean: Their mean, (d,) float64.
        panels: The upper triangle of :attr:`scatter`, panel by panel, one-dimensional.
        refused: The number of batches that were left out for values that are not finite.
        eps: The rounding of the data: that of the coarsest type they came in.
    """

    n: Tensor
    mean: Tensor
    panels: Tensor
    refused: Tensor
    eps: float

    @classmethod
    def none(cls, d: int) -> SecondMoments:
        """The moments of no samples, which would have d values."""
        zero = torch.zeros((), dtype=torch.float64, device="cpu")
        return cls(zero, zero.new_zeros(d), zero.new_zeros(_places(d)), zero, 0.0)

    @classmethod
    def of(cls, x: Tensor) -> SecondMoments:
        """The moments of samples (n, ...) of floating-point numbers.

        On the CPU, values that are not finite raise an error. On any other device nothing waits
        to look for them: the batch counts as :attr:`refused`.

        Raises:
            ValueError: A value is not finite.
        """
        eps = torch.finfo(x.dtype).eps
        if x.device.type == "mps":  # which has no float64
            x = x.to("cpu")
        x = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
        with torch.no_grad():
            panels = torch.zeros(_places(x.shape[1]), dtype=torch.float64, device=x.device)
            near = x[:: len(x) // _FEW + 1].to(torch.float64).mean(0)
            total = torch.zeros_like(near)
            size = min(len(x), max(_ROWS, _VALUES // x.shape[1]))
            memory = panels.new_empty(size, x.shape[1])  # fresh memory is slow
            for start in range(0, len(x), size):
                given = x[start : start + size]
                rows = memory[: len(given)].copy_(given).sub_(near)
                total += rows.sum(0)
                _add_products(panels, rows)
            apart = total / len(x)
            add_outer(panels, apart, total, -1)
            mean = near + apart
            n, finite = panels.new_full((), len(x)), mean.isfinite().all()
            if x.device.type == "cpu":
                _require_finite(x, finite)
                return cls(n, mean, panels, torch.zeros_like(n), eps)
            return cls(
                finite * n,
                torch.where(finite, mean, 0.0),
                torch.where(finite, panels, 0.0),
                1 - finite.to(torch.float64),
                eps,
            )

    def __add__(self, other: SecondMoments) -> SecondMoments:
        self.require_same_width(other)
        other = other.to(self.n.device)
        n = self.n + other.n
        apart = other.mean - self.mean
        share = other.n / n.clamp(min=1)
        panels = self.panels + other.panels
        add_outer(panels, apart, apart * (self.n * share))
        mean = self.mean + apart * share
        eps = max(self.eps, other.eps)
        return SecondMoments(n, mean, panels, self.refused + other.refused, eps)

    def require_same_width(self, other: SecondMoments) -> None:
        """Raises a ValueError unless the samples of both have as many values."""
        if self.d != other.d:
            raise ArgumentValueError(
                "x",
                f"expected samples of {self.d:,} values as before, got {other.d:,}. Pad the data "
                "to one shape, select tokens of them, or choose other layers.",
            )

    def require_varying(self, name: str) -> None:
        """Raises a ValueError if a feature of the samples is constant, up to rounding."""
        constant = int(self.constant.sum())
        if constant:
            raise ArgumentValueError(
                name,
                f"expected features that vary, got {constant:,} constant of {self.d:,}, which "
                "have no density. Choose layers without such units.",
            )

    @property
    def constant(self) -> Tensor:
        """Which values are the same in all samples, up to rounding: (d,), bool."""
        rounding = torch.finfo(torch.float64).eps * self.mean * 8
        return self.scatter.diagonal() <= self.n * rounding.square()

    def of_units(self, there: Tensor) -> SecondMoments:
        """The moments of some of the values: those that a mask (d,) has."""
        scatter = self.scatter[there][:, there]
        mean = self.mean[there]
        panels = self.panels.new_empty(_places(len(mean)))
        for i, panel in _views(panels, len(mean)):
            panel.copy_(scatter[i : i + len(panel), i:])
        return SecondMoments(self.n, mean, panels, self.refused, self.eps)

    def to(self, device: torch.device | str) -> SecondMoments:
        """The same moments on another device."""
        return SecondMoments(
            self.n.to(device),
            self.mean.to(device),
            self.panels.to(device),
            self.refused.to(device),
            self.eps,
        )

    @property
    def rounding(self) -> float:
        """The share of a feature's square that rounding alone may make."""
        return self.eps**2 + torch.finfo(torch.float64).eps

    @property
    def is_empty(self) -> bool:
        """Whether no batch came, not even one that was left out."""
        return not bool(self.n + self.refused)

    @property
    def d(self) -> int:
        """The number of values in a sample."""
        return len(self.mean)

    @property
    def scatter(self) -> Tensor:
        r""":math:`\sum_i (x_i - \bar x)(x_i - \bar x)^\top`, (d, d) float64."""
        matrix = self.panels.new_empty(self.d, self.d)
        for i, panel in _views(self.panels, self.d):
            matrix[i : i + len(panel), i:] = panel
            matrix[i:, i : i + len(panel)] = panel.T
        return matrix

    @cached_property
    def variances(self) -> Tensor:
        """The descending eigenvalues of the covariance: (d,), on the CPU."""
        return _eigenvalues(self.scatter / self.n)

    @cached_property
    def squares(self) -> Tensor:
        r"""The descending eigenvalues of :math:`\sum_i x_i x_i^\top`: (d,), on the CPU."""
        return _eigenvalues(self.scatter + self.n * self.mean.outer(self.mean))

    def state_dict(self) -> dict[str, Any]:
        """The moments as tensors and numbers."""
        tensors = {name: getattr(self, name).to("cpu", copy=True) for name in _TENSORS}
        return tensors | {"eps": self.eps}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> SecondMoments:
        """The moments that :meth:`state_dict` describes.

        Raises:
            ValueError: They are damaged.
        """
        tensors = {name: state[name] for name in _TENSORS}
        shapes = [(), (len(state["mean"]),), (_places(len(state["mean"])),), ()]
        for x, shape in zip(tensors.values(), shapes, strict=True):
            right = isinstance(x, Tensor) and x.shape == shape and x.dtype == torch.float64
            if not right or not bool(x.isfinite().all()):
                raise ArgumentValueError(
                    "state",
                    f"expected finite numbers of float64, of shape {shape}. It is damaged: load "
                    "what Probe.state_dict() gave, as it was.",
                )
        if bool(tensors["n"] < 0) or not 0 < state["eps"] < 1:
            raise ArgumentValueError(
                "state", "expected a number of samples from 0 on. It is damaged."
            )
        return cls(**{name: x.clone() for name, x in tensors.items()}, eps=float(state["eps"]))


@dataclass(frozen=True, eq=False)
@final
class GroupedMoments:
    """Moments of which it is also known how much each group of samples contributed.

    Attributes:
        parts: The moments of each group that has samples.
    """

    parts: Sequence[SecondMoments]

    @cached_property
    def total(self) -> SecondMoments:
        """The moments of all samples."""
        return reduce(add, self.parts)

    @cached_property
    def without(self) -> list[SecondMoments]:
        """The moments of all samples but those of each group in turn."""
        before = [*accumulate(self.parts[:-1])]
        after = [*accumulate(reversed(self.parts[1:]))][::-1]
        return [*after[:1], *map(add, before, after[1:]), *before[-1:]]

    def of_units(self, there: Tensor) -> GroupedMoments:
        """The moments of some of the values: those that a mask (d,) has."""
        return GroupedMoments([part.of_units(there) for part in self.parts])

    @cached_property
    def shares(self) -> Tensor:
        """The share of each group in the samples, (groups,), on the CPU."""
        n = torch.stack([part.n for part in self.parts]).to("cpu")
        return n / n.sum()

    def __len__(self) -> int:
        return int(self.total.n)


def groups_for(d: int) -> int:
    """Into how many groups samples of d values are divided: a matrix is kept for each."""
    return next((groups for most, groups in _GROUPS.items() if d <= most), 4)


def jackknifed_over_parts(estimator: object, measure: str, *given: GroupedMoments) -> Estimate:
    """The value of a measure from moments, and its standard error from their groups.

    Arguments:
        estimator: One whose methods take :class:`SecondMoments`.
        measure: The name of the method.
        given: Its arguments, of the same groups of samples.

    Raises:
        TypeError, ValueError: The method raises it, or there is no such measure.
    """
    method = method_of(estimator, measure)
    value = method(*(each.total for each in given))
    first, *others = given
    error = None
    if all(len(each.parts) == len(first.parts) for each in others) and len(first.parts) > 1:
        try:
            parts = zip(*(each.without for each in given), strict=True)
            without = torch.stack([method(*some) for some in parts])
        except ArgumentValueError:  # there are too few samples to do without some
            return Estimate(value, None, [])
        error = jackknife(value, without, first.shares.to(value))
    noise = None if error is None else widened(error.noise, error.degrees)
    return Estimate(value, noise, [])


def _require_finite(x: Tensor, finite: Tensor) -> None:
    if not bool(finite):
        checks.extent(x, "x")
        raise ArgumentValueError(
            "x", "expected values whose sum float64 can hold, got larger ones. Rescale them."
        )


def _places(d: int) -> int:
    """How many numbers the panels of a symmetric matrix (d, d) hold."""
    size = _panel(d)
    return sum(min(size, d - i) * (d - i) for i in range(0, d, size))


def _panel(d: int) -> int:
    """How many rows a panel has."""
    return next((rows for width, rows in _PANELS if d <= width), _PANEL)


def _views(panels: Tensor, d: int) -> Iterator[tuple[int, Tensor]]:
    """The first row of each panel, and the panel: (rows, columns from the first row on)."""
    start, size = 0, _panel(d)
    for i in range(0, d, size):
        rows, columns = min(size, d - i), d - i
        yield i, panels[start : start + rows * columns].view(rows, columns)
        start += rows * columns


def add_outer(panels: Tensor, a: Tensor, b: Tensor, sign: int = 1) -> None:
    """Adds the outer product of two vectors, which is symmetric, to the panels of a matrix."""
    for i, panel in _views(panels, len(a)):
        panel.addr_(a[i : i + len(panel)], b[i:], alpha=sign)


def _add_products(panels: Tensor, x: Tensor) -> None:
    for i, panel in _views(panels, x.shape[1]):
        panel.addmm_(x[:, i : i + len(panel)].T, x[:, i:])


def _eigenvalues(matrix: Tensor) -> Tensor:
    """The descending eigenvalues; those within rounding of zero are zero."""
    found = torch.linalg.eigvalsh(matrix).flip(0).to("cpu")
    rounding = len(found) * torch.finfo(torch.float64).eps * found[0]
    return torch.where(found.abs() <= rounding, 0.0, found)
