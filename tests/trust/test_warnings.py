"""The plain functions warn where their number is bad, and are quiet where it is not."""

import math
import warnings

import pytest
import torch

import infoprobe as ip
from tests.estimators.samples import normal


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [each for each in caught if issubclass(each.category, ip.TrustWarning)]


class TestBad:
    def test_one_warning_with_the_finding_and_the_remedy(self):
        x, y = normal(200, 1), normal(200, 1, seed=1)
        (warning,) = told(lambda: ip.mutual_information(x, y, ip.Histogram()))
        assert issubclass(ip.TrustWarning, UserWarning)
        assert "with the pairs shuffled" in str(warning.message)
        assert "Use fewer bins" in str(warning.message)
        assert warning.filename == __file__

    @pytest.mark.parametrize(
        ("code", "call"),
        [
            ("missing-support", lambda: ip.kl_divergence(normal(500, 1), normal(500, 1) + 9)),
            (
                "squeezed-bins",
                lambda: ip.entropy(torch.cat([normal(5000, 1), torch.full((1, 1), 1e6)])),
            ),
            ("unique-samples", lambda: ip.entropy(normal(90, 9), ip.Histogram(over="samples"))),
            ("dimension-bias", lambda: ip.entropy(normal(500, 40), ip.KNN())),
            ("near-ceiling", lambda: ip.mutual_information(normal(500, 1), normal(500, 1))),
        ],
    )
    def test_kinds(self, code, call):
        (warning,) = told(call)
        assert f"[{code}]" in str(warning.message)

    def test_a_loss_is_not_looked_into(self):
        x = normal(500, 40).requires_grad_()
        assert told(lambda: ip.entropy(x, ip.KNN()).backward()) == []
        assert x.grad is not None
        with torch.no_grad():
            assert len(told(lambda: ip.entropy(x, ip.KNN()))) == 1


def independent(n, d, seed=0):
    return normal(n, d, seed=seed), normal(n, d, seed=seed + 1)


def labelled(seed):
    labels = torch.arange(1000) % 10
    return 10 * labels[:, None] + normal(1000, 1, seed=seed), labels


def symbols(seed):
    x = (normal(20_000, 9, seed=seed) > 0).float()
    return x, (x.sum(1) + normal(20_000, 1, seed=seed + 1)[:, 0] > 4.5).long()


def pair(seed, n=2000):
    x, y = independent(n, 1, seed)
    return x, 0.6 * x + 0.8 * y


# The measure, the estimator and the data by seed.
CLEAN = [
    ("entropy", ip.KNN(), lambda seed: [normal(1500, 2, seed=seed)]),
    ("entropy", ip.KNN(), lambda seed: [normal(1500, 3, seed=seed)]),
    ("entropy", ip.KNN(calibration="gaussian"), lambda seed: [normal(800, 50, seed=seed)]),
    ("entropy", ip.Gaussian(), lambda seed: [normal(1500, 5, seed=seed)]),
    ("entropy", ip.Gaussian(), lambda seed: [normal(1500, 100, seed=seed)]),
    ("entropy", ip.Histogram(), lambda seed: [normal(100_000, 1, seed=seed)]),
    ("entropy", ip.Histogram(2, over="samples"), lambda seed: symbols(seed)[:1]),
    ("mutual_information", ip.KNN(), pair),
    ("mutual_information", None, pair),
    ("mutual_information", None, lambda seed: independent(1000, 3, seed)),
    ("mutual_information", ip.KNN(), labelled),
    ("mutual_information", None, labelled),
    ("mutual_information", ip.Histogram(2, over="samples"), symbols),
    ("mutual_information", ip.Histogram(12), lambda seed: pair(seed, 20_000)),
    ("kl_divergence", ip.KNN(), lambda seed: independent(1500, 2, seed)),
    (
        "kl_divergence",
        ip.Histogram(63, range=(-8, 8), pseudocount=1),
        lambda seed: [normal(50_000, 1, seed=seed), 1.1 * normal(40_000, 1, seed=seed + 1)],
    ),
]


def test_quiet_when_all_is_well():
    """At most one false finding in thirty."""
    asked, false = 0, []
    for measure, estimator, draw in CLEAN:
        for seed in (0, 10, 20):
            data = list(draw(seed))
            by = estimator or ip.choose(measure, *data).estimator
            found = ip.diagnose(*data, by, measure=measure)
            false += [(measure, by, str(finding)) for finding in found]
            asked += 1
    assert len(false) <= asked / 30, false


def test_no_warning_when_all_is_well():
    x, y = pair(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(ip.mutual_information(x, y)) == pytest.approx(-math.log(0.8), abs=0.07)
        ip.mutual_information(*labelled(0))
        ip.entropy(x)
        ip.entropy([0.0, 1.0, 2.0, 3.0])
        ip.entropy(torch.arange(10))
        ip.js_divergence(x, y)
        ip.kl_divergence(x, y, ip.Gaussian())
