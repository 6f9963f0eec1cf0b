import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.few_features import beyond_few_features, few_features
from tests.estimators.samples import generator, normal, uniform


def channel(n, k, keep, seed=0):
    """Symbols, most of which come through as others; and the information."""
    g = generator(seed)
    x, other = (torch.randint(k, (n, 1), generator=g) for _ in range(2))
    y = torch.where(torch.rand(n, 1, generator=g) < keep, (7 * x + 3) % k, other)
    again, wrong = keep + (1 - keep) / k, (1 - keep) / k
    return x, y, math.log(k) + again * math.log(again) + (k - 1) * wrong * math.log(wrong)


def one_hot(x, k):
    return torch.nn.functional.one_hot(x[:, 0], k).double()


class TestBound:
    @pytest.mark.parametrize(
        ("curve", "features"),
        [
            (lambda x: x[:, :1].square(), 1),
            (lambda x: (3 * x[:, :1]).sin(), 1),
            (lambda x: x[:, :1] * x[:, 1:2], 2),
            (lambda x: x[:, :2].norm(dim=1, keepdim=True), 2),
        ],
        ids=["square", "wave", "product", "length"],
    )
    def test_a_function_of_few_among_many(self, curve, features):
        x = normal(1500, 30)
        y = curve(x) + 0.3 * normal(1500, 1, seed=1)
        found = few_features(x, y)
        assert found.of_x == features
        expected = ip.KNN().mutual_information(x[:, :features], y)
        assert found.nats == pytest.approx(float(expected), abs=1e-9)
        (finding,) = beyond_few_features(0.0, x, y)
        assert (finding.code, finding.severity) == ("unseen-dependence", "error")
        assert not list(beyond_few_features(found.nats, x, y))

    @pytest.mark.parametrize("k", [5, 20])
    def test_symbols_however_they_are_written(self, k):
        x, y, truth = channel(3000, k, 0.8)
        for pair in (
            (x, y),
            (x.double(), y.float()),
            (one_hot(x, k), one_hot(y, k)),
            (x, one_hot(y, k)),
            (one_hot(x, k), y + 0.15 * normal(3000, 1)),
        ):
            found = few_features(*pair)
            assert found.nats == pytest.approx(truth, abs=0.1)
            assert found.nats - 2 * found.stderr < truth

    @pytest.mark.parametrize("n", [100, 200, 2000])
    def test_it_is_no_more_than_the_truth(self, n):
        for seed in range(5):
            x, noise = normal(n, 10, seed=seed), normal(n, 10, seed=seed + 100)
            for a, b, truth in (
                (x, noise, 0.0),
                (x[:, :1], noise[:, :1].exp(), 0.0),
                (x, 0.6 * x + 0.8 * noise, -10 * math.log(0.8)),
                ((3 * x).round(), (2 * noise[:, :1]).round(), 0.0),
                (x.relu(), uniform(n, 2, seed=seed), 0.0),
                channel(n, 8, 0.0, seed),
            ):
                found = few_features(a, b)
                assert found is None or found.nats - 2 * found.stderr < truth + 0.05

    def test_of_few_samples_or_copies_nothing_is_known(self):
        x = normal(99, 1)
        assert few_features(x, x) is None
        x, y = normal(300, 1), normal(300, 1, seed=1)
        for noise in (0.0, 1e-5):
            near = [torch.cat([v, v + noise * normal(300, 1, seed=2)]) for v in (x, y)]
            assert few_features(*near) is None


class TestCritic:
    def found(self, x, y, value):
        """Whether a value of a critic is found to lack something."""
        told = ip.Critic().diagnose("mutual_information", [x, y], torch.tensor(value))
        return "unseen-dependence" in {finding.code for finding in told}

    def test_a_loose_bound_is_told(self):
        x = normal(1500, 30)
        assert self.found(x, x[:, :1] * x[:, 1:2] + 0.3 * normal(1500, 1, seed=1), 0.4)
        symbols, other, truth = channel(1500, 20, 0.8)
        assert self.found(symbols.double(), other.double(), truth - 0.6)
        assert self.found(symbols, other, truth - 0.6)

    def test_a_tight_one_is_not(self):
        x, noise = normal(2000, 2), normal(2000, 2, seed=1)
        assert not self.found(x, 0.6 * x + 0.8 * noise, -2 * math.log(0.8) - 0.03)
        assert not self.found(x, noise, -0.01)
