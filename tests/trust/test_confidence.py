import functools
import math

import pytest
import torch

import infoprobe as ip


def gaussian(n, d=1, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean(x):
    return x.mean()


@pytest.mark.parametrize("method", ["subsample", "bootstrap"])
def test_the_standard_error_of_a_mean(method):
    x = gaussian(2000)
    interval = ip.confidence_interval(mean, x, resamples=400, method=method)
    assert interval.value == x.mean()
    assert interval.stderr.item() == pytest.approx(1 / math.sqrt(2000), rel=0.15)
    assert interval.high.item() == pytest.approx(interval.value + 1.959964 * interval.stderr)
    assert interval.low.item() == pytest.approx(interval.value - 1.959964 * interval.stderr)


def test_it_is_the_error_over_fresh_samples():
    estimates = torch.stack([ip.KNN().entropy(gaussian(500, 2, seed)) for seed in range(60)])
    stderrs = [
        ip.confidence_interval(ip.KNN().entropy, gaussian(500, 2, seed)).stderr
        for seed in range(5)
    ]
    assert torch.stack(stderrs).mean().item() == pytest.approx(estimates.std().item(), rel=0.35)


def test_it_covers_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        interval = ip.confidence_interval(mean, gaussian(200, 1, seed), level=0.8, resamples=60)
        covered += bool(interval.low < 0 < interval.high)
    assert 140 <= covered <= 180  # 160 +- 3.5 standard deviations


def test_variables_are_drawn_together_and_samples_apart():
    x, y = gaussian(1000), gaussian(1000, seed=1)
    seen = []

    def together(a, b):
        seen.append((a, b))
        return a.mean()

    def kl_divergence(a, b):
        return together(a, b)

    ip.confidence_interval(together, x, x.clone(), resamples=3)
    assert all(torch.equal(a, b) for a, b in seen)
    assert [len(a) for a, _ in seen] == [1000, 500, 500, 500]
    seen.clear()
    ip.confidence_interval(functools.partial(kl_divergence), x, x.clone(), resamples=3)
    assert not any(torch.equal(a, b) for a, b in seen[1:])
    seen.clear()
    ip.confidence_interval(together, x, y[:400], resamples=2)
    assert [(len(a), len(b)) for a, b in seen] == [(1000, 400), (500, 200), (500, 200)]


def test_it_works_with_the_functions_and_labels():
    x = gaussian(600, 2)
    labels = (x[:, 0] > 0).long()
    ip.confidence_interval(ip.entropy, x, resamples=3)
    interval = ip.confidence_interval(ip.KNN().mutual_information, x, labels, resamples=20)
    assert interval.low < math.log(2) < interval.high + 0.1


def test_it_is_reproducible_and_leaves_the_global_generator_alone():
    x = gaussian(300)
    state = torch.random.get_rng_state()
    first, second = (ip.confidence_interval(mean, x) for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.random.get_rng_state())
    other = ip.confidence_interval(mean, x, generator=torch.Generator().manual_seed(5))
    assert other.stderr != first.stderr


def test_neighbours_refuse_a_bootstrap():
    with pytest.raises(ValueError, match=r"^in a bootstrap \(300 samples\): x: .* coincide with"):
        ip.confidence_interval(ip.KNN().entropy, gaussian(300), method="bootstrap")


def test_infinite_estimates_have_no_interval():
    with pytest.raises(ValueError, match=r"expected finite estimates, got \d+ of 50"):
        ip.confidence_interval(ip.Histogram().kl_divergence, gaussian(500), 2 * gaussian(500))


def test_the_interval_of_a_histogram_reaches_as_far_as_its_bias():
    h = ip.Histogram(16, (-4.0, 4.0), outside="clip")
    covered = 0
    for seed in range(20):
        x, y = gaussian(200, 1, seed), gaussian(200, 1, 900 + seed)  # independent
        interval = ip.confidence_interval(h.mutual_information, x, y, resamples=5)
        covered += bool(interval.low < 0 < interval.high)
    assert covered >= 17


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((3, gaussian(10)), {}, "measure: expected a method"),
        (("entropie", gaussian(10)), {}, "measure: expected one of 'entropy'"),
        ((mean,), {}, "tensors: expected the arguments"),
        ((lambda x: x.mean(0), gaussian(10)), {}, "measure: expected a single number"),
        ((mean, gaussian(10)), {"generator": 3}, "generator: expected a torch.Generator"),
        ((mean, gaussian(3)), {}, r"tensors\[0\]: expected at least 4 samples"),
        ((mean, gaussian(10)), {"level": 1.0}, "level: expected a probability"),
        ((mean, gaussian(10)), {"method": "jackknife"}, "method: expected one of"),
        ((mean, gaussian(10)), {"resamples": 1}, "resamples: expected an integer at least 2"),
    ],
)
def test_errors(arguments, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ip.confidence_interval(*arguments, **settings)
