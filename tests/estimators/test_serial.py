"""Consecutive samples that resemble each other."""

import pytest
import torch

import infoprobe as ip

ESTIMATORS = [
    ip.KNN(),
    ip.KNN(calibration="copula"),
    ip.Gaussian(),
    ip.MatrixRenyi(),
    ip.Histogram(bins=8, over="samples"),
    ip.Gaussianization(),
]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codes(x, y, estimator):
    return [finding.code for finding in ip.diagnose(x, y, estimator)]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_independent_walks_are_told(estimator):
    walks = noise(2, 400, 1).cumsum(1)
    assert "dependent-samples" in codes(*walks, estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_independent_samples_are_not(estimator):
    assert "dependent-samples" not in codes(*noise(2, 400, 1), estimator)


def test_one_variable_that_depends_on_its_past_is_enough_for_nothing():
    x, y = noise(2, 400, 1)
    assert "dependent-samples" not in codes(x.cumsum(0), y, ip.KNN())


def test_the_number_of_independent_samples_is_that_of_bartlett():
    """Two series x_t = 0.9 x_(t-1) + noise have 1 + 2 sum 0.81^k = (1 + 0.81) / (1 - 0.81)."""
    n, phi = 20_000, 0.9
    series = noise(2, n, 1, seed=1)
    for t in range(1, n):
        series[:, t] += phi * series[:, t - 1]
    found = ip.diagnose(*series, ip.Gaussian())
    (figure,) = [finding.figure for finding in found if finding.code == "dependent-samples"]
    assert figure == pytest.approx((1 + phi**2) / (1 - phi**2), rel=0.2)


def test_samples_that_were_sorted_by_a_variable():
    x = noise(1000, 1).sort(0).values
    assert codes(x, x + noise(1000, 1, seed=1), ip.KNN(calibration="copula")) == []


def test_labels_that_come_class_by_class():
    labels = torch.arange(4).repeat_interleave(100)
    x = labels[:, None] + noise(400, 1)
    assert "dependent-samples" not in codes(x, labels, ip.KNN())


def test_chance_among_many_features():
    x, y = noise(2, 128, 200)
    assert "dependent-samples" not in codes(x, y, ip.KNN(calibration="copula"))


def test_conditional_information():
    x, y, z = noise(3, 400, 1).cumsum(1)
    for condition in (z, noise(400, 1, seed=5)):
        found = ip.diagnose(
            x, y, condition, estimator=ip.KNN(), measure="conditional_mutual_information"
        )
        assert "dependent-samples" in [finding.code for finding in found]


@pytest.mark.parametrize("estimator", [ip.KNN(), ip.KNN(calibration="gaussian"), ip.Gaussian()])
def test_one_variable_by_itself(estimator):
    e = noise(500, 2)
    series = [e[0]]
    for each in e[1:]:
        series.append(0.95 * series[-1] + 0.3 * each)
    found = estimator.estimate("entropy", torch.stack(series)).findings
    assert "dependent-samples" in [finding.code for finding in found]
    assert estimator.estimate("entropy", e).findings == []
    assert estimator.estimate("entropy", e[:, :1].sort(0).values).findings == []


def texts(number, length, seed=0):
    """Tokens that are alike within a text, and a label for each text that has nothing to do."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(number, 1, 2, generator=generator)
    tokens = tokens + 0.1 * torch.randn(number, length, 2, generator=generator)
    labels = torch.randint(0, 2, (number, 1), generator=generator).expand(number, length)
    return tokens.flatten(0, 1), labels.flatten()


LABELLED = [ip.KNN(), ip.Histogram(bins=8, over="samples"), ip.Critic(steps=10)]


@pytest.mark.parametrize("estimator", LABELLED, ids=repr)
def test_texts_that_have_one_label_for_all_their_tokens(estimator):
    tokens, labels = texts(60, 10)
    assert "dependent-samples" in codes(tokens, labels, estimator)


def test_labels_of_independent_tokens():
    for seed in range(30):
        tokens, labels = texts(60, 10, seed)
        tokens = noise(*tokens.shape, seed=seed)
        tokens[:, 0] += labels  # classes differ, and within each nothing is alike
        assert "dependent-samples" not in codes(tokens, labels, ip.KNN())
