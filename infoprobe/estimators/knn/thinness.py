r"""Findings on samples that fill fewer dimensions than they have, as those of a function do.

The number of neighbours within a distance grows with a power of the distance: the number of
dimensions that the samples fill (Levina & Bickel, 2004). In many dimensions it comes out too low,
but comparisons remain. If y is a function of x, the pairs (x, y) fill as many dimensions as x
alone, and if x tells nothing of y, as many as with the pairs shuffled. With the growth g, what is
left of the dimensions of y when x is known is

.. math:: u = \frac{g(x, y) - g(x)}{g(x, y_\text{shuffled}) - g(x)}.

It is 0 within a tenth for rotations, for :math:`\tanh(A x)` and for layers of leaky ReLU in 4 to
20 dimensions, whatever the distribution of x, and of n = 3,000 Gaussian pairs of correlation 0.9
it is 1.0 in 1 + 1, 0.6 in 5 + 5, 0.3 in 10 + 10 and 0.2 in 20 + 20 dimensions. Where little
noise is added to a linear map of x, neighbours are too far away to see it, and u is 0, too. What
the best linear map leaves of y tells the two apart: of it, u is 0.8 or more if it is noise, and
0.5 to 0.7 if it is curvature.

References:
    E. Levina & P. Bickel (2004). Maximum likelihood estimation of intrinsic dimension. NIPS 17.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from infoprobe.estimators.arguments import ENTROPY, MUTUAL_INFORMATION, Arguments
from infoprobe.estimators.covariance import at_unit_scale, rank_of
from infoprobe.estimators.knn.atoms import tied
from infoprobe.estimators.knn.surrogates import paired
from infoprobe.estimators.ranks import normal_scores
from infoprobe.findings import Finding
from infoprobe.neighbors import search

# The severity of a finding, what it says, and its figure.
Reason: TypeAlias = tuple[Literal["warning", "error"], str, float]

# How many dimensions must be missing; in how few at all, and of how many samples, it is told, and
# which share of Gaussian samples' dimensions must be.
_MISSING, _MOST_DIMENSIONS, _LEAST, _MOST, _TOLD = 0.8, 8, 200, 3000, 0.6
# From how many neighbours.
_NEIGHBORS = 10
# Up to which share of a variable's dimensions is left, it is a function of the other, and which of
# those that a linear map leaves, which noise fills; and from how many standard errors on a
# variable is seen to have dimensions of its own.
_LEFT, _CURVED, _CERTAIN = 0.1, 0.75, 5.0
# From which share of values that do not repeat on a feature has a continuous part.
_ALONE = 0.1
# Which share of a feature's variance rounding leaves unexplained, of a copy in single precision.
_ROUNDING = 1e-9


def of_dimension(arguments: Arguments, variables: Mapping[str, Tensor]) -> Iterator[Finding]:
    """A finding if samples fill fewer dimensions than they have, near every one of them."""
    tensors = [x.double()[:, (x != x[0]).any(0)] for x in variables.values()]
    if arguments is MUTUAL_INFORMATION and all(x.numel() for x in tensors):
        tensors = _continuous(tensors)
    if not all(x.numel() for x in tensors):
        return  # It is told of what is constant, and discrete variables have little information.
    reasons = [_missing(arguments, tensors)]
    if arguments is MUTUAL_INFORMATION:
        reasons = [_combination(*tensors), _function(*tensors), *reasons]
    infinite = "entropy is minus infinity" if arguments is ENTROPY else "information is infinite"
    for severity, what, figure in itertools.chain(*reasons):
        yield Finding(
            severity,
            f"{what}: the {infinite}, or decided by what is finer than the distance of neighbours",
            figure,
            "Leave out features that are functions of others, or add the noise that the "
            "measurement has.",
            arguments.all_names,
            code="thin-data",
        )
        return


def _continuous(tensors: list[Tensor]) -> list[Tensor]:
    """What can make information infinite: features whose values hardly repeat, where none does.

    A discrete variable has no more information about another than its own entropy. So features
    that are discrete are left out, and then the samples that repeat in one of the variables, as
    those at 0 of a rectified one.
    """
    alone = [torch.stack([~tied(c.unsqueeze(1), 1) for c in x.T], 1) for x in tensors]
    tensors = [x[:, a.double().mean(0) > _ALONE] for x, a in zip(tensors, alone, strict=True)]
    if not all(x.shape[1] for x in tensors):
        return tensors
    repeated = torch.stack([tied(x, 1) for x in tensors]).any(0)
    return [x[~repeated] for x in tensors]


def _combination(x: Tensor, y: Tensor) -> Iterator[Reason]:
    """Whether a feature of y, or a linear combination, is one of x, or is so by its ranks."""
    if len(x) <= x.shape[1] + y.shape[1]:
        return
    for factors in ([x, y], [normal_scores(x), normal_scores(y)]):
        of_x, of_y = map(_axes, factors)
        cosines = torch.linalg.svdvals(of_x.T @ of_y)
        unexplained = 1 - float(cosines[0].square())
        if unexplained < _ROUNDING:
            what = "a feature of y, or a combination of features, is one of x"
            yield "error", what, unexplained


def _axes(x: Tensor) -> Tensor:
    """An orthonormal basis (n, rank) of the features, less their means."""
    scaled = at_unit_scale(x)
    centred = scaled - scaled.mean(0)
    scales = centred.norm(dim=0)
    u, singular, _ = torch.linalg.svd(centred[:, scales > 0] / scales[scales > 0], False)
    rounding: float = torch.finfo(x.dtype).eps * max(x.shape)
    basis: Tensor = u[:, singular > rounding * singular[:1]]
    return basis


def _function(x: Tensor, y: Tensor) -> Iterator[Reason]:
    """Whether neighbours in one variable are neighbours in the other."""
    if len(x) < _LEAST:
        return
    step = math.ceil(len(x) / _MOST)
    of_x, of_y = normal_scores(x[::step]), normal_scores(y[::step])
    for name, known, other, given in (("y", of_x, of_y, "x"), ("x", of_y, of_x, "y")):
        left = _left(known, other)
        if left < _LEFT and _left(known, _unexplained(other, known)) < _CURVED:
            yield (
                "error",
                f"near each sample of {given}, {name} fills no dimension of its own",
                left,
            )


def _left(known: Tensor, other: Tensor) -> float:
    """The share of the dimensions of one variable that is left when another is known.

    It is NaN where the samples are too few to see any dimension of the first.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(other), generator=generator, device="cpu").to(other.device)
    alone = _growth(known)
    both, apart = (_growth(torch.cat([known, each], 1)) for each in (other, other[order]))
    # Each sample tells the growth by 9 ratios, which vary by a third in the mean.
    noise = alone / math.sqrt((_NEIGHBORS - 1) * len(known))
    return (both - alone) / (apart - alone) if apart - alone > _CERTAIN * noise else math.nan


