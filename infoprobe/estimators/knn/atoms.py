"""Atoms and copies: samples that coincide, where a density cannot have them.

Estimates from nearest neighbours take logarithms of distances, so that samples without a distance
between them decide the estimate, or make it infinite. Samples that coincide are found by sorting,
before any search for neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from infoprobe.devices import ascending
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.covariance import at_unit_scale
from infoprobe.neighbors import equal_rows, fingerprints, occurrences, search

REMEDY = (
    "A density has no such atoms, and the estimate would be minus infinity or decided by them. "
    "Dequantise the data (add uniform noise as wide as their resolution), drop constant units, "
    "give labels as integers, or use an estimator of discrete variables such as ip.Histogram."
)

# Of the ties of a continuous feature, this share at least are copies of rows.
_OF_ROWS = 0.9
# Some samples may have a twin (float32 does not have many numbers), but no more than this share.
TWINS = 0.2
# No more than this share of rows may have a copy: it adds about as many nats.
_COPIES = 0.1

_COPIED = "Remove the copies: x.unique(dim=0) of the variables side by side, or one epoch only."

# Numbers of these types have few digits.
_SHORT = (torch.bfloat16, torch.float16)
# A step of less than this share of the range is no resolution: n values hardly meet on it.
_STEPS = 100
# How near to a multiple of the smallest step all others are on a grid.
_ON_GRID = 0.05
# So many distinct rows do not all come an even number of times by chance.
_BY_CHANCE = 20
# As many near copies of a row are recognised, by so many gaps between distances of neighbours.
_MOST_COPIES, _GAPS = 8, 12
# How seldom gaps are to be as wide as those that count, and from which logarithm on they do.
_LEVELS, _WIDE = (0.1, 0.03, 0.01, 0.003, 0.001), math.log(1.3)
# From how many standard deviations of chance on rows are near copies.
_CERTAIN = 4.0


def require_no_atoms(factors: Iterable[Tensor], k: int, name: str) -> None:
    """Raises a ValueError if in any of the factors (n, d) a sample coincides with k others."""
    require_untied(torch.stack([tied(factor, k) for factor in factors], 1), k, name)


def require_density(x: Tensor, k: int, name: str) -> None:
    """Raises a ValueError if a sample of (n, d) coincides with k others, or many with any."""
    times = equal_rows([x]).times
    require_untied((times > k).unsqueeze(1), k, name)
    twins = times > 1
    if twins.double().mean() > TWINS:
        require_untied(twins.unsqueeze(1), 1, name)


def require_no_copies(factors: Sequence[Tensor], k: int, name: str) -> None:
    """Raises a ValueError if a row of variables has k copies, or many rows have any."""
    number = copies(factors)
    for least, tolerated in ((k, 0.0), (1, _COPIES)):
        copied = number >= least
        if copied.double().mean() > tolerated:
            raise ArgumentValueError(
                name,
                f"expected samples that were drawn independently, but {int(copied.sum()):,} of "
                f"{len(copied):,} rows occur again, with all their values, at least {least} "
                f"times; such copies look like information. {_COPIED}",
            )


def require_untied(tied: Tensor, k: int, name: str) -> None:
    """Raises a ValueError if any of the samples, in any of the factors, is tied: (n, f)."""
    if not tied.any():
        return
    rows, features = int(tied.any(1).sum()), int(tied.any(0).sum())
    where = f" in one of its features ({features:,} have such)" if tied.shape[1] > 1 else ""
    raise ArgumentValueError(
        name,
        f"expected samples of a continuous variable, but {rows:,} of {len(tied):,} "
        f"coincide with at least k={k} others{where}. {REMEDY}",
    )


def tied(x: Tensor, k: int) -> Tensor:
    """Which samples of (n, d) coincide with at least k others: (n,), bool."""
    return equal_rows([x]).times > k


def copies(factors: Sequence[Tensor]) -> Tensor:
    r"""How many other rows are copies of each row of variables (n, d_f): (n,) int64.

    Values of one variable may well be tied: it may be discrete, rounded, or rectified. So may
    whole rows, if all variables are. A row that occurs several times, but not more than
    :math:`\sqrt n` times, is a copy of others

    * if *all* rows occur a multiple of g > 1 times, as when a data set is passed g times; or
    * if one of its features is continuous. Nine tenths of the ties of such a feature are ties of
      whole rows; its values lie on no grid, as numbers do that were rounded or counted; and its
      value in this row is neither 0 nor the least nor the greatest, where values pile up that
      were rectified or clipped.
    """
    rows = torch.cat([factor.detach().double() for factor in factors], 1)
    times = equal_rows([rows]).times
    most = math.isqrt(len(rows))
    repeated = (times > 1) & (times <= most)
    none = torch.zeros_like(times)
    if not repeated.any():
        return none
    many = int(times.max()) <= most and float((1 / times.double()).sum()) >= _BY_CHANCE
    if many and math.gcd(*torch.unique(times).tolist()) > 1:
        return times - 1
    copied = torch.zeros_like(repeated)
    for column in rows.unbind(1):
        if (suspects := repeated & ~copied).any():
            copied |= suspects & _continuous_ties(column, times, most)
    return torch.where(copied, times - 1, none)


def _continuous_ties(column: Tensor, times: Tensor, most: int) -> Tensor:
    """Where the values (n,) of a feature are tied though it is continuous, (n,) bool."""
    own = occurrences(fingerprints(column.unsqueeze(1)))
    tied = (own > 1) & (own <= most)
    tied &= (column != 0) & (column != column.min()) & (column != column.max())
    of_rows = tied & (own == times)
    if int(of_rows.sum()) < _OF_ROWS * int(tied.sum()) or _granular(column):
        return torch.zeros_like(tied)
    return of_rows


def near_copies(factors: Sequence[Tensor]) -> Tensor:
    r"""The share of rows that have others far nearer than chance lets them be, 0-dim float64.

    Such rows are copies up to rounding, in another precision, or with a little noise. Where a
    density is even over the nearest neighbours, in D dimensions, the logarithms
    :math:`m \ln (d_{m + 1} / d_m)` of their distances are exponential variables of the same mean
    1/D for all m. By the share p that one of k has of their sum, a gap after the m-th neighbour
    as wide as this has the probability :math:`(1 - p)^{k - 1}`, in whatever number of dimensions
    (R. A. Fisher's test of the largest spacing). For up to eight copies of a row, it is compared
    with the levels 0.1, 0.03, 0.01, 0.003 and 0.001; the largest share of rows beyond these is
    reported, if chance does not explain it. Rows whose neighbours are equally far, as on a grid,
    are not among them.
    """
    points = [_tamed(factor.detach()) for factor in factors]
    n = len(points[0])
    most = min(_GAPS, n - 2)
    if most < 2:
        return points[0].new_zeros(())
    distances = search(points, most + 1, None, "euclidean").distances
    gaps = (distances[:, 1:] / distances[:, :-1]).log()
    judged = (distances[:, 0] > 0) & (gaps > 0).all(1)
    terms = gaps * torch.arange(1, most + 1, device=gaps.device)
    parts = torch.where(judged.unsqueeze(1) & (gaps > _WIDE), terms / terms.sum(1, True), 0)
    looked_at = parts[:, : min(_MOST_COPIES, most - 1)]
    chance = looked_at.shape[1] * (1 - looked_at.amax(1)) ** (most - 1)
    levels = torch.tensor(_LEVELS, dtype=torch.float64, device=gaps.device)
    beyond = (chance.unsqueeze(1) < levels).double().mean(0) - levels
    # Near ones come in pairs, each of which is near to the other.
    noise = (2 * levels * (1 - levels) / n).sqrt()
    return torch.where(beyond > _CERTAIN * (noise + 1 / n), beyond, 0).amax()


def _tamed(x: Tensor) -> Tensor:
    """Features (n, d) in units of their quartiles' distance, with their tails shortened."""
    x = at_unit_scale(x)  # a range of numbers may be greater than the greatest number
    line = ascending(x, 0)
    n = len(line)
    low, first, median, third, high = (line[(n - 1) * i // 4] for i in range(5))
    scale = torch.where(first == third, high - low, third - first)
    return ((x - median) / scale.where(scale > 0, 1)).asinh()


def _granular(column: Tensor) -> bool:
    """Whether the values (n,) of a feature have a resolution at which some meet by chance."""
    if any(torch.equal(column.to(dtype).double(), column) for dtype in _SHORT):
        return True
    values = torch.unique(column)
    gaps = values.diff()
    step = gaps.min() if len(gaps) else None
    if step is None or (values[-1] - values[0]) / step > _STEPS * len(column):
        return False
    multiples = gaps / step
    return bool((multiples - multiples.round()).abs().max() <= _ON_GRID)
