"""Structure finer than the distance of neighbours, and tails that stretch bins."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import infoprobe as ip


def uniform(n: int, d: int, seed: int) -> Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cauchy(n: int, seed: int) -> Tensor:
    return (math.pi * (uniform(n, 1, seed) - 0.5)).tan()


def codes(measure: str, estimator: object, *tensors: Tensor) -> set[str]:
    return {f.code for f in ip.diagnose(*tensors, estimator, measure=measure)}


def test_a_checkerboard_against_uniform_samples() -> None:
    x = uniform(8000, 2, 0)
    black = x[(16 * x).floor().long().sum(1) % 2 == 0][:2500]
    assert "changes-with-k" in codes("kl_divergence", ip.KNN(), black, uniform(2500, 2, 1))
    smooth = uniform(2500, 2, 2)
    assert codes("kl_divergence", ip.KNN(), smooth, uniform(2500, 2, 1)) == set()


def test_edges_of_a_simplex() -> None:
    times = -uniform(2000, 6, 0).log()
    x = (times / times.sum(1, keepdim=True))[:, :5]
    assert "changes-with-k" in codes("entropy", ip.KNN(), x)
    assert codes("entropy", ip.KNN(), normal(2000, 3, 0)) == set()


def test_tails_that_the_second_sample_lacks() -> None:
    heavy = normal(3000, 2, 0) / normal(3000, 3, 1).square().mean(1, keepdim=True).sqrt()
    other = normal(3000, 2, 2) / normal(3000, 3, 3).square().mean(1, keepdim=True).sqrt()
    assert "distant-samples" in codes("kl_divergence", ip.KNN(), heavy, normal(3000, 2, 4))
    assert "distant-samples" not in codes("kl_divergence", ip.KNN(), heavy, other)


@pytest.mark.parametrize(
    ("measure", "estimator"),
    [
        ("kl_divergence", ip.Histogram(range="minmax", pseudocount=1)),
        ("cross_entropy", ip.Histogram(range="minmax", pseudocount=1)),
        ("js_divergence", ip.Histogram()),
        ("mutual_information", ip.Histogram(32)),
    ],
)
def test_heavy_tails_in_bins(measure: str, estimator: ip.Histogram) -> None:
    p = cauchy(10_000, 0)
    q = p + cauchy(10_000, 1) if measure == "mutual_information" else cauchy(10_000, 1) + 2
    assert "squeezed-bins" in codes(measure, estimator, p, q)
    x = normal(10_000, 1, 0)
    y = x + normal(10_000, 1, 1) if measure == "mutual_information" else normal(10_000, 1, 1) + 2
    assert "squeezed-bins" not in codes(measure, estimator, x, y)


def test_an_infinite_cross_entropy_says_why() -> None:
    x = uniform(1000, 1, 0)
    assert "missing-support" in codes("cross_entropy", ip.Histogram(), x, x / 2)
