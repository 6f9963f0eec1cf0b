import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import (
    Categorical,
    Cauchy,
    Exponential,
    Laplace,
    MixtureSameFamily,
    Normal,
    StudentT,
    Uniform,
)

import infoprobe as ip
from infoprobe.estimators.transport import marginals, negentropy


def number(value):
    return torch.tensor(value, dtype=torch.float64)


ONE, ZERO = number(1.0), number(0.0)
TWO_MODES = MixtureSameFamily(
    Categorical(number([0.5, 0.5])), Normal(number([-2.5, 2.0]), number([0.6, 1.0]))
)
DISTRIBUTIONS = {
    "gaussian": Normal(ZERO, ONE),
    "laplace": Laplace(ZERO, ONE),
    "uniform": Uniform(ZERO, ONE, validate_args=False),
    "exponential": Exponential(ONE),
    "two modes": TWO_MODES,
    "student": StudentT(number(3.0)),
    "cauchy": Cauchy(ZERO, ONE),
}


def draw(name, *shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DISTRIBUTIONS[name].sample(shape).double()


def of_all(n, seed=0):
    """A feature of each distribution."""
    columns = [draw(name, n, 1, seed=100 * i + seed) for i, name in enumerate(DISTRIBUTIONS)]
    return torch.cat(columns, 1)


@pytest.fixture(scope="module")
def fitted():
    """A map of all distributions, and new samples."""
    return marginals.fit(of_all(2000), of_all(300, seed=1)), of_all(300, seed=2)


class TestMap:
    def test_is_invertible_and_knows_its_volume(self, fitted):
        f, x = fitted
        check = ip.check_invertible(f, x)
        assert check.ok, check.verdict
        assert check.cancellation < 1e-9
        assert check.forward_error < 1e-9
        assert check.inverse_error < 1e-6

    def test_change_of_entropy_is_that_of_autograd(self, fitted):
        f, x = fitted
        claimed = ip.entropy_change(f, x[:50]).value
        exact = ip.entropy_change(lambda x: f(x)[0], x[:50]).value
        assert float(claimed) == pytest.approx(float(exact), abs=1e-9)

    def test_derivative_far_out(self, fitted):
        f, x = fitted
        far = (1e3 * x).T.contiguous().requires_grad_()
        z, logs = f.features(far)
        (slopes,) = torch.autograd.grad(z.sum(), far)
        assert torch.allclose(slopes.log(), logs, rtol=0, atol=1e-9)

    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50, unique=True))
    @settings(max_examples=50)
    def test_increases_everywhere(self, fitted, values):
        f, _ = fitted
        line = number(sorted(values)).unsqueeze(1).expand(-1, len(DISTRIBUTIONS))
        z, log_det = f(line)
        assert z.isfinite().all()
        assert log_det.isfinite().all()
        assert (z.diff(dim=0) >= 0).all()
        apart = line.diff(dim=0) > 1e-6 * (1 + line[1:].abs())
        assert (z.diff(dim=0)[apart] > 0).all()

    @given(st.lists(st.floats(-8, 8), min_size=1, max_size=50))
    @settings(max_examples=50)
    def test_comes_back_from_scores(self, fitted, values):
        f, _ = fitted
        z = number(values).unsqueeze(1).expand(-1, len(DISTRIBUTIONS))
        x, back = f.inverse(z)
        again, log_det = f(x)
        assert torch.allclose(again, z, rtol=0, atol=1e-8)
        assert torch.equal(back, -log_det)

    def test_is_continuous_with_its_derivative_at_the_knots(self, fitted):
        f, _ = fitted
        width = f.positions.diff().amin(1, keepdim=True)
        sides = [f.features(f.positions + side * 1e-7 * width) for side in (-1, 1)]
        for before, after in zip(*sides, strict=True):
            assert torch.allclose(before, after, rtol=0, atol=1e-5)

    def test_mass_in_the_tails_falls_by_a_power(self, fitted):
        f, _ = fitted
        far = f.positions[:, -1:] + number([1.0, 10.0, 100.0]) * 1e6
        masses = torch.special.log_ndtr(-f.features(far)[0])
        assert torch.allclose(masses.diff(), number(-2 * math.log(10)), atol=1e-3)


