"""Controls: pairs of images and stand-ins for their reconstructions, under every measure.

The controls need no model: for each of them it is known beforehand how much has been lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import infoprobe as ip
from paper.digit import PAPER

# Bins of a fixed width that all tensors share. One is centred at zero, where images have an atom.
FINE = ip.Histogram(bins=1025, range=(-8.0078125, 8.0078125), outside="clip", pseudocount=1)
COARSE = ip.Histogram(bins=257, range=(-8.03125, 8.03125), outside="clip", pseudocount=1)
RENYI = ip.MatrixRenyi(bandwidth="median")
#: The number of pairs for the matrices, whose time grows as n ** 3.
PAIRS = 500
#: Nearest neighbours see this many principal components of the images: so few that they need no
#: calibration, which would falsify the divergences of data that are not Gaussian.
COMPONENTS = 4
NEIGHBOURS = ip.KNN(k=5)

SHIFTED = "other images: x in another order"
AFFINE = "0.9x + 0.05"
FAINT = "x + N(0, 0.01)"

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
    """Returns every measure of each control."""
    return {name: compared(x, make(x)) for name, make in CONTROLS.items()}


def compared(x: Tensor, y: Tensor) -> dict[str, Interval | None]:
    """Returns every measure of images and what stands for their reconstructions, in pairs.

    The paper's divergence has no interval: its pseudo-count decides it, so that parts of the data
    have another expectation.
    """
    varies = bool((y != y[0]).any())
    few = min(PAIRS, len(x))
    return {
        "paper": _exactly(PAPER.kl_divergence(x, y)),
        "fine": interval(FINE.kl_divergence, x, y),
        "coarse": interval(COARSE.kl_divergence, x, y),
        "neighbours": _neighbours(x, y) if varies else None,
        # If all reconstructions are the same image, they have no information.
        "renyi": _exactly(RENYI.mutual_information(x[:few], y[:few]) if varies else 0.0),
        "l1": interval(_l1, x, y),
    }


def interval(measure: Callable[..., Tensor], *tensors: Tensor) -> Interval:
    """Returns a value with its 95% interval: what other images would change."""
    found = ip.confidence_interval(measure, *tensors, resamples=20)
    return {"value": float(found.value), "low": float(found.low), "high": float(found.high)}


def _exactly(value: Any) -> Interval:
    return dict.fromkeys(("value", "low", "high"), float(value))


def _l1(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean(dtype=torch.float64)


def _neighbours(x: Tensor, y: Tensor) -> Interval | None:
    """Compares every other image with the stand-ins of the rest: two independent samples."""
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
    FAINT: _noisy(0.01),
    "x + N(0, 0.1)": _noisy(0.1),
    "the mean image": lambda x: x.mean(0, keepdim=True).expand_as(x).clone(),
    "uniform noise": lambda x: torch.rand(x.shape, generator=_generator()),
    "zeros": torch.zeros_like,
}
