r"""Entropies and divergences of the bin that a value falls in."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.binning import Counts, DyadicGrid, UniformGrid, count, share

_MAX_BINS = 1 << 24


@dataclass(frozen=True)
class Histogram:
    r"""Plug-in estimates from a histogram: the random variable is the bin that a value falls in.

    With :math:`n_i` of :math:`N` values in bin :math:`i` of :math:`B`, and the pseudo-count
    :math:`a`,

    .. math:: \hat p_i = \frac{n_i + a}{N + a B}.

    All results are discrete quantities in nats, returned as 0-dim float64 tensors on the device
    of the (first) argument. They are not differentiable and never clamped.

    Arguments:
        bins: The number of bins :math:`B`; with ``range="dyadic"`` the most there may be, at
            least 2.
        range: Where the bins lie.

            * ``"dyadic"``: the finest grid whose bin width is a power of two, aligned at zero,
              that spans *all* arguments with at most ``bins`` bins. :math:`B` is the number of
              bins from the joint minimum to the joint maximum, more than half of ``bins``
              unless all values are nearly equal. Bins are shared by construction, and the
              result is the same whether the data come in one call or in batches.
            * ``"minmax"``: ``bins`` equal-width bins over the joint minimum and maximum of all
              arguments.
            * ``"own"``: each argument over its *own* minimum and maximum, bins compared by
              their index. This is the definition of Callahan & Paskett (2021), whose setting is
              ``Histogram(bins=1000, range="own", pseudocount=1)``. It is blind to any
              increasing affine map of either argument: ``2 * x + 1`` equals ``x``.
            * ``(low, high)``: ``bins`` equal-width bins over this range.
        over: ``"values"`` pools every scalar of a tensor, whatever its position, into one
            distribution.
        pseudocount: The :math:`a` above, added to each bin.
        outside: What an explicit ``(low, high)`` does with values outside: ``"raise"`` an error,
            ``"clip"`` them to the nearest edge, or ``"drop"`` them.

    Bias and limits:
        The plug-in entropy is biased downwards by about :math:`(K - 1) / 2N` with :math:`K`
        occupied bins (Miller, 1955), which assumes independent values; pixels of one image are
        not independent. The value depends on the bins: halving their width adds up to
        :math:`\ln 2` to an entropy. A divergence is infinite as soon as ``p`` has values in a
        bin where ``q`` has none and ``pseudocount`` is 0, and with a pseudo-count those bins
        contribute about :math:`\hat p_i \ln(\hat p_i N / a)`, which grows with the amount of
        data: see :meth:`uncovered`.

    References:
        | M. Callahan & D. Paskett (2021). Analyzing Information Loss of Invertible Variational
          Autoencoders. Section 3.
        | G. Miller (1955). Note on the bias of information estimates.

    Example:
        >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> ip.Histogram(bins=4).entropy(x)
        tensor(0.6931, dtype=torch.float64)
    """

    bins: int = 256
    range: Literal["dyadic", "minmax", "own"] | tuple[float, float] = "dyadic"
    over: Literal["values"] = "values"
    pseudocount: float = 0.0
    _: KW_ONLY
    outside: Literal["raise", "clip", "drop"] = "raise"

    def __post_init__(self) -> None:
        checks.integer(self.bins, 1, _MAX_BINS, "bins")
        checks.one_of(self.over, ["values"], "over")
        checks.one_of(self.outside, ["raise", "clip", "drop"], "outside")
        if isinstance(self.range, str):
            checks.one_of(self.range, ["dyadic", "minmax", "own"], "range")
            if self.outside != "raise":
                raise ValueError(
                    f"outside: expected 'raise' with range={self.range!r}, under which no value "
                    f"lies outside, got {self.outside!r}. Give an explicit range=(low, high)."
                )
            if self.range == "dyadic" and self.bins < 2:
                raise ValueError(
                    "bins: expected at least 2 with range='dyadic', where zero is always an "
                    f"edge, got {self.bins}. Use range='minmax' for a single bin."
                )
        else:
            object.__setattr__(self, "range", _explicit_range(self.range))
        checks.real(self.pseudocount, 0, "pseudocount")

    def entropy(self, x: Any) -> Tensor:
        r"""Shannon entropy :math:`H(X) = -\sum_i \hat p_i \ln \hat p_i`.

        Arguments:
            x: Tensor, array or :class:`~infoprobe.binning.Counts`, any shape.

        Raises:
            TypeError: ``x`` does not hold real numbers.
            ValueError: ``x`` is empty, not finite, outside an explicit range, or counts on other
                bins than this estimator's.
        """
        (p,) = self._probabilities(x=x)
        return (-torch.xlogy(p, p)).sum()

    def cross_entropy(self, p: Any, q: Any) -> Tensor:
        r"""Cross-entropy :math:`H(P, Q) = -\sum_i \hat p_i \ln \hat q_i = H(P) + KL(P \| Q)`.

        Arguments:
            p: Sample of the first distribution, any shape.
            q: Sample of the second; its shape and size may differ.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: An argument is empty, not finite, outside an explicit range, or counts on
                other bins than this estimator's.
        """
        p, q = self._probabilities(p=p, q=q)
        return (-torch.xlogy(p, q)).sum()

    def kl_divergence(self, p: Any, q: Any) -> Tensor:
        r"""Relative entropy :math:`KL(P \| Q) = \sum_i \hat p_i \ln (\hat p_i / \hat q_i)`.

        Infinite where ``p`` has mass in a bin that ``q`` leaves empty, unless ``pseudocount``
        is positive. Arguments and errors as in :meth:`cross_entropy`.
        """
        return _relative_entropy(*self._probabilities(p=p, q=q))

    def js_divergence(self, p: Any, q: Any) -> Tensor:
        r"""Jensen-Shannon divergence :math:`\tfrac12 KL(P \| M) + \tfrac12 KL(Q \| M)`.

        Here :math:`M = (P + Q) / 2`. It is symmetric, and at most :math:`\ln 2`. Arguments and
        errors as in :meth:`cross_entropy`.
        """
        p, q = self._probabilities(p=p, q=q)
        mixture = (p + q) / 2
        return (_relative_entropy(p, mixture) + _relative_entropy(q, mixture)) / 2

    def uncovered(self, p: Any, q: Any) -> Tensor:
        r"""The share of ``p``'s values that lie in bins where ``q`` has none.

        Where it is positive, :math:`KL(P \| Q)` is infinite, or a product of the pseudo-count.
        Arguments and errors as in :meth:`cross_entropy`.
        """
        a, b = (counts.values for counts in self._counts(p=p, q=q))
        return (a * (b == 0)).sum() / a.sum().to(torch.float64)

    def kl_at_zero(self, p: Any, q: Any) -> Tensor:
        r"""The part of :math:`KL(P \| Q)` that the edge at zero accounts for.

        That is how much less it is when the two bins beside zero are one. With
        ``range="dyadic"``, zero is always an edge, so that an atom at 0 (black pixels, the output
        of a ReLU) and the same atom with the least noise fall into one bin and into two. Without
        an edge at zero it is 0, and where the divergence is infinite either way, NaN. Arguments
        and errors as in :meth:`cross_entropy`.
        """
        a, b = self._counts(p=p, q=q)
        p, q = self._probability(a), self._probability(b)
        whole = _relative_entropy(p, q)
        (edge,) = (a.grid.edges()[1:-1] == 0).nonzero(as_tuple=True)
        if a.grid != b.grid or not len(edge):
            return torch.zeros_like(whole)
        left = int(edge)
        return whole - _relative_entropy(_merged(p, left), _merged(q, left))

    @property
    def without_pseudocount(self) -> Histogram:
        """The same bins: estimators that agree in this can share counts."""
        return dataclasses.replace(self, pseudocount=0.0)

    @property
    def streams(self) -> bool:
        """Whether data may come in batches: with ``"dyadic"`` and ``(low, high)``."""
        return self.range == "dyadic" or not isinstance(self.range, str)

    def count(self, x: Any) -> Counts:
        """Counts of ``x`` that can stand for it in every method, and be added up over batches.

        Only for ranges that need not know all the data beforehand (see :attr:`streams`).

        Example:
            >>> h = ip.Histogram()
            >>> a, b = torch.randn(1000), torch.rand(50)
            >>> bool(h.entropy(h.count(a) + h.count(b)) == h.entropy(torch.cat([a, b])))
            True

        Raises:
            TypeError: ``x`` does not hold real numbers.
            ValueError: ``x`` is empty, not finite, or outside an explicit range; or ``range``
                needs all the data at once.
        """
        self._require_streaming()
        return self._count(_Values(x, "x"))

    def _require_streaming(self) -> None:
        if not self.streams:
            raise ValueError(
                f"range: {self.range!r} needs all the values at once, so counts cannot be added "
                "up over batches. Use range='dyadic' or an explicit (low, high)."
            )

    def _check_grid(self, counts: Counts, name: str) -> None:
        self._require_streaming()
        if isinstance(self.range, str):
            same = isinstance(counts.grid, DyadicGrid) and counts.grid.bins == self.bins
        else:
            same = counts.grid == UniformGrid(*self.range, self.bins)
        if not same:
            raise ValueError(
                f"{name}: expected counts made by an estimator with bins={self.bins} and "
                f"range={self.range!r}, got counts on {counts.grid}. Count again with this one."
            )

    def _probabilities(self, **arguments: Any) -> list[Tensor]:
        return [self._probability(counts) for counts in self._counts(**arguments)]

    def _probability(self, counts: Counts) -> Tensor:
        smoothed = counts.values.to(torch.float64) + self.pseudocount
        return smoothed / (counts.total + self.pseudocount * counts.grid.size)

    def _counts(self, **arguments: Any) -> list[Counts]:
        """The counts of one or two arguments, bin for bin, on the device of the first."""
        for name, x in arguments.items():
            if isinstance(x, Counts):
                self._check_grid(x, name)
        values = {
            name: x if isinstance(x, Counts) else _Values(x, name) for name, x in arguments.items()
        }
        if self.range == "minmax":
            tensors = cast("list[_Values]", list(values.values()))
            joint = self._uniform(min(v.low for v in tensors), max(v.high for v in tensors))
            counted = [count(v.tensor, joint) for v in tensors]
        else:
            counted = [v if isinstance(v, Counts) else self._count(v) for v in values.values()]
        device = counted[0].values.device
        counted = [c.to(device) for c in counted]
        if self.streams and len(counted) == 2:
            counted = list(share(*counted))
        for name, c in zip(values, counted, strict=True):
            if c.total == 0:
                raise ValueError(
                    f"{name}: expected values within range={self.range}, but outside='drop' left "
                    "none. Widen the range."
                )
        return counted

    def _count(self, x: _Values) -> Counts:
        """Counts of a single argument."""
        if self.range == "dyadic":
            return count(x.tensor, DyadicGrid.spanning(x.low, x.high, self.bins))
        if self.range == "own":
            return count(x.tensor, self._uniform(x.low, x.high))
        low, high = cast("tuple[float, float]", self.range)
        return count(self._inside(x, low, high), UniformGrid(low, high, self.bins))

    def _uniform(self, low: float, high: float) -> UniformGrid:
        if not math.isfinite(high - low):
            raise ValueError(
                f"range: the values span {low} to {high}, which overflows float64. "
                "Rescale them, or use range='dyadic'."
            )
        return UniformGrid(low, high, self.bins)

    def _inside(self, x: _Values, low: float, high: float) -> Tensor:
        if low <= x.low and x.high <= high:
            return x.tensor
        values = x.tensor.to(torch.float64)  # where the edges are what the user wrote
        if self.outside == "clip":
            return values.clamp(low, high)
        inside = (values >= low) & (values <= high)
        if self.outside == "drop":
            return values[inside]
        share_outside = 1 - float(inside.to(torch.float64).mean())
        raise ValueError(
            f"{x.name}: expected values within range=({low}, {high}), got values from {x.low!r} "
            f"to {x.high!r}, {share_outside:.3%} of them outside. Widen the range, or pass "
            "outside='clip' or outside='drop'."
        )


class _Values:
    """A checked argument: its values, exact in floating point, and their extent."""

    def __init__(self, x: Any, name: str) -> None:
        self.name = name
        self.tensor = checks.exact_float(checks.as_tensor(x, name).detach(), name)
        self.low, self.high = checks.extent(self.tensor, name)


def _explicit_range(value: Any) -> tuple[float, float]:
    try:
        low, high = (float(edge) for edge in value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "range: expected 'dyadic', 'minmax', 'own' or a pair (low, high) of numbers, got "
            f"{value!r}."
        ) from error
    if not (math.isfinite(high - low) and low < high):
        raise ValueError(f"range: expected finite low < high, got ({low}, {high}).")
    return low, high


def _merged(p: Tensor, i: int) -> Tensor:
    """Probabilities with the bins ``i`` and ``i + 1`` as one."""
    return torch.cat([p[:i], p[i : i + 2].sum(0, keepdim=True), p[i + 2 :]])


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    support = p > 0
    p, q = p[support], q[support]
    return (p * (p / q).log()).sum()
