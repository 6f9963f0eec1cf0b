"""Bounds on what two views share, against closed forms and pair by pair."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.views import (
    TEMPERATURES,
    best_temperature,
    difference_of_entropies,
    infonce,
    most_of_infonce,
)
from tests.textbook_sequences import textbook_infonce

JOINT = ip.MatrixRenyi()


def views(n, noise, d=3):
    x = torch.randn(n, d)
    return x + noise * torch.randn(n, d), x + noise * torch.randn(n, d)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_infonce_is_its_definition_and_its_error_the_jackknife_of_it(temperature):
    x, y = views(33, 0.5)
    value, stderr = infonce(x, y, temperature)
    truth = textbook_infonce(x.double().numpy(), y.double().numpy(), temperature)
    assert value.item() == pytest.approx(truth, abs=1e-10)
    assert stderr is not None
    left_out = torch.tensor(
        [
            infonce(x[i != torch.arange(33)], y[i != torch.arange(33)], temperature)[0]
            for i in range(33)
        ]
    )
    jackknife = (32 / 33 * (left_out - left_out.mean()).square().sum()).sqrt().item()
    assert 0.5 * jackknife < stderr.item() < 2 * jackknife


def test_infonce_is_below_the_truth_and_grows_with_it():
    found = []
    for noise in (2.0, 1.0, 0.5):
        # Views x + noise have the correlation 1 / (1 + noise^2) in each of three coordinates.
        correlation = 1 / (1 + noise**2)
        truth = -1.5 * math.log(1 - correlation**2)
        value, stderr = infonce(*views(1000, noise), 0.3)
        assert value.item() - 3 * stderr.item() < truth
        found.append(value.item())
    assert found == sorted(found)


def test_independent_views_share_nothing():
    x, y = torch.randn(2, 200, 4)
    value, stderr = infonce(x, y, 1.0)
    assert value.item() < 3 * stderr.item()
    assert difference_of_entropies(x, y, JOINT, 5).item() == pytest.approx(0, abs=0.02)


def test_equal_views_reach_ln_n():
    x = torch.eye(16)
    assert infonce(x, x, 0.01)[0].item() == pytest.approx(math.log(16), abs=1e-10)


@pytest.mark.parametrize("temperature", [0.001, 0.1, 1.0])
def test_views_of_the_same_direction_bound_it(temperature):
    owners = torch.arange(60) % 7 * (torch.arange(60) % 3).clamp(max=1)
    different = torch.randn(7, 4)
    x, y = different[owners] * torch.rand(60, 1), torch.randn(60, 4)
    shares = torch.bincount(owners).double() / 60
    entropy, number = most_of_infonce(x, y)
    assert entropy == pytest.approx(torch.special.entr(shares).sum().item())
    assert number == 7
    assert most_of_infonce(y, x) == (entropy, number)
    assert most_of_infonce(y, y) == (pytest.approx(math.log(60)), 60)
    for a, b in ((x, x), (x, y), (x, x + 0.1 * y)):
        assert infonce(a, b, temperature)[0].item() <= entropy + 1e-9
    assert infonce(x, x, 0.001)[0].item() == pytest.approx(entropy, abs=1e-3)


def test_views_without_a_direction_are_refused():
    with pytest.raises(ArgumentValueError, match="1 of 5 that are zero"):
        infonce(torch.cat([torch.zeros(1, 2), torch.randn(4, 2)]), torch.randn(5, 2), 0.1)


def test_the_difference_of_entropies_is_its_definition():
    x, y = views(40, 0.3)
    found = difference_of_entropies(x, y, JOINT, 200).item()
    generator = torch.Generator().manual_seed(7)
    broken = [
        JOINT.joint_entropy(x, y[torch.randperm(40, generator=generator)]).item()
        for _ in range(200)
    ]
    truth = sum(broken) / 200 - JOINT.joint_entropy(x, y).item()
    assert found == pytest.approx(truth, abs=0.03)
    assert found > 0.3


@pytest.mark.parametrize("noise", [0.5, 1.0, 100.0])
def test_the_best_temperature_gives_a_bound_near_the_truth(noise):
    torch.manual_seed(0)
    x, y = views(800, noise)
    truth = -1.5 * math.log1p(-1 / (1 + noise**2) ** 2)
    value, stderr = infonce(x, y, best_temperature(x, y))
    assert value < truth + 3 * stderr
    assert value > 0.4 * truth - 3 * stderr


def test_to_choose_the_temperature_hardly_raises_the_bound():
    excess = []
    for seed in range(40):
        torch.manual_seed(seed)
        x, y = torch.randn(100, 3), torch.randn(100, 3)
        value, stderr = infonce(x, y, best_temperature(x, y))
        excess.append(float(value / stderr))  # the truth is 0
    assert abs(sum(excess) / 40) < 1


def test_the_best_temperature_is_that_of_the_definition():
    x = torch.randn(40, 3)
    y = x + torch.randn(40, 3)
    bounds = {t: textbook_infonce(x.double().numpy(), y.double().numpy(), t) for t in TEMPERATURES}
    assert best_temperature(x, y) == max(bounds, key=bounds.get)
