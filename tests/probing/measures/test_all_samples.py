"""Gaussian measures of all samples, which are not kept."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.protocols import for_pairs
from tests.probing.helpers import Lambda, probed, save_and_load

ESTIMATORS = [ip.Gaussian(), ip.Gaussian(shrinkage=0.2)]


def model_of():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 5), nn.Tanh()).requires_grad_(False)


def batches(number=12):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(700, 5, generator=generator) * 0.7 + 0.3 for _ in range(number)]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_values_are_those_of_all_data_together(estimator):
    model, parts = model_of(), batches()
    measures = [
        ip.Entropy(estimator, samples=None),
        ip.TotalCorrelation(estimator, samples=None),
        ip.Divergence(estimator, samples=None),
        ip.Divergence(estimator, reference="0", samples=None),
    ]
    rows = probed(model, parts, measures).report().rows
    x = torch.cat(parts)
    a = model[0](x)
    b = model[1](a)
    divergence = for_pairs(estimator).kl_divergence
    expected = [
        *(estimator.entropy(a), estimator.total_correlation(a), divergence(x, a), None),
        *(estimator.entropy(b), estimator.total_correlation(b), *[divergence(a, b)] * 2),
    ]
    for row, value in zip(rows, expected, strict=True):
        if value is not None:
            # Which samples are in a fold of pairs depends on how they come.
            folds = row["measure"] == "divergence" and estimator.shrinkage is None
            rounding = 0.01 if folds else 1e-9
            assert row["value"] == pytest.approx(float(value), rel=rounding)
            assert row["n"] == len(x)
            assert row["findings"] == []
            assert 0 < row["stderr"] < 0.2 * max(abs(value), 1)


def test_errors_are_those_of_samples_in_groups():
    model, parts = model_of(), batches(40)
    streamed = probed(model, parts, ip.Entropy(ip.Gaussian(), samples=None)).report().rows
    kept = probed(model, parts, ip.Entropy(ip.Gaussian(), samples=10**6)).report().rows
    for one, other in zip(streamed, kept, strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-9)
        assert one["stderr"] == pytest.approx(other["stderr"], rel=0.5)


def test_merging_and_states():
    model, parts = model_of(), batches(6)
    measure = ip.Entropy(ip.Gaussian(), samples=None)
    a, b = probed(model, parts[:2], measure), probed(model, parts[2:], measure)
    again = ip.probe(model, measures=measure)
    again.load_state_dict(save_and_load(a.state_dict()))
    again.merge(b)
    again.remove()
    expected = [row["value"] for row in probed(model, parts, measure).report().rows]
    assert [row["value"] for row in again.report().rows] == pytest.approx(expected, rel=1e-12)


def test_data_without_a_density_are_refused():
    x = torch.randn(500, 4)
    for bad, message in (
        (torch.cat([x, x[:, :1]], 1), "linear combination"),
        (torch.cat([x, torch.full((500, 1), 0.1)], 1), "1 constant of 5"),
        (x[:3], "more samples than features"),
    ):
        probe = probed(nn.Identity(), bad.split(100), ip.Entropy(ip.Gaussian(), samples=None))
        (row,) = probe.report().rows
        assert row["value"] is None
        assert message in row["findings"][0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ip.Entropy(ip.KNN(), samples=None),
        lambda: ip.Entropy(samples=None),
        lambda: ip.Entropy(ip.Gaussian(shrinkage="ledoit-wolf"), samples=None),
        lambda: ip.MutualInformation(ip.Gaussian(), samples=None),
    ],
)
def test_others_need_samples(make):
    with pytest.raises(ArgumentValueError, match="expected the most samples to keep, got None"):
        make()


@pytest.mark.parametrize("samples", [None, 4096])
def test_total_correlation_leaves_constant_units_out(samples):
    """Of an equicorrelated Gaussian it is -1/2 ln((1 - r)^(d - 1) (1 + (d - 1) r))."""
    d, r = 70, 0.3
    x = (1 - r) ** 0.5 * torch.randn(4000, d) + r**0.5 * torch.randn(4000, 1) + 5
    x = torch.cat([torch.full((4000, 2), 0.1), x, torch.zeros(4000, 1)], 1)
    measure = ip.TotalCorrelation(samples=samples)
    (row,) = probed(nn.Identity(), x.split(500), measure).report().rows
    truth = -((d - 1) * math.log(1 - r) + math.log(1 + (d - 1) * r)) / 2
    assert abs(row["value"] - truth) < 3 * row["stderr"] < 1
    assert "3 of 73 units are constant" in row["findings"][0]
    assert len(row["findings"]) == 1
    (row,) = probed(Lambda(lambda x: x[:, :2]), [x], measure).report().rows
    assert row["value"] is None
    assert "constant" in row["findings"][0] or "vary" in row["findings"][0]
