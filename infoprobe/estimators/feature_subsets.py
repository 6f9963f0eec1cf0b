"""A few features, or directions, that show more by themselves than an estimate from all features.

Of two variables, a part of one tells no more than the whole, and two distributions differ no more
in some features than in all. So where a few features show more by themselves, an estimate misses
it: as of labels that are the exclusive or of two signs, for which no feature by itself says
anything, and which neighbours among many features do not see.

Of a divergence, the other variable is from which of the two a sample is. Candidates are found by
the products of functions of features that correlate with the other variable, and by the
directions along which its conditional covariances differ most (sliced average variance
estimation; Cook & Weisberg, 1991). They are chosen by one half of the samples and measured by
nearest neighbours on the other, so that the search among many is no bias.

References:
    R. D. Cook & S. Weisberg (1991). Discussion of "Sliced inverse regression for dimension
    reduction". J. Am. Stat. Assoc. 86(414).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentError
from infoprobe.estimators.feature_pairs import uniform, waves
from infoprobe.estimators.knn import kozachenko_leonenko, ksg
from infoprobe.estimators.knn.atoms import tied
from infoprobe.estimators.ranks import normal_scores
from infoprobe.findings import Finding

# The most samples that are looked at, and the fewest.
_MOST, _LEAST = 4000, 100
# The most functions of single features, the highest order of each, and those of the products of
# two and of three; and the most functions of the other variable.
_FUNCTIONS, _ORDERS, _TARGETS = (512, 128, 16), (32, 4, 1), 16
# Of so many directions candidates are made; each feature needs so many samples.
_DIRECTIONS, _PER_FEATURE = (1, 2, 4), 8
# How many neighbours measure a candidate.
_K = 3
# From which share of repeated samples on a variable is discrete.
_DISCRETE = 0.9
# From how many nats on, beyond so many standard errors, what an estimate lacks is worth a finding.
# Terms of neighbours depend on each other, by which the error of their mean is this much larger.
_NATS, _CERTAIN, _TOGETHER = 0.1, 2.5, 1.5
# From how many nats on it makes the number meaningless, and which share of the information does.
_MUCH, _SHARE = 1.0, 0.5


class _Pick(NamedTuple):
    """Features or directions of one variable that tell a feature of the other.

    Attributes:
        what: What they are.
        axes: They as columns, (d, r).
        told: The number of the feature that they tell.
    """

    what: str
    axes: Tensor
    told: int


class _Found(NamedTuple):
    """How much information they share with it, its standard error, and what they are.

    Attributes:
        nats: The information, or the relative entropy.
        noise: Its standard error.
        who: They as the subject of a sentence, with its verb.
    """

    nats: float
    noise: float
    who: str


def dependence_of_few(value: float, given_x: Any, given_y: Any) -> Iterator[Finding]:
    """A finding if a mutual information, in nats, is below that of a few features of a variable.

    Arguments:
        value: The estimate.
        given_x: Samples, (n, ...), or labels.
        given_y: Samples in pairs with them, or their labels.
    """
    x, y = (_as_symbols(checks.as_tensor(v, "x").detach()) for v in (given_x, given_y))
    if not x.is_floating_point():
        x, y = y, x
    if len(x) < _LEAST:
        return
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0), device="cpu")
    rows = order[: min(len(x) // 2 * 2, _MOST)].to(x.device)
    x, y = x[rows], y.to(x.device)[rows]
    remedy = "Measure these by themselves, or fewer features; compare with ip.Critic()."
    if not x.is_floating_point():
        remedy = "Use ip.Histogram(over='samples', correction='grassberger')."
        yield from _findings([_of_symbols(x, y)], value, remedy, "x, y")
        return
    x = x[:, (x != x[0]).any(0)]
    candidates = [found for sides in _sides(x, y) for found in _measured(*sides)]
    yield from _findings(candidates, value, remedy, "x, y")


def difference_of_few(value: float, given_p: Any, given_q: Any) -> Iterator[Finding]:
    """A finding if a relative entropy, in nats, is below that of a few features.

    The features are those that tell best from which of the two a sample is.

    Arguments:
        value: The estimate.
        given_p: Samples of the first distribution, (n, ...).
        given_q: Those of the second, (m, ...).
    """
    p, q = (checks.samples(checks.as_tensor(x, "p"), "p").detach() for x in (given_p, given_q))
    if min(len(p), len(q)) < _LEAST or p.shape[1] < 2:
        return
    generator = torch.Generator().manual_seed(0)
    sides = [
        x[torch.randperm(len(x), generator=generator, device="cpu")[:_MOST].to(x.device)].double()
        for x in (p, q.to(p.device))
    ]
    both = torch.cat(sides)
    varying = torch.cat([(x != x[0]).any(0, keepdim=True) for x in sides]).all(0)
    if not varying.any():
        return
    scores = normal_scores(both[:, varying])
    labels = torch.arange(len(both), device=p.device) >= len(sides[0])
    targets, told = _targets(labels)
    halves = [
        torch.cat([torch.arange(len(x), device=p.device) % 2 == half for x in sides])
        for half in (0, 1)
    ]
    picked = [_picks(scores[rows], targets[rows], told) for rows in halves]
    candidates = []
    for picks in zip(*picked, strict=False):
        try:
            terms = [
                kozachenko_leonenko.kl_divergence(
                    scores[rows & ~labels] @ pick.axes,
                    scores[rows & labels] @ pick.axes,
                    _K,
                    "euclidean",
                )
                for rows, pick in zip(reversed(halves), picks, strict=True)
            ]
        except ArgumentError:
            continue  # These features repeat, and have no density.
        candidates.append(_found(torch.cat(terms), picks[0]))
    remedy = "Measure these by themselves, or fewer features."
    yield from _findings(candidates, value, remedy, "p, q")


def _findings(
    candidates: Sequence[_Found], value: float, remedy: str, arguments: str
) -> Iterator[Finding]:
    """A finding if the best of the candidates shows more than an estimate."""
    if not candidates:
        return
    best = max(candidates, key=lambda found: found.nats - _CERTAIN * found.noise)
    amount = best.nats - max(value, 0.0)
    if amount > _NATS + _CERTAIN * best.noise:
        yield Finding(
            "error" if amount > min(_MUCH, _SHARE * best.nats) else "warning",
            f"{best.who} {best.nats:.2f} nats, of which {amount:.2f} are not in the estimate",
            amount,
            remedy,
            arguments,
            code="unseen-dependence",
        )


def _found(terms: Tensor, pick: _Pick) -> _Found:
    noise = _TOGETHER * float(terms.std()) / math.sqrt(len(terms))
    number = pick.axes.shape[1]
    several = f"{number} {pick.what} by themselves show"
    return _Found(
        float(terms.mean()),
        noise,
        several if number > 1 else f"a single {pick.what[:-1]} by itself shows",
    )


def _as_symbols(x: Tensor) -> Tensor:
    """The number of each sample's kind, (n,), where nearly all repeat; or else samples (n, d)."""
    if not x.is_floating_point() and x.dim() == 1:
        return x
    samples = checks.samples(x, "x").double()
    if float(tied(samples, 1).double().mean()) < _DISCRETE:
        return samples
    numbers: Tensor = torch.unique(samples, dim=0, return_inverse=True)[1]
    return numbers