class TestFit:
    @pytest.mark.parametrize("name", DISTRIBUTIONS)
    def test_likelihood_of_new_samples(self, name):
        """Each feature is a data set of its own."""
        x, stop, new = (draw(name, n, 30, seed=s) for s, n in enumerate((8000, 1000, 8000)))
        found = marginals.fit(x, stop).log_likelihood(new).mean()
        lost = float(DISTRIBUTIONS[name].log_prob(new).mean() - found)
        limit = {"gaussian": 5e-4, "cauchy": 1e-2}.get(name, 4e-3)
        assert -1e-3 < lost < limit

    def test_entropy_of_features(self):
        x, stop, new = of_all(8000)[:, :5], of_all(1000, 1)[:, :5], of_all(8000, 2)[:, :5]
        z, log_det = marginals.fit(x, stop)(new)
        found = ip.KNN(calibration="gaussian").entropy(z) - log_det.mean()
        two_modes = -TWO_MODES.log_prob(TWO_MODES.sample((100_000,))).mean()
        exact = math.log(2 * math.pi * math.e) / 2 + (1 + math.log(2)) + 0 + 1 + two_modes
        assert float(found) == pytest.approx(float(exact), abs=0.08)

    def test_gaussian_features_are_mapped_by_straight_lines(self):
        f = marginals.fit(draw("gaussian", 8000, 50), draw("gaussian", 1000, 50, seed=1))
        straight = (f.slopes == f.slopes[:, :1]).all(1)
        assert straight.double().mean() > 0.8

    def test_features_do_not_mind_each_other(self):
        x, stop, new = of_all(1000), of_all(200, 1), of_all(100, 2)
        order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
        z, log_det = marginals.fit(x, stop)(new)
        other, same = marginals.fit(x[:, order], stop[:, order])(new[:, order])
        assert torch.allclose(other, z[:, order], rtol=0, atol=1e-9)
        assert torch.allclose(same, log_det, rtol=0, atol=1e-8)

    @given(st.floats(-3, 3), st.floats(-2, 2))
    @settings(max_examples=10)
    def test_invariant_to_shift_and_scale(self, shift, log_scale):
        x, stop, new = of_all(500), of_all(100, 1), of_all(100, 2)
        scale = 10**log_scale
        z, log_det = marginals.fit(x, stop)(new)
        same, less = marginals.fit(scale * x + shift, scale * stop + shift)(scale * new + shift)
        assert torch.allclose(same, z, rtol=0, atol=1e-4)
        assert torch.allclose(less + x.shape[1] * math.log(scale), log_det, rtol=0, atol=1e-3)

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_tiny_and_huge_scales(self, scale):
        x, stop, new = of_all(500), of_all(100, 1), of_all(100, 2)
        f = marginals.fit(scale * x, scale * stop)
        z, log_det = f(scale * new)
        plain, more = marginals.fit(x, stop)(new)
        assert torch.allclose(z, plain, rtol=0, atol=1e-6)
        assert torch.allclose(log_det + x.shape[1] * math.log(scale), more, rtol=0, atol=1e-6)
        assert torch.allclose(f.inverse(z)[0] / scale, new, rtol=1e-8, atol=1e-8)

    def test_outliers(self):
        x, stop, new = (draw("gaussian", n, 20, seed=s) for s, n in enumerate((4000, 500, 4000)))
        x[0], x[1], new[0] = 1e6, -1e6, 1e6
        f = marginals.fit(x, stop)
        z, log_det = f(new)
        assert z.isfinite().all()
        assert log_det.isfinite().all()
        lost = DISTRIBUTIONS["gaussian"].log_prob(new[1:]) - f.log_likelihood(new[1:])
        assert lost.mean() < 2e-2

    def test_spikes_far_narrower_than_the_range(self):
        """As the pixels at the border of digits."""
        parts = [draw("uniform", n, 5, seed=s) for s, n in enumerate((5000, 500, 5000))]
        x, stop, new = (torch.where(u < 0.8, u / 200, 5 * u - 4) for u in parts)
        exact = 0.8 * math.log(200) + 0.2 * math.log(0.2)
        found = marginals.fit(x, stop).log_likelihood(new).mean()
        assert float(found) == pytest.approx(exact, abs=0.1)

    @pytest.mark.parametrize("n", [10, 20, 50])
    def test_few_samples(self, n):
        f = marginals.fit(of_all(n), of_all(5, 1))
        new = of_all(100, 2)
        assert ip.check_invertible(f, new).ok
        assert f.log_likelihood(new).isfinite().all()

    def test_repeated_values(self):
        x = draw("gaussian", 500, 3)
        x[:250, 0] = 0
        assert marginals.fit(x, x[:100]).log_likelihood(x).isfinite().all()

    def test_needs_samples_that_vary(self):
        x = draw("gaussian", 100, 3)
        with pytest.raises(ValueError, match=r"x_fit: expected at least 10 samples, got 9\."):
            marginals.fit(x[:9], x)
        x[:, 1] = 3
        with pytest.raises(ValueError, match="x_fit: expected features that vary, got 1 constant"):
            marginals.fit(x, x)

    def test_leaves_global_state_alone(self):
        x = draw("gaussian", 100, 3)
        state = torch.get_rng_state()
        before = marginals.fit(x, x)(x)[0]
        torch.set_default_dtype(torch.float16)
        try:
            with torch.inference_mode():
                after = marginals.fit(x, x)(x)[0]
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(before, after)
        assert torch.equal(state, torch.get_rng_state())


