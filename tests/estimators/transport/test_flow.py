import copy
import itertools
import math
import pickle
import types

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.transport import flow as module
from infoprobe.estimators.transport import triangular
from infoprobe.estimators.transport.flow import Flow
from tests.estimators.samples import generator

GAUSSIAN = math.log(2 * math.pi * math.e) / 2


def quick(**settings):
    return Flow(**{"hidden": 16, "steps": 50, **settings})


def banana(n, d, seed=0, dtype=torch.float32):
    """Every second coordinate is shifted by the square of the one before."""
    x = torch.randn(n, d, generator=generator(seed), dtype=dtype)
    x[:, 1::2] += x[:, : d - 1 : 2] ** 2
    return x


def clusters(n, d):
    centres = 6 * torch.randn(3, d, generator=generator(1))
    which = torch.randint(0, 3, (n,), generator=generator(2))
    return centres[which] + torch.randn(n, d, generator=generator(3))


def laplace(n, d):
    sign = torch.randint(0, 2, (n, d), generator=generator(1)) * 2 - 1
    return sign * torch.empty(n, d).exponential_(generator=generator(2))


def rotated(x):
    q, _ = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator(9)))
    return x @ q


def negative_log_likelihood(flow, x):
    """Of samples (n, d) their mean."""
    z, log_det = flow(x)
    return (z.square().sum(1) / 2 - log_det).mean() + z.shape[1] * math.log(2 * math.pi) / 2


def jacobians(flow, x):
    """Of each sample, (n, d, d), by automatic differentiation."""
    return torch.autograd.functional.jacobian(lambda x: flow(x)[0].sum(0), x).transpose(0, 1)


def start(x_fit, x_stop):
    """The map before training: no time is left for a step."""
    return Flow(seconds=1e-9).fit_map(x_fit, x_stop, 0)


@pytest.mark.parametrize(
    "x",
    [banana(600, 4), rotated(banana(600, 4)), clusters(600, 3), laplace(600, 2), banana(600, 1)],
    ids=["banana", "rotated banana", "clusters", "laplace", "d=1"],
)
class TestChangeOfVariables:
    def test_log_determinants_are_those_of_the_jacobian(self, x):
        flow = quick(components=3).fit_map(x[:400], x[400:500], 0)
        some = x[500:510].double()
        _, log_det = flow(some)
        exact = torch.linalg.slogdet(jacobians(flow, some)).logabsdet
        assert log_det.dtype == torch.float64
        torch.testing.assert_close(log_det, exact, rtol=0, atol=1e-6)

    def test_of_a_sample_rest_only_on_it(self, x):
        flow = quick().fit_map(x[:400], x[400:500], 0)
        z, log_det = flow(x[500:])
        alone, log_det_alone = flow(x[503:504])
        torch.testing.assert_close(z[3:4], alone)
        torch.testing.assert_close(log_det[3:4], log_det_alone)

    def test_inverse(self, x):
        flow = quick().fit_map(x[:400], x[400:500], 0)
        some = x[500:].double()
        z, log_det = flow(some)
        back, log_det_back = flow.inverse(z)
        torch.testing.assert_close(back, some, rtol=0, atol=1e-6)
        torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-6)


def test_is_what_the_library_takes_for_a_bijection():
    x = banana(600, 4, dtype=torch.float64)
    flow = quick().fit_map(x[:400], x[400:500], 0)
    check = ip.check_invertible(flow, x[500:])
    assert not check.findings, check
    change = ip.entropy_change(flow, x[500:])
    _, log_det = flow(x[500:])
    assert change.value.item() == pytest.approx(log_det.mean().item(), abs=1e-6)


def test_far_from_all_samples_it_is_still_exact():
    x = banana(600, 3, dtype=torch.float64)
    flow = quick().fit_map(x[:400], x[400:500], 0)
    far = torch.tensor([[100.0, -50.0, 30.0], [1e4, 1e4, -1e4]], dtype=torch.float64)
    z, log_det = flow(far)
    assert z.isfinite().all()
    exact = torch.linalg.slogdet(jacobians(flow, far)).logabsdet
    torch.testing.assert_close(log_det, exact, rtol=1e-8, atol=1e-6)


