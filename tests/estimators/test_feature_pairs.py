"""Dependence of single features, which an estimate may lack."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import infoprobe as ip
from infoprobe.estimators.feature_pairs import dependent_features, unseen_dependence


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(n: int, d: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    x, noise = normal(n, 2 * d, seed).split(d, 1)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97, 0.999])
@pytest.mark.parametrize(("n", "d"), [(60, 1), (200, 5), (2000, 1), (1000, 12)])
def test_a_gaussian_copula_has_no_dependence_beyond_its_own(rho: float, n: int, d: int) -> None:
    for seed in range(5):
        x, y = correlated(n, d, rho, seed)
        found = dependent_features(x.exp(), y**3)
        assert found.beyond == []
        assert found.least <= -math.log(1 - rho**2) / 2 + 1e-9


@pytest.mark.parametrize(
    "of",
    [
        lambda x, noise: (3 * x).sin() + 0.3 * noise,
        lambda x, noise: x.square() + 0.5 * noise,
        lambda x, noise: (0.1 + x.abs()) * noise,
    ],
)
def test_waves_squares_and_widths_of_one_feature_among_twenty_are_an_error(of) -> None:  # type: ignore[no-untyped-def]
    x, noise = normal(2000, 20, 0), normal(2000, 1, 1)
    y = of(x[:, :1], noise)
    (found,) = [f for f in ip.diagnose(x, y, ip.KNN()) if f.code == "unseen-dependence"]
    assert found.severity == "error"
    assert 0.1 < found.figure < 1
    with pytest.warns(ip.TrustWarning, match="unseen-dependence|single features"):
        ip.mutual_information(x, y, ip.KNN())


def test_nothing_is_found_where_the_estimate_shows_it() -> None:
    x = normal(1000, 1, 0)
    y = (3 * x).sin() + 0.3 * normal(1000, 1, 1)
    value = float(ip.KNN().mutual_information(x, y))
    assert list(unseen_dependence(value, x, y)) == []
    assert list(unseen_dependence(0.0, x, y))


def test_dependence_in_the_small_principal_components_is_found() -> None:
    x, small = normal(1000, 1, 0), normal(1000, 1, 1)
    both = torch.cat([x, x + 1e-3 * small], 1)
    y = small + 0.5 * normal(1000, 1, 2)
    value = float(ip.KNN(calibration="copula").mutual_information(both, y))
    truth = math.log(5) / 2
    assert value < truth / 4
    (found,) = unseen_dependence(value, both, y)
    assert found.severity == "error"
    assert "principal components" in found.what
    assert found.figure == pytest.approx(truth - value, abs=0.25)
    assert list(unseen_dependence(truth, both, y)) == []


def test_features_that_repeat_and_labels_are_left_alone() -> None:
    x, y = correlated(500, 1, 0.8, 0)
    assert dependent_features(x.relu(), y.relu()) == (0.0, [])
    assert list(unseen_dependence(0.0, x, (y[:, 0] > 0).long())) == []


@pytest.mark.parametrize("n", [2, 5, 49])
def test_few_samples_tell_nothing(n: int) -> None:
    x = normal(n, 2, 0)
    assert dependent_features(x, x.square()) == (0.0, [])