class TestNegentropy:
    STATISTICS = (negentropy.spacings, negentropy.moments)

    def test_closed_forms(self):
        x = of_all(5000)[:, 1:4]
        gaussian = math.log(2 * math.pi * math.e) / 2
        exact = [gaussian + math.log(2) / 2 - 1 - math.log(2)]
        exact += [gaussian - math.log(12) / 2, gaussian - 1]
        found = negentropy.spacings(x) - negentropy.null(negentropy.spacings, 5000).mean
        assert found.tolist() == pytest.approx(exact, abs=0.05)

    def test_moments_are_near_for_what_is_nearly_gaussian(self):
        """Of sums of k Laplace numbers, it is about kurtosis**2 / 48 = (3 / k)**2 / 48."""
        x = draw("laplace", 50_000, 8, 4).sum(2)
        assert float(negentropy.moments(x).mean()) == pytest.approx(0.75**2 / 48, rel=0.35)

    @given(st.floats(-1e3, 1e3), st.floats(-9, 9))
    @settings(max_examples=20)
    def test_invariant_to_shift_and_scale(self, shift, log_scale):
        x = of_all(100)
        for statistic in self.STATISTICS:
            same = statistic(10**log_scale * (x + shift))
            assert torch.allclose(same, statistic(x), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("n", [30, 800])
    @pytest.mark.parametrize("statistic", STATISTICS)
    def test_null_distribution(self, statistic, n):
        found = statistic(3 * draw("gaussian", n, 1000, seed=7) + 1)
        mean, deviation = negentropy.null(statistic, n)
        assert float(found.mean()) == pytest.approx(mean, abs=4 * deviation / math.sqrt(600))
        assert float(found.std()) == pytest.approx(deviation, rel=0.2)

    @pytest.mark.parametrize("correlation", [0.0, 0.9])
    @pytest.mark.parametrize("d", [1, 10])
    def test_false_alarms(self, d, correlation):
        """The sum of squares of two numbers exceeds 3 deviations in 2% of all cases."""
        x = draw("gaussian", 200, 500, d, seed=3)
        for i in range(1, d):
            x[..., i] = correlation * x[..., i - 1] + math.sqrt(1 - correlation**2) * x[..., i]
        values = torch.tensor([negentropy.significance(x[:, i]) for i in range(500)])
        assert (values > 3).double().mean() < 0.045

    def test_finds_what_single_features_hide(self):
        """Student's t with 10 degrees of freedom has a negentropy of 0.01."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            x = StudentT(number(10.0)).sample((1000, 20))
        assert negentropy.significance(x) > 3

    def test_leaves_the_global_generator_alone(self):
        state = torch.get_rng_state()
        negentropy.null.cache_clear()
        first = negentropy.null(negentropy.spacings, 50)
        negentropy.null.cache_clear()
        assert negentropy.null(negentropy.spacings, 50) == first
        assert torch.equal(state, torch.get_rng_state())