def test_normal_quantile_is_exact_in_the_tail():
    log_p = -torch.logspace(math.log10(math.log(2)), 8, 200, dtype=torch.float64)
    z = triangular._normal_quantile(log_p)
    torch.testing.assert_close(torch.special.log_ndtr(z), log_p, rtol=1e-12, atol=0)


class TestStart:
    def test_of_independent_features_is_a_map_of_each(self):
        x = laplace(3000, 4)
        flow = start(x[:2000], x[2000:2500])
        j = jacobians(flow, x[2500:2550].double())
        assert torch.equal(j, torch.diag_embed(j.diagonal(dim1=1, dim2=2)))
        excess = float(negative_log_likelihood(flow, x[2500:])) - 4 * (1 + math.log(2))
        assert abs(excess) < 0.3  # 500 samples vary by 0.09

    def test_regression_finds_the_terms_that_are_there(self):
        x = torch.randn(2000, 3, generator=generator(), dtype=torch.float64)
        x[:, 2] += 0.5 * x[:, 0] + 0.3 * (x[:, 1] ** 2 - 1)
        shift = triangular._significant_regression(x)
        expected = torch.zeros(3, 6, dtype=torch.float64)
        expected[2, 0], expected[2, 4] = 0.5, 0.6
        torch.testing.assert_close(shift, expected, rtol=0, atol=0.1)
        assert torch.equal(shift != 0, expected != 0)

    def test_regression_is_least_squares_with_a_ridge(self, monkeypatch):
        monkeypatch.setattr(triangular, "_SIGNIFICANT", 0)
        x = banana(500, 3, dtype=torch.float64)
        shift = triangular._significant_regression(x)
        f = torch.stack([x[:, 0], (x[:, 0] ** 2 - 1) / 2, x[:, 1], (x[:, 1] ** 2 - 1) / 2], 1)
        deviation = f.std(0)
        f = (f - f.mean(0)) / deviation
        ridge = torch.eye(4, dtype=torch.float64) * 6
        expected = torch.linalg.solve(f.T @ f + ridge, f.T @ (x[:, 2] - x[:, 2].mean()))
        expected = (expected / deviation)[[0, 2, 1, 3]]
        torch.testing.assert_close(shift[2, [0, 1, 3, 4]], expected)

    def test_a_feature_of_signs(self):
        x = torch.randn(1000, 2, generator=generator(), dtype=torch.float64)
        x[:, 0] = x[:, 0].sign() + 1e-3 * x[:, 0]
        z, log_det = start(x[:800], x[800:])(x)
        assert z.isfinite().all()
        assert log_det.isfinite().all()


def test_components_come_least_gaussian_first():
    x = torch.randn(4000, 4, generator=generator(), dtype=torch.float64)
    x[:, 2] = laplace(4000, 1)[:, 0]
    _, turned = module._frames(rotated(x.float()).double(), 0, math.inf)
    z, _ = turned(rotated(x.float()).double())
    found = torch.corrcoef(torch.cat([z, x], 1).T)[:4, 4:].abs()
    assert found[0, 2] > 0.98


class TestLearns:
    def test_a_banana(self):
        x = banana(6000, 2)
        flow = Flow(hidden=32, steps=200).fit_map(x[:3000], x[3000:3500], 0)
        excess = float(negative_log_likelihood(flow, x[3500:])) - 2 * GAUSSIAN
        assert abs(excess) < 0.06  # 2,500 samples vary by 0.02

    def test_a_dependence_that_is_not_quadratic(self):
        x = torch.randn(6000, 2, generator=generator())
        x[:, 1] = x[:, 1] * 0.2 + torch.sin(3 * x[:, 0])
        settings = {"hidden": 64, "steps": 400}
        before = float(negative_log_likelihood(start(x[:3000], x[3000:3500]), x[3500:]))
        flow = Flow(**settings).fit_map(x[:3000], x[3000:3500], 0)
        truth = 2 * GAUSSIAN + math.log(0.2)
        assert before - truth > 0.8
        assert float(negative_log_likelihood(flow, x[3500:])) - truth < 0.2

    def test_turned_data_through_independent_components(self):
        x = rotated(laplace(4000, 3))
        flow = quick().fit_map(x[:3000], x[3000:3500], 0)
        excess = float(negative_log_likelihood(flow, x[3500:])) - 3 * (1 + math.log(2))
        assert abs(excess) < 0.25  # 500 samples vary by 0.08

    def test_whatever_the_scale(self):
        x = banana(1000, 2)
        scale, shift = torch.tensor([1e-6, 1e6]), torch.tensor([3e-5, -2e7])
        flow, scaled = quick(), quick()
        a = negative_log_likelihood(flow.fit_map(x[:600], x[600:800], 0), x[800:])
        y = x * scale + shift
        b = negative_log_likelihood(scaled.fit_map(y[:600], y[600:800], 0), y[800:])
        assert float(b) == pytest.approx(float(a), abs=0.05)


