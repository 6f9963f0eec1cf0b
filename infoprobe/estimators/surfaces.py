"""Samples that lie on a sphere or an ellipsoid, where they have no density."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from infoprobe.estimators.covariance import at_unit_scale
from infoprobe.findings import Finding

# How much may be left of the terms that cancel, in all but one of a hundred samples: a number,
# roundings, or a share of what Gaussian samples of many features leave, which are near a sphere.
_LEFT, _ROUNDINGS, _OF_GAUSSIANS = 1e-3, 4, 0.1
_SAMPLES = 0.99
# Up to so many features, each may have a weight and a centre of its own.
_FEATURES = 256
# How many samples there must be for each feature.
_PER_FEATURE = 4


def on_a_surface(x: Tensor, name: str) -> Iterator[Finding]:
    r"""A finding if the features of samples (n, d) and their squares add up to a constant.

    .. math:: c + \sum_j a_j x_{ij} + b_j x_{ij}^2 = 0

    So do the outputs of RMSNorm, and vectors of unit length. Neighbours cannot tell such a surface
    from the whole space where there are many features.
    """
    n, d = x.shape
    if d < 2 or n < _PER_FEATURE * d or bool((x == x[0]).all(0).any()):
        return
    left = [_from_a_sphere(at_unit_scale(x, dim=None))]
    if d <= _FEATURES:
        scaled = at_unit_scale(x)
        centred = scaled - scaled.mean(0)
        z = centred / centred.square().mean(0).sqrt()
        linear = torch.cat([torch.ones_like(z[:, :1]), z], 1)
        if _left(linear) <= _most(x):
            return  # They are in a plane, or nearly, which is found by itself.
        left.append(_left(torch.cat([linear, z.square()], 1)))
    if min(left) <= _most(x):
        yield Finding(
            "error",
            f"the {d:,} features and their squares add up to a constant, as on a sphere: the "
            "entropy is minus infinity, and a total correlation infinite",
            min(left),
            "Measure before the normalisation, or compare by divergences and information.",
            name,
            code="thin-data",
        )


def _most(x: Tensor) -> float:
    """How much may be left of the terms for samples (n, d) on a surface."""
    rounding = _ROUNDINGS * torch.finfo(x.dtype).eps
    return min(max(_LEFT, rounding), _OF_GAUSSIANS / math.sqrt(2 * x.shape[1]))


def _from_a_sphere(x: Tensor) -> float:
    """How far nearly all samples are from a sphere about 0, in shares of what they vary by."""
    squares = x.square().sum(1)
    apart = (squares - squares.mean()).abs() / (2 * x.var(0).sum())
    return float(apart.quantile(_SAMPLES))


def _left(terms: Tensor) -> float:
    """How much is left of terms (n, m), weighted to cancel best, in nearly all samples."""
    scaled = terms / terms.norm(dim=0)
    weighted = scaled * torch.linalg.eigh(scaled.T @ scaled).eigenvectors[:, 0]
    left = weighted.sum(1).abs() / weighted.abs().sum(1)
    return float(left.quantile(_SAMPLES))
