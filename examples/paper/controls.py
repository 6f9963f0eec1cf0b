"""Pairs of images and what stands for their reconstructions, under every measure.

The controls need no model: of each one knows beforehand how much it has lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import infoprobe as ip
from paper.digit import PAPER

# Bins of a fixed width that all tensors share, centred at zero, where images have an atom.
FINE = ip.Histogram(bins=1025, range=(-8.0078125, 8.0078125), outside="clip", pseudocount=1)
COARSE = ip.Histogram(bins=257, range=(-8.03125, 8.03125), outside="clip", pseudocount=1)
RENYI = ip.MatrixRenyi(bandwidth="median")
#: Pairs for the matrices, whose time grows as n ** 3.
PAIRS = 500
#: Nearest neighbours see this many principal components of the images, few enough to do without
#: calibration, which the divergences of data that are not Gaussian would suffer from.
COMPONENTS = 4
NEIGHBOURS = ip.KNN(k=5)

SHIFTED = "other images: x in another order"
AFFINE = "0.9x + 0.05"

Interval = dict[str, float]

MEASURES = {
    "paper": "KL, paper's bins",
    "fine": "KL, shared bins of 1/64",
    "coarse": "KL, shared bins of 1/16",
    "neighbours": f"KL, k-NN on {COMPONENTS} components",
    "renyi": "I, matrix Rényi",
    "l1": "L1",
}


def controls(x: Tensor) -> dict[str, dict[str, Interval | None]]:
    """Every measure of each control."""
    return {name: compared(x, make(x)) for name, make in CONTROLS.items()}


def compared(x: Tensor, y: Tensor) -> dict[str, Interval | None]:
    """Every measure of images and what stands for their reconstructions, row by row.

    The paper's divergence has no interval: halves of the data have another expectation, since
    the pseudo-count decides it.
    """
    varies = bool((y != y[0]).any())
    few = min(PAIRS, len(x))
    return {
        "paper": _exactly(PAPER.kl_divergence(x, y)),
        "fine": interval(FINE.kl_divergence, x, y),
        "coarse": interval(COARSE.kl_divergence, x, y),
        "neighbours": _neighbours(x, y) if varies else None,
        # One image for all has no information.
        "renyi": _exactly(RENYI.mutual_information(x[:few], y[:few]) if varies else 0.0),
        "l1": interval(_l1, x, y),
    }


def interval(measure: Callable[..., Tensor], *tensors: Tensor) -> Interval:
    """A value with its interval of 95%: what other images would change."""
    found = ip.confidence_interval(measure, *tensors, resamples=20)
    return {"value": float(found.value), "low": float(found.low), "high": float(found.high)}


def _exactly(value: Any) -> Interval:
    return dict.fromkeys(("value", "low", "high"), float(value))


def _l1(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean(dtype=torch.float64)


def _neighbours(x: Tensor, y: Tensor) -> Interval | None:
    """Of every other image, and what stands for the rest: two independent samples."""
    p, q = x[::2].flatten(1).double(), y[1::2].flatten(1).double()
    mean = p.mean(0)
    axes = torch.linalg.svd(p - mean, full_matrices=False).Vh[:COMPONENTS].T
    return interval(NEIGHBOURS.kl_divergence, (p - mean) @ axes, (q - mean) @ axes)


def _noisy(scale: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + scale * torch.randn(x.shape, generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


CONTROLS: dict[str, Callable[[Tensor], Tensor]] = {
    SHIFTED: lambda x: x.roll(2, 0),
    "2x": lambda x: 2 * x,
    AFFINE: lambda x: 0.9 * x + 0.05,
    "1 − x": lambda x: 1 - x,
    "x + N(0, 0.001)": _noisy(0.001),
    "x + N(0, 0.01)": _noisy(0.01),
    "x + N(0, 0.1)": _noisy(0.1),
    "the mean image": lambda x: x.mean(0, keepdim=True).expand_as(x).clone(),
    "uniform noise": lambda x: torch.rand(x.shape, generator=_generator()),
    "zeros": torch.zeros_like,
}