class TestReproducible:
    def test_by_seed(self):
        x = rotated(banana(600, 3))
        z, again, other = (quick().fit_map(x[:400], x[400:], seed)(x)[0] for seed in (0, 0, 1))
        assert torch.equal(z, again)
        assert not torch.equal(z, other)

    def test_leaves_the_global_generator_alone(self):
        x = banana(600, 3)
        state = torch.get_rng_state()
        quick().fit_map(x[:400], x[400:], 0)
        assert torch.equal(state, torch.get_rng_state())

    def test_does_not_change_its_samples(self):
        x = banana(600, 3)
        before = x.clone()
        quick().fit_map(x[:400], x[400:], 0)(x)
        assert torch.equal(x, before)

    def test_whatever_the_defaults(self):
        x = banana(600, 3)
        expected = quick().fit_map(x[:400], x[400:], 0)(x)[0]
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        try:
            z = quick().fit_map(x[:400], x[400:], 0)(x)[0]
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
        assert torch.equal(z, expected)

    def test_pickled_and_copied(self):
        x = banana(600, 3)
        flow = quick().fit_map(x[:400], x[400:], 0)
        expected = flow(x)[0]
        assert torch.equal(pickle.loads(pickle.dumps(flow))(x)[0], expected)
        assert torch.equal(copy.deepcopy(flow)(x)[0], expected)

    def test_on_a_device(self, device):
        x = banana(600, 3).to(device)
        z, log_det = quick().fit_map(x[:400], x[400:], 0)(x)
        assert z.device == log_det.device == x.device
        assert z.isfinite().all()


def test_keeps_to_the_time(monkeypatch, bars):
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))  # a look, a tick
    monkeypatch.setattr(module, "time", clock)
    x = banana(1000, 5)
    Flow(hidden=16, steps=10**6, seconds=1.5, progress=True).fit_map(x[:800], x[800:], 0)
    first, second = bars
    assert 60 < first.steps <= 75
    assert 60 < second.steps <= 75


def test_stops_early(bars):
    x = torch.randn(300, 2, generator=generator())
    Flow(steps=600, progress=True).fit_map(x[:200], x[200:], 0)
    assert all(bar.steps < 600 for bar in bars)


def test_training_that_diverges_is_an_error():
    x = banana(600, 3)
    with pytest.raises(FloatingPointError, match="Pass a lower learning_rate"):
        quick(learning_rate=1e30).fit_map(x[:400], x[400:], 0)


def test_gradients_reach_the_samples_alone():
    x = banana(600, 3)
    flow = quick().fit_map(x[:400], x[400:], 0)
    some = x[:5].clone().requires_grad_()
    flow(some)[1].sum().backward()
    assert some.grad.isfinite().all()
    assert not any(parameter.requires_grad for parameter in flow.parameters())


def test_shows_progress(bars):
    x = banana(600, 3)
    quick(progress=True).fit_map(x[:400], x[400:], 0)
    assert [bar.name for bar in bars] == ["Flow, map 1 of 2", "Flow, map 2 of 2"]
    assert all(bar.total == 50 and 0 < bar.steps <= 50 and bar.closed for bar in bars)


class TestErrors:
    @pytest.mark.parametrize("name", ["components", "hidden", "steps", "batch"])
    def test_counts(self, name):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            Flow(**{name: 0})

    @pytest.mark.parametrize("name", ["learning_rate", "seconds"])
    def test_amounts(self, name):
        with pytest.raises(ValueError, match=f"{name}: expected a number above 0"):
            Flow(**{name: 0})

    @pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
    def test_dropout(self, dropout):
        with pytest.raises(ValueError, match="dropout: expected "):
            Flow(dropout=dropout)

    def test_more_components_than_samples(self):
        with pytest.raises(ValueError, match="components: expected no more than the 7 samples"):
            Flow(components=8).entropy(banana(12, 1))
