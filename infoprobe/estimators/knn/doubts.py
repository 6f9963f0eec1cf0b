"""Findings on samples that coincide, nearly coincide, or lie where there are none of the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from infoprobe.estimators.arguments import ENTROPY, Arguments
from infoprobe.estimators.covariance import rank_of
from infoprobe.estimators.knn.atoms import copies, near_copies, tied
from infoprobe.estimators.knn.scaling import spreads
from infoprobe.estimators.knn.surrogates import normal_scores, paired
from infoprobe.findings import Finding
from infoprobe.neighbors import Metric, nearest_neighbors, search

# The share of samples from which copies, near copies and ties are worth a finding.
_COPIES = 0.005
_TIES = 0.02
# The share of the samples of p that may lie where q has none, and from how many times the distance
# among those of q on they do.
_BEYOND, _APART = 0.05, 3.0
# How many dimensions must be missing; in how few at all, and of how many samples, it is told, and
# which share of Gaussian samples' dimensions must be.
_MISSING, _MOST_DIMENSIONS, _LEAST, _MOST, _TOLD = 0.8, 8, 200, 3000, 0.6
# From how many neighbours.
_NEIGHBORS = 10


def of_copies(variables: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Findings on rows that occur again, exactly or but for rounding."""
    factors, names = list(variables.values()), ", ".join(variables)
    for share, how in (
        (float((copies(factors) > 0).double().mean()), "copies of other rows"),
        (float(near_copies(_in_units(factors))), "copies of other rows but for rounding"),
    ):
        if share >= _COPIES:
            yield Finding(
                "warning",
                f"{share:.1%} of the rows are {how}, which look like information",
                share,
                "Remove the copies, such as those of a second epoch.",
                names,
                code="copied-samples",
            )


def of_ties(variables: Mapping[str, Tensor], k: int) -> Iterator[Finding]:
    """Findings on variables that are constant, or not continuous."""
    for name, x in variables.items():
        share = float(tied(x, k).double().mean())
        if bool((x == x[0]).all()):
            yield Finding(
                "warning",
                "it is constant, and tells nothing",
                1.0,
                "Check where it is from.",
                name,
                code="constant-variable",
            )
        elif share >= _TIES:
            yield Finding(
                "warning",
                f"{share:.1%} of its samples equal at least k={k} others, so that it is taken for "
                "a mixture of a discrete and a continuous variable",
                share,
                "If it stands for a continuous variable that was rounded, dequantise it.",
                name,
                code="mixed-variable",
            )


def of_distance(p: Tensor, q: Tensor, k: int, metric: Metric) -> Iterator[Finding]:
    """A finding if samples of p lie where q has none.

    They are several times as far from samples of q as these are from each other.
    """
    scale = spreads(p)
    p, q = p / scale, q / scale
    nearest = nearest_neighbors(q, k, p, metric=metric)
    own = nearest_neighbors(q, k, metric=metric).distances[:, -1]
    usual = own[nearest.indices].amax(1)
    share = float((nearest.distances[:, -1] > _APART * usual).double().mean())
    if share >= _BEYOND:
        yield Finding(
            "warning",
            f"{share:.1%} of the samples of the first lie where the second has none nearby: the "
            "divergence is larger than its estimate, and may be infinite",
            share,
            "Take it for a lower bound, or compare fewer features.",
            "p, q",
            code="distant-samples",
        )


def of_dimension(arguments: Arguments, variables: Mapping[str, Tensor]) -> Iterator[Finding]:
    """A finding if samples fill fewer dimensions than they have, near every one of them."""
    tensors = list(variables.values())
    joint = torch.cat([x.double() for x in tensors], 1)
    whole = _dimension(joint)
    if whole is None:
        return
    expected = float(joint.shape[1])
    if arguments.of_pairs:
        alone = [_dimension(x.double()) for x in tensors]
        expected = sum(x.shape[1] if d is None else d for x, d in zip(tensors, alone, strict=True))
    if whole > expected - _MISSING:
        return
    infinite = "entropy is minus infinity" if arguments is ENTROPY else "information is infinite"
    yield Finding(
        "warning",
        f"near each sample, the others fill about {whole:.1f} of {expected:.1f} dimensions: the "
        f"{infinite}, or decided by what is finer than the distance of neighbours",
        whole,
        "Leave out features that are functions of others, or add the noise that the measurement "
        "has.",
        arguments.all_names,
        code="thin-data",
    )


def _dimension(x: Tensor) -> float | None:
    """How many dimensions samples (n, d) fill; ``None`` where neighbours cannot tell.

    By Levina & Bickel (2004), relative to Gaussian samples with the same correlations; features
    are made Gaussian by their ranks, which does not change the number.
    """
    n, d = x.shape
    if d == 1 or d > _MOST_DIMENSIONS or n < _LEAST:
        return None
    scores = normal_scores(x[:: math.ceil(n / _MOST)])
    if rank_of(scores) < d:
        return None
    ((surrogate,),) = paired([scores], 1, 0)
    found, usual = _growth(scores), _growth(surrogate)
    return found / usual * d if usual > _TOLD * d and found == found else None


def _growth(x: Tensor) -> float:
    """The power of the distance with which the number of neighbours grows."""
    distances = search([x], _NEIGHBORS, None, "euclidean").distances
    ratios = distances[:, -1:].log() - distances[:, :-1].log()
    return float(1 / ratios[ratios.isfinite()].mean())  # not of duplicates


def _in_units(factors: list[Tensor]) -> list[Tensor]:
    units = [spreads(x) for x in factors]
    return [x.double() / unit.where(unit > 0, 1) for x, unit in zip(factors, units, strict=True)]