def _unexplained(y: Tensor, x: Tensor) -> Tensor:
    """The normal scores of what a linear map of x leaves of y."""
    centred, axes = y - y.mean(0), _axes(x)
    return normal_scores(centred - axes @ (axes.T @ centred))


def _missing(arguments: Arguments, tensors: list[Tensor]) -> Iterator[Reason]:
    """Whether all together fill fewer dimensions than Gaussian samples would."""
    joint = torch.cat(tensors, 1)
    whole = _dimension(joint)
    if whole is None:
        return
    expected = float(joint.shape[1])
    if arguments.of_pairs:
        alone = [_dimension(x) for x in tensors]
        expected = sum(x.shape[1] if d is None else d for x, d in zip(tensors, alone, strict=True))
    if whole <= expected - _MISSING:
        what = f"near each sample, the others fill about {whole:.1f} of {expected:.1f} dimensions"
        yield "warning", what, whole


def _dimension(x: Tensor) -> float | None:
    """How many dimensions samples (n, d) fill; ``None`` where neighbours cannot tell.

    It is relative to Gaussian samples with the same correlations; features are made Gaussian by
    their ranks, which does not change the number.
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
    """The power of the distance with which the number of neighbours grows; NaN of duplicates."""
    distances = search([x], _NEIGHBORS, None, "euclidean").distances
    ratios = distances[:, -1:].log() - distances[:, :-1].log()
    return float(1 / ratios[ratios.isfinite()].mean())
