"""Samples that are not Gaussian, given to an estimator for which they are."""

import math

import pytest
import torch

import infoprobe as ip


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def found(measure, *tensors, shrinkage=None):
    estimator = ip.Gaussian(shrinkage)
    findings = ip.diagnose(*tensors, estimator=estimator, measure=measure)
    return [finding for finding in findings if finding.code == "not-gaussian"]


def test_many_features_that_each_deviate_a_little():
    """A Laplace variable has 0.072 nats less entropy than a Gaussian of its variance."""
    uniform = torch.rand(2, 4000, 4, generator=torch.Generator().manual_seed(0))
    laplace = uniform[0].log() - uniform[1].log()
    (finding,) = found("entropy", laplace)
    each = math.log(2 * math.pi * math.e * 2) / 2 - 1 - math.log(2)
    assert finding.figure == pytest.approx(4 * each, abs=0.06)
    assert found("entropy", laplace[:, :1]) == []


def test_a_curve():
    x = noise(2000, 2)
    bent = torch.stack([x[:, 0], x[:, 1] + x[:, 0] ** 2], 1)
    assert found("entropy", bent)
    assert found("kl_divergence", bent, noise(2000, 2, seed=1))


def test_dependence_without_correlation():
    x = noise(2000, 1)
    y = noise(2000, 1, seed=1).abs() * x.sign() * noise(2000, 1, seed=2).sign()
    z = x * noise(2000, 1, seed=3).sign()
    assert found("mutual_information", x, z)
    assert found("total_correlation", torch.cat([x, z], 1))
    assert found("mutual_information", x, y) == []  # they are independent


@pytest.mark.parametrize(("n", "d"), [(60, 5), (300, 100), (1000, 20)])
@pytest.mark.parametrize("seed", range(4))
def test_gaussian_data(n, d, seed):
    x = noise(n, d, seed=seed) @ noise(d, d, seed=seed + 10)
    assert found("entropy", x) == found("mutual_information", x[:, :1], x[:, 1:]) == []


def test_features_that_are_constant_or_redundant():
    x = noise(200, 3)
    x[:, 1] = 2
    assert found("entropy", x, shrinkage=0.1) == []
    x[:, 1] = x[:, 0]
    assert found("entropy", x, shrinkage=0.1) == []
