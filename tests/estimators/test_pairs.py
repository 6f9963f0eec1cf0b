"""Two samples that belong together row by row are found, and independent ones are not."""

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