def _of_symbols(x: Tensor, y: Tensor) -> _Found:
    """What the symbols of two variables share, less the bias of counting (Miller)."""
    n = len(x)
    kinds = [torch.unique(v, return_inverse=True, return_counts=True)[1:] for v in (x, y)]
    (of_x, times_x), (of_y, times_y) = kinds
    of_both, times = torch.unique(
        of_x * len(times_y) + of_y, return_inverse=True, return_counts=True
    )[1:]
    terms = (n * times[of_both] / (times_x[of_x] * times_y[of_y])).log()
    bias = (len(times) - len(times_x) - len(times_y) + 1) / (2 * n)
    noise = float(terms.std()) / math.sqrt(n)
    return _Found(float(terms.mean()) - bias, noise, "samples counted as symbols show")


def _sides(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Which variable's features may tell the other; labels tell by their values alone."""
    sides = [(x, y)]
    if y.is_floating_point():
        y = y[:, (y != y[0]).any(0)]
        sides = [(x, y), (y, x)]
    return [(known, other) for known, other in sides if known.numel() and other.numel()]


def _measured(known: Tensor, other: Tensor) -> Iterator[_Found]:
    """What the most telling features and directions of one variable tell of the other."""
    z, half = normal_scores(known), len(known) // 2
    targets, told = _targets(other)
    halves = [slice(half), slice(half, None)]
    picked = [_picks(z[rows], targets[rows], told) for rows in halves]
    for picks in zip(*picked, strict=True):
        terms = torch.cat(
            [
                _terms(z[rows] @ pick.axes, other[rows], pick.told)
                for rows, pick in zip(reversed(halves), picks, strict=True)
            ]
        )
        if len(terms) > half:
            yield _found(terms, picks[0])


def _terms(x: Tensor, other: Tensor, told: int) -> Tensor:
    """The terms of an estimate by neighbours; of labels, for those that are not rare."""
    if other.is_floating_point():
        return ksg.multi_information([x, other[:, told : told + 1]], _K, "euclidean")
    index, sizes = torch.unique(other, return_inverse=True, return_counts=True)[1:]
    common = sizes[index] > _K
    if int((sizes > _K).sum()) < 2:
        return x.new_empty(0)
    return ksg.with_labels(x[common], other[common], _K, "euclidean")


def _targets(y: Tensor) -> tuple[Tensor, Tensor]:
    """Functions of a variable, centred (n, m), and the number of the feature of each."""
    if y.is_floating_point():
        order = max(1, min(_ORDERS[1], _TARGETS // y.shape[1]))
        of_y = waves(uniform(y[:, :_TARGETS]), order)
        return of_y, torch.arange(of_y.shape[1], device=y.device) // order
    classes, sizes = torch.unique(y, return_counts=True)
    common = classes[sizes.topk(min(_TARGETS, len(sizes))).indices]
    indicators = (y.unsqueeze(1) == common).double()
    centred = indicators - indicators.mean(0)
    scaled = centred / centred.square().mean(0).sqrt().clamp(min=1 / len(y))
    return scaled, torch.zeros(len(common), dtype=torch.long, device=y.device)


def _picks(z: Tensor, targets: Tensor, told: Tensor) -> list[_Pick]:
    """The most telling features and directions of normal scores (n, d)."""
    n, d = z.shape
    found = []
    unit = torch.eye(d, dtype=z.dtype, device=z.device)
    for number, (most, highest) in enumerate(zip(_FUNCTIONS, _ORDERS, strict=True), 1):
        order = min(highest, most // d)
        if order and number <= d:
            squares = _squares(waves(torch.special.ndtr(z), order), targets, number, order)
            of_told = squares.new_zeros(int(told.max()) + 1, d**number)
            of_told.index_add_(0, told, squares)
            feature, place = divmod(int(of_told.argmax()), d**number)
            columns = [place // d**i % d for i in range(number)]
            found.append(_Pick("features", unit[:, columns], feature))
    if n >= _PER_FEATURE * d:
        directions = _directions(z, targets)
        strongest = int((targets.T @ z).square().sum(1).argmax())  # of several, one is measured
        found += (
            _Pick("directions", directions[:, :r], int(told[strongest]))
            for r in _DIRECTIONS
            if r < d
        )
    return found


def _squares(w: Tensor, targets: Tensor, number: int, order: int) -> Tensor:
    """Squared correlations of products of functions of different features: (m, d ** number)."""
    n, d = len(w), w.shape[1] // order
    found = []
    for target in targets.T:
        weighted = w * target.unsqueeze(1) / n
        if number == 1:
            squares = weighted.sum(0).square().view(d, order).sum(1)
        elif number == 2:
            squares = (w.T @ weighted).square().view(d, order, d, order).sum((1, 3))
            squares.fill_diagonal_(0)
        else:
            pairs = (w.unsqueeze(2) * weighted.unsqueeze(1)).flatten(1)
            squares = (pairs.T @ w).square().view(d, d, d)
            same = torch.eye(d, dtype=torch.bool, device=w.device)
            for alike in (same.unsqueeze(0), same.unsqueeze(1), same.unsqueeze(2)):
                squares = squares.masked_fill(alike, 0)
        found.append(squares.flatten())
    return torch.stack(found)


def _directions(z: Tensor, targets: Tensor) -> Tensor:
    """The directions (d, d) along which conditional means and covariances differ, most first."""
    n, d = z.shape
    centred = z - z.mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred / n)
    whitening = axes / values.clamp(min=values[-1] * torch.finfo(z.dtype).eps * d).sqrt()
    white = centred @ whitening
    differ = torch.zeros(d, d, dtype=z.dtype, device=z.device)
    for target in targets.T:
        weighted = white * target.unsqueeze(1) / n
        of_covariance, of_mean = white.T @ weighted, weighted.sum(0)
        differ += of_covariance @ of_covariance + torch.outer(of_mean, of_mean)
    directions: Tensor = whitening @ torch.linalg.eigh(differ).eigenvectors.flip(1)
    return directions
