"""A few features that show more by themselves than an estimate from all of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import infoprobe as ip
from infoprobe.estimators.feature_subsets import dependence_of_few, difference_of_few


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(n: int, d: int, seed: int) -> Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [6, 12, 30])
def test_labels_of_two_signs_are_told(d: int) -> None:
    x = normal(1000, d, 0)
    labels = (x[:, 1] * x[:, 4] > 0).long()
    (found,) = (f for f in ip.diagnose(x, labels, ip.KNN()) if f.code == "unseen-dependence")
    assert "2 features" in found.what
    value = float(ip.KNN().mutual_information(x, labels))
    assert 0.1 < found.figure < math.log(2) - value + 0.05
    assert list(dependence_of_few(math.log(2), x, labels)) == []
    assert list(dependence_of_few(value, labels, x)) == list(dependence_of_few(value, x, labels))


def test_rotated_directions_are_told() -> None:
    x = normal(1500, 10, 1)
    z = x @ torch.linalg.qr(normal(10, 10, 2)).Q
    labels = z[:, 0] * z[:, 1] > 0
    (found,) = dependence_of_few(float(ip.KNN().mutual_information(x, labels)), x, labels)
    assert "2 directions" in found.what


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("d", [1, 3, 10])
def test_nothing_is_found_without_dependence(d: int, seed: int) -> None:
    x, labels = normal(400, d, seed), uniform(400, 1, seed)[:, 0] > 0.4
    assert list(dependence_of_few(0.0, x, labels)) == []
    assert list(dependence_of_few(0.0, x, uniform(400, 2, seed + 50))) == []
    assert list(difference_of_few(0.0, x, normal(300, d, seed + 90))) == []


@pytest.mark.parametrize("written", ["labels", "numbers", "one-hot vectors"])
def test_symbols_that_a_critic_has_not_learned_are_told(written: str) -> None:
    k, keep, generator = 20, 0.8, torch.Generator().manual_seed(0)
    x, other = torch.randint(k, (2, 3000), generator=generator)
    y = torch.where(torch.rand(3000, generator=generator) < keep, (7 * x + 3) % k, other)
    again, wrong = keep + (1 - keep) / k, (1 - keep) / k
    truth = math.log(k) + again * math.log(again) + (k - 1) * wrong * math.log(wrong)
    if written == "numbers":
        x, y = x.double(), y.double()
    if written == "one-hot vectors":
        x, y = (torch.nn.functional.one_hot(v, k).float() for v in (x, y))
    (found,) = dependence_of_few(truth - 0.5, x, y)
    assert "counted as symbols" in found.what
    assert found.figure == pytest.approx(0.5, abs=0.05)
    assert list(dependence_of_few(truth - 0.05, x, y)) == []


def test_divergence_in_one_of_many_features_is_told() -> None:
    p, q = uniform(2000, 8, 0), uniform(2000, 8, 1)
    p[:, 3] = (torch.floor(10 * p[:, 3]) + uniform(2000, 1, 2)[:, 0] / 2) / 10
    (found,) = (
        f
        for f in ip.diagnose(p, q, ip.KNN(), measure="kl_divergence")
        if f.code == "unseen-dependence"
    )
    assert "a single feature" in found.what
    assert 0.3 < found.figure < math.log(2) + 0.1


def test_features_that_repeat_or_are_constant_raise_nothing() -> None:
    x = normal(500, 4, 0).relu()
    x[:, 0] = 1.0
    list(dependence_of_few(0.0, x, x[:, 1] > 0))
    list(dependence_of_few(0.0, x, x.round()))
    list(difference_of_few(0.0, x, normal(500, 4, 1).relu()))
    assert list(dependence_of_few(0.0, torch.ones(200, 2), torch.arange(200) % 2)) == []
    assert list(difference_of_few(0.0, torch.ones(200, 2), torch.ones(200, 2))) == []
