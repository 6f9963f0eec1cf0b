"""Samples on a sphere or an ellipsoid are found, and others are not."""

import pytest
import torch
from torch.nn import functional as F

import infoprobe as ip
from infoprobe.estimators.protocols import estimate
from infoprobe.estimators.surfaces import on_a_surface
from tests.estimators.samples import normal

ON_A_SURFACE = {
    "unit length": F.normalize,
    "RMSNorm": lambda x: F.rms_norm(x, x.shape[1:], eps=1e-5),
    "RMSNorm in half precision": lambda x: F.rms_norm(x, x.shape[1:]).bfloat16(),
    "RMSNorm with gains": lambda x: (
        F.rms_norm(x, x.shape[1:]) * torch.linspace(0.5, 3, x.shape[1])
    ),
    "an ellipsoid": lambda x: F.normalize(x + 1) * torch.linspace(0.5, 3, x.shape[1]) + 5,
}
ELSEWHERE = {
    "Gaussian": lambda x: x,
    "far from 0": lambda x: x + 1e5,
    "uniform": lambda x: x.sigmoid(),
    "heavy tails": lambda x: x / torch.rand(len(x), 1, generator=torch.Generator().manual_seed(5)),
    "saturated": lambda x: (5 * x).tanh(),
    "log-normal": lambda x: (2 * x).exp(),
    "correlated": lambda x: x[:, :1] + 1e-2 * x,
    "a noisy sphere": lambda x: F.normalize(x) + 0.01 * x,
}


@pytest.mark.parametrize("d", [3, 32, 100])
@pytest.mark.parametrize("name", ON_A_SURFACE)
def test_a_surface_is_found(name, d):
    (finding,) = on_a_surface(ON_A_SURFACE[name](normal(800, d).float()), "x")
    assert (finding.severity, finding.code) == ("error", "thin-data")


def test_a_sphere_of_many_features_is_found():
    assert list(on_a_surface(F.normalize(normal(2000, 400)), "x"))


@pytest.mark.parametrize("d", [2, 8, 100, 300])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_others_are_not(name, d):
    for seed in range(3):
        assert not list(on_a_surface(ELSEWHERE[name](normal(4 * d + 100, d, seed=seed)), "x"))


@pytest.mark.parametrize("measure", ["entropy", "total_correlation"])
@pytest.mark.parametrize("estimator", [ip.Gaussian(), ip.KNN()], ids=repr)
def test_estimates_say_so(estimator, measure):
    x = F.normalize(normal(300, 32))
    codes = [finding.code for finding in estimate(estimator, measure, x).findings]
    assert codes.count("thin-data") == 1
