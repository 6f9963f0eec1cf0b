"""Variables of many features, one of which is a function of the other, or nearly so."""

import pytest
import torch

import infoprobe as ip
from tests.estimators.samples import normal


def told(x, y):
    return "thin-data" in [finding.code for finding in ip.diagnose(x, y, ip.KNN())]


@pytest.mark.parametrize("n", [600, 2000])
@pytest.mark.parametrize("function", [torch.tanh, torch.nn.functional.leaky_relu, torch.sinh])
def test_functions_of_many_features(n, function):
    x = normal(n, 10)
    y = function(x @ normal(10, 10, seed=1) / 3)
    assert told(x, y)
    assert told(y, x)
    assert not told(x, y[torch.randperm(n, generator=torch.Generator().manual_seed(0))])


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("d", [2, 10, 20])
def test_channels_with_little_noise(d, noise):
    """The information is finite, and calibrated neighbours find it."""
    x = normal(1500, d)
    y = x @ normal(d, d, seed=1) / d**0.5 + noise * normal(1500, d, seed=2)
    assert not told(x, y)


def test_a_linear_map():
    x = normal(500, 10)
    assert told(x, x @ normal(10, 3, seed=1))
    assert told(x, torch.cat([normal(500, 3, seed=2), x[:, :1]], 1))
