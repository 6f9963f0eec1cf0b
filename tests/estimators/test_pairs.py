"""Two samples that belong together row by row are found, and independent ones are not."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.pairs import paired
from infoprobe.estimators.protocols import estimate, for_pairs
from tests.estimators.samples import normal


@pytest.mark.parametrize(
    "layer",
    [lambda x: 1.001 * x, lambda x: x + 0.05, torch.relu, lambda x: x.flip(1).exp(), torch.sin],
    ids=["scaled", "shifted", "relu", "flipped", "sine"],
)
def test_a_layer_is_found(layer):
    x = normal(400, 3)
    (finding,) = paired(x, layer(x))
    assert finding.code == "paired-samples"
    assert finding.figure > 0.3


def test_independent_samples_are_not():
    for seed in range(60):
        p = normal(200, 5, seed=seed)
        q = normal(200, 5, seed=1000 + seed)
        assert not list(paired(p, q))
        assert not list(paired(p.relu(), q.relu()))  # ties have no order
        assert not list(paired(p, q[:150]))


@pytest.mark.parametrize(
    "estimator", [ip.KNN(), ip.Gaussianization(), ip.Critic(bound="dv", steps=10)], ids=repr
)
def test_the_estimators_that_need_independence_say_so(estimator):
    p, q = normal(300, 2, seed=1), normal(300, 2, seed=2)
    assert for_pairs(estimator) is None
    codes = [
        [finding.code for finding in estimate(estimator, "kl_divergence", p, other).findings]
        for other in (1.1 * p, 1.1 * q)
    ]
    assert "paired-samples" in codes[0]
    assert "paired-samples" not in codes[1]


@pytest.mark.parametrize("estimator", [ip.Histogram(20, pseudocount=1), ip.Gaussian()], ids=repr)
def test_pairs_do_no_harm_where_each_distribution_is_found_by_itself(estimator):
    x = normal(4000, 1)
    truth = 0.0029  # of N(0, 1) from N(0.05, 1.05^2), by the closed form
    assert float(estimator.kl_divergence(x, 1.05 * x + 0.05)) == pytest.approx(truth, abs=0.002)


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_a_gaussian_of_pairs_is_unbiased(scale, noise):
    """The closed form of independent samples is off by -0.9 nats for a layer of 30 units."""
    of_pairs, variance = for_pairs(ip.Gaussian()), scale**2 + noise**2
    truth = 30 * (math.log(variance) / 2 + 1 / (2 * variance) - 0.5)
    found = []
    for seed in range(8):
        x = normal(500, 30, seed=seed)
        layer = scale * x + noise * normal(500, 30, seed=100 + seed)
        found.append(estimate(of_pairs, "kl_divergence", x, layer))
    values = torch.stack([each.value for each in found])
    errors = torch.stack([each.stderr for each in found])
    assert float((values - truth).abs().max()) < 3 * float(errors.mean())
    assert abs(float(values.mean()) - truth) < 3 * float(values.std()) / math.sqrt(8)
    assert not [x.code for each in found for x in each.findings]


def test_a_gaussian_of_pairs_by_hand():
    x = normal(300, 3)
    codes = [x.code for x in estimate(ip.Gaussian(), "kl_divergence", x, 1.1 * x).findings]
    assert codes == ["paired-samples"]
    codes = [x.code for x in estimate(ip.Gaussian(), "kl_divergence", x, x[:150]).findings]
    assert codes == ["shared-samples"]
    with pytest.raises(ValueError, match="at least 18 samples of 10 features, got 16"):
        for_pairs(ip.Gaussian()).kl_divergence(normal(16, 10), normal(16, 10, seed=1))
    with pytest.raises(ValueError, match="constant"):
        for_pairs(ip.Gaussian()).kl_divergence(x, x * torch.tensor([1.0, 1.0, 0.0]))


def test_a_shrunk_gaussian_is_plugged_in():
    shrunk = ip.Gaussian(shrinkage=0.2)
    assert for_pairs(shrunk) is shrunk
