import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.covariance import ledoit_wolf

from infoprobe.estimators import Gaussian

MEASURES = ["entropy", "cross_entropy", "kl_divergence", "mutual_information"]
MEASURES += ["conditional_mutual_information", "conditional_entropy", "total_correlation"]
SHRINKAGES = [None, 0.0, 0.3, "ledoit-wolf"]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def mixture(d, seed=0):
    """A matrix that mixes d features, with a condition number of some tens."""
    return normal(d, d, seed=seed) + 2 * torch.eye(d, dtype=torch.float64)


def arguments(measure, n=40, d=3, m=30):
    """Samples for a measure: dependent, or differently distributed."""
    x = normal(n, d) @ mixture(d)
    if measure in ("entropy", "total_correlation"):
        return [x]
    if measure in ("cross_entropy", "kl_divergence"):
        return [x, normal(m, d, seed=1) @ mixture(d, seed=1) + 1]
    y = x[:, :2] + normal(n, 2, seed=2)
    z = x[:, :1] - y[:, :1] + normal(n, 1, seed=3)
    pairs = measure in ("mutual_information", "conditional_entropy")
    return [x, y] if pairs else [x, y, z]


def half_log_det(covariance):
    return np.linalg.slogdet(np.asarray(covariance))[1] / 2


def entropy_of(covariance):
    covariance = np.atleast_2d(np.asarray(covariance))
    return scipy.stats.multivariate_normal(cov=covariance).entropy()


def kl_of(p, q):
    """From means and covariances, by torch."""
    a, b = (torch.distributions.MultivariateNormal(*moments) for moments in (p, q))
    return torch.distributions.kl_divergence(a, b).item()


def moments(x, correction=1):
    return x.mean(0), torch.atleast_2d(torch.cov(x.T, correction=correction))


# Slow versions of the unbiased estimates, in numpy.


def textbook_entropy(x):
    """Misra, Singh & Demchuk 2005: of the scatter matrix, whose E ln|W| is known."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    centred = x - x.mean(0)
    log_det = np.linalg.slogdet(centred.T @ centred)[1]
    excess = sum(digamma((n - i) / 2) + math.log(2) for i in range(1, d + 1))
    return (d * math.log(2 * math.pi * math.e) + log_det - excess) / 2


def textbook_cross_entropy(p, q):
    """Each term divided by its expectation: E W^-1 = S^-1 / (m - d - 2)."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    (n, d), m = p.shape, len(q)
    centred = q - q.mean(0)
    inverse = (m - d - 2) * np.linalg.inv(centred.T @ centred)
    log_det = 2 * textbook_entropy(q) - d * math.log(2 * math.pi * math.e)
    trace = np.trace(inverse @ np.cov(p.T).reshape(d, d))
    shift = p.mean(0) - q.mean(0)
    # The means themselves err by S_p / n and S_q / m.
    distance = shift @ inverse @ shift - trace / n - d / m
    return (d * math.log(2 * math.pi) + log_det + trace + distance) / 2


class TestClosedForms:
    @pytest.mark.parametrize("d", [1, 2, 10])
    def test_entropies_of_many_samples(self, d):
        a = mixture(d)
        x = normal(20_000, d) @ a + 7
        expected = entropy_of(a.T @ a)
        assert Gaussian().entropy(x).item() == pytest.approx(expected, abs=4 * math.sqrt(d / 4e4))

    def test_divergences_of_many_samples(self):
        a, b = mixture(3), mixture(3, seed=1)
        shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        p, q = normal(40_000, 3) @ a, normal(60_000, 3, seed=1) @ b + shift
        expected = kl_of((torch.zeros(3).double(), a.T @ a), (shift, b.T @ b))
        assert Gaussian().kl_divergence(p, q).item() == pytest.approx(expected, rel=0.03)
        cross = expected + entropy_of(a.T @ a)
        assert Gaussian().cross_entropy(p, q).item() == pytest.approx(cross, rel=0.02)

    @pytest.mark.parametrize("snr", [0.1, 1, 100, 1e12])
    def test_the_capacity_of_a_channel(self, snr):
        x, noise = normal(20_000, 3), normal(20_000, 3, seed=1)
        information = Gaussian().mutual_information(x, math.sqrt(snr) * x + noise).item()
        assert information == pytest.approx(1.5 * math.log1p(snr), abs=0.04)

    def test_a_chain(self):
        # x - z - y: all that x tells about y goes by way of z.
        x = normal(20_000, 2)
        z = x + normal(20_000, 2, seed=1)
        y = z @ mixture(2) + normal(20_000, 2, seed=2)
        g = Gaussian()
        assert g.conditional_mutual_information(x, y, z).item() == pytest.approx(0, abs=0.001)
        assert g.mutual_information(x, y).item() > 0.5
        # Of x, z and noise the noise tells nothing about x alone, but all once z is known.
        noise = z - x
        assert g.mutual_information(x, noise).item() == pytest.approx(0, abs=0.001)
        seen = z + 0.5 * normal(20_000, 2, seed=3)
        expected = math.log(2 * (1 + 0.25) / 2.25) - math.log(0.25 / 1.25) - math.log(2)
        information = g.conditional_mutual_information(x, noise, seen).item()
        assert information == pytest.approx(expected, abs=0.03)

    def test_what_a_condition_leaves(self):
        x, noise = normal(20_000, 2), normal(20_000, 2, seed=1)
        z = torch.cat([x + 0.1 * noise, normal(20_000, 1, seed=2)], 1)
        value = Gaussian().conditional_entropy(x @ mixture(2), z).item()
        # Of x, 1 / (1 + 100) is left.
        left = mixture(2).T @ mixture(2) / 101
        assert value == pytest.approx(entropy_of(left), abs=0.03)
        shrunk = Gaussian(0.3).conditional_entropy(x, z).item()
        _, covariance = moments(torch.cat([x, z], 1), correction=0)
        covariance = 0.7 * covariance + 0.3 * torch.eye(5).double() * covariance.trace() / 5
        expected = entropy_of(covariance) - entropy_of(covariance[2:, 2:])
        assert shrunk == pytest.approx(expected, abs=1e-9)

    def test_equal_correlations(self):
        d, r = 5, 0.4
        x = math.sqrt(r) * normal(20_000, 1) + math.sqrt(1 - r) * normal(20_000, d, seed=1)
        expected = -((d - 1) * math.log1p(-r) + math.log1p((d - 1) * r)) / 2
        assert Gaussian().total_correlation(x).item() == pytest.approx(expected, abs=0.02)


class TestAgainstTheTextbook:
    @pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 2), (30, 1), (30, 5), (7, 6), (60, 50)])
    def test_entropy(self, n, d):
        x = normal(n, d) @ mixture(d) + 3
        assert Gaussian().entropy(x).item() == pytest.approx(textbook_entropy(x), rel=1e-9)

    @pytest.mark.parametrize(
        ("n", "m", "d"), [(2, 4, 1), (2, 40, 5), (30, 8, 5), (8, 8, 5), (60, 90, 40)]
    )
    def test_cross_entropy(self, n, m, d):
        p, q = normal(n, d) @ mixture(d) + 3, normal(m, d, seed=1)
        expected = textbook_cross_entropy(p, q)
        assert Gaussian().cross_entropy(p, q).item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(("n", "m", "d"), [(3, 4, 1), (9, 8, 5), (60, 90, 40)])
    def test_kl_divergence(self, n, m, d):
        p, q = normal(n, d) @ mixture(d) + 3, normal(m, d, seed=1)
        expected = textbook_cross_entropy(p, q) - textbook_entropy(p)
        assert Gaussian().kl_divergence(p, q).item() == pytest.approx(expected, rel=1e-9)

    def test_information(self):
        g, h = Gaussian(), textbook_entropy
        x, y, z = arguments("conditional_mutual_information")
        xy, xz, yz = (torch.cat(pair, 1) for pair in ((x, y), (x, z), (y, z)))
        expected = h(x) + h(y) - h(xy)
        assert g.mutual_information(x, y).item() == pytest.approx(expected, rel=1e-9)
        expected = h(xz) + h(yz) - h(z) - h(torch.cat([x, y, z], 1))
        value = g.conditional_mutual_information(x, y, z).item()
        assert value == pytest.approx(expected, rel=1e-9)
        expected = sum(h(x[:, i : i + 1]) for i in range(3)) - h(x)
        assert g.total_correlation(x).item() == pytest.approx(expected, rel=1e-9)


class TestBias:
    """Means over many small samples, against the truth within four standard errors."""

    def mean(self, measure, draw, truth, repeats=800):
        generator = torch.Generator().manual_seed(1)
        values = torch.stack(
            [getattr(Gaussian(), measure)(*draw(generator)) for _ in range(repeats)]
        )
        stderr = values.std().item() / math.sqrt(repeats)
        assert abs(values.mean().item() - truth) < 4 * stderr
        return stderr

    def randn(self, generator, *shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    @pytest.mark.parametrize(("n", "d"), [(2, 1), (5, 1), (4, 3), (8, 3), (12, 10)])
    def test_entropy(self, n, d):
        a = mixture(d)
        truth = entropy_of(a.T @ a)
        self.mean("entropy", lambda g: [self.randn(g, n, d) @ a + 5], truth)

    @pytest.mark.parametrize(("n", "m", "d"), [(2, 7, 1), (9, 6, 1), (5, 12, 3), (40, 9, 3)])
    def test_divergences(self, n, m, d):
        a, b = mixture(d), mixture(d, seed=1)
        zero, shift = torch.zeros(d, dtype=torch.float64), normal(d, seed=2)

        def draw(g):
            return self.randn(g, n, d) @ a, self.randn(g, m, d) @ b + shift

        truth = kl_of((zero, a.T @ a), (shift, b.T @ b))
        self.mean("cross_entropy", draw, truth + entropy_of(a.T @ a))
        if n > d + 1:
            self.mean("kl_divergence", draw, truth)

    def test_two_samples_of_one_distribution_do_not_differ(self):
        # The means' errors, and those of the covariances, would add to the estimate otherwise.
        self.mean("kl_divergence", lambda g: (self.randn(g, 12, 3), self.randn(g, 14, 3)), 0)

    def test_information(self):
        n, a = 8, mixture(6)
        s = a.T @ a

        def joint(*groups):
            indices = list(itertools.chain(*groups))
            return half_log_det(s[indices][:, indices])

        def draw(g, *widths):
            return (self.randn(g, n, 6) @ a).split(widths, 1)

        x, y, z = [0, 1, 2], [3, 4], [5]
        truth = joint(x) + joint(y, z) - joint(x, y, z)
        self.mean("mutual_information", lambda g: draw(g, 3, 3), truth)
        truth = joint(x, z) + joint(y, z) - joint(z) - joint(x, y, z)
        self.mean("conditional_mutual_information", lambda g: draw(g, 3, 2, 1), truth)
        truth = sum(joint([i]) for i in range(6)) - joint(x, y, z)
        self.mean("total_correlation", lambda g: draw(g, 6), truth)

    def test_nothing_is_clamped(self):
        # Without bias at 0, half of the values are below.
        values = [
            Gaussian().mutual_information(normal(20, 2, seed=i), normal(20, 2, seed=i + 500))
            for i in range(50)
        ]
        assert 10 <= sum(value < 0 for value in values) <= 45
        values = [
            Gaussian().kl_divergence(normal(20, 2, seed=i), normal(20, 2, seed=i + 500))
            for i in range(50)
        ]
        assert 10 <= sum(value < 0 for value in values) <= 45


class TestShrinkage:
    @pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 4), (10, 30), (200, 5), (40, 40)])
    def test_ledoit_and_wolf(self, n, d):
        x = normal(n, d) @ mixture(d) + 3
        covariance, _ = ledoit_wolf(x.numpy())
        expected = entropy_of(covariance)
        assert Gaussian("ledoit-wolf").entropy(x).item() == pytest.approx(expected, rel=1e-9)

    def test_ledoit_and_wolf_of_what_is_nearly_isotropic(self):
        # The weight would be far beyond 1.
        x = torch.cat([torch.eye(4), -torch.eye(4)]).double() + 0.01 * normal(8, 4)
        covariance, weight = ledoit_wolf(x.numpy())
        assert weight == 1
        expected = entropy_of(covariance)
        assert Gaussian("ledoit-wolf").entropy(x).item() == pytest.approx(expected, rel=1e-9)

    def test_ledoit_and_wolf_of_divergences(self):
        p, q = normal(10, 20) + 0.5, 2 * normal(15, 20, seed=1)
        fits = [(x.mean(0), torch.from_numpy(ledoit_wolf(x.numpy())[0]).double()) for x in (p, q)]
        g = Gaussian("ledoit-wolf")
        assert g.kl_divergence(p, q).item() == pytest.approx(kl_of(*fits), rel=1e-9)
        cross = kl_of(*fits) + entropy_of(fits[0][1])
        assert g.cross_entropy(p, q).item() == pytest.approx(cross, rel=1e-9)

    @pytest.mark.parametrize("weight", [0, 0.1, 0.75, 1])
    def test_a_given_weight(self, weight):
        def fit(x):
            mean, covariance = moments(x, correction=0)
            target = covariance.trace() / x.shape[1] * torch.eye(x.shape[1]).double()
            return mean, (1 - weight) * covariance + weight * target

        g = Gaussian(weight)
        p, q = arguments("kl_divergence")
        assert g.entropy(p).item() == pytest.approx(entropy_of(fit(p)[1]), rel=1e-9)
        assert g.kl_divergence(p, q).item() == pytest.approx(kl_of(fit(p), fit(q)), rel=1e-9)
        x, y = arguments("mutual_information")
        both = fit(torch.cat([x, y], 1))[1]
        expected = half_log_det(both[:3, :3]) + half_log_det(both[3:, 3:]) - half_log_det(both)
        assert g.mutual_information(x, y).item() == pytest.approx(expected, abs=1e-9)
        expected = both.diagonal().log().sum().item() / 2 - half_log_det(both)
        total = g.total_correlation(torch.cat([x, y], 1)).item()
        assert total == pytest.approx(expected, abs=1e-9)

    def test_full_shrinkage_leaves_no_dependence(self):
        x, y, z = arguments("conditional_mutual_information")
        g = Gaussian(1)
        assert g.mutual_information(x, x).item() == pytest.approx(0, abs=1e-9)
        assert g.conditional_mutual_information(x, y, z).item() == pytest.approx(0, abs=1e-9)
        assert g.total_correlation(x).item() == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_it_works_with_fewer_samples_than_features(self, measure):
        tensors = [torch.cat([x, x, x], 1) for x in arguments(measure, n=5, d=4, m=6)]
        for shrinkage in (0.5, "ledoit-wolf"):
            value = getattr(Gaussian(shrinkage), measure)(*tensors)
            assert value.isfinite()

    def test_it_beats_the_unbiased_estimate_where_samples_are_few(self):
        truth = entropy_of(np.eye(30))
        for seed in range(5):
            x = normal(40, 30, seed=seed)
            shrunk = Gaussian("ledoit-wolf").entropy(x).item()
            plain = Gaussian(0).entropy(x).item()
            assert 3 * abs(shrunk - truth) < abs(plain - truth)

    @pytest.mark.parametrize("scale", [1e-90, 1e90])
    def test_the_weight_does_not_depend_on_the_scale(self, scale):
        # Squares of covariances are fourth powers of the data.
        x = normal(20, 5) @ mixture(5)
        g = Gaussian("ledoit-wolf")
        expected = g.entropy(x).item() + 5 * math.log(scale)
        assert g.entropy(x * scale).item() == pytest.approx(expected, rel=1e-9)


class TestProperties:
    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_maps_of_the_data(self, drawn):
        d, seed = drawn.draw(st.integers(1, 5)), drawn.draw(st.integers(0, 100))
        x = normal(30, d, seed=seed)
        q = 1.5 * normal(25, d, seed=seed + 1) + 0.5
        a = mixture(d, seed=seed + 2) * 10 ** drawn.draw(st.floats(-11, 11))
        offset = drawn.draw(st.floats(-1e3, 1e3)) * a.abs().max()
        order = torch.from_numpy(np.random.default_rng(seed).permutation(30))
        mapped, mapped_q = (x @ a + offset)[order], q @ a + offset
        volume = torch.linalg.slogdet(a)[1].item()
        g = Gaussian()
        expected = g.entropy(x).item() + volume
        assert g.entropy(mapped).item() == pytest.approx(expected, abs=1e-6)
        expected = g.cross_entropy(x, q).item() + volume
        assert g.cross_entropy(mapped, mapped_q).item() == pytest.approx(expected, abs=1e-6)
        expected = g.kl_divergence(x, q).item()
        assert g.kl_divergence(mapped, mapped_q).item() == pytest.approx(expected, abs=1e-6)
        y = torch.cat([x[:, :1], x.sum(1, keepdim=True)], 1) + normal(30, 2, seed=seed + 3)
        expected = g.mutual_information(x, y).item()
        information = g.mutual_information(mapped, -1e-7 * y[order] + 3).item()
        assert information == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_rotations_and_scalings_of_shrunk_fits(self, shrinkage):
        g = Gaussian(shrinkage)
        x = arguments("entropy")[0]
        rotation, _ = torch.linalg.qr(normal(3, 3, seed=9))
        expected = g.entropy(x).item()
        for scale in (1e-11, 1, 1e11):
            value = g.entropy(scale * (x @ rotation + 100)).item() - 3 * math.log(scale)
            assert value == pytest.approx(expected, abs=1e-8)

    @given(st.permutations(range(5)), st.sampled_from(SHRINKAGES))
    @settings(max_examples=30, deadline=None)
    def test_the_order_of_features_does_not_matter(self, order, shrinkage):
        g = Gaussian(shrinkage)
        x = normal(40, 5) @ mixture(5)
        y = x[:, :2] + normal(40, 2, seed=1)
        for measure, rest in (("entropy", ()), ("total_correlation", ())):
            expected = getattr(g, measure)(x, *rest).item()
            assert getattr(g, measure)(x[:, order], *rest).item() == pytest.approx(expected)
        expected = g.mutual_information(x, y).item()
        assert g.mutual_information(x[:, order], y).item() == pytest.approx(expected)

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_identities(self, shrinkage):
        g = Gaussian(shrinkage)
        p, q = arguments("kl_divergence")
        difference = (g.cross_entropy(p, q) - g.entropy(p)).item()
        assert g.kl_divergence(p, q).item() == pytest.approx(difference, abs=1e-9)
        x, y, z = arguments("conditional_mutual_information")
        symmetric = g.mutual_information(y, x).item()
        assert g.mutual_information(x, y).item() == pytest.approx(symmetric, abs=1e-9)
        symmetric = g.conditional_mutual_information(y, x, z).item()
        conditional = g.conditional_mutual_information(x, y, z).item()
        assert conditional == pytest.approx(symmetric, abs=1e-9)
        if shrinkage in (None, 0.0):
            # One covariance for all terms: I(X; Y, Z) = I(X; Z) + I(X; Y | Z).
            chain = g.mutual_information(x, z).item() + conditional
            whole = g.mutual_information(x, torch.cat([y, z], 1)).item()
            assert whole == pytest.approx(chain, abs=1e-9)
            # TC(X) = I(X1; X2) + I(X1, X2; X3)
            parts = g.mutual_information(x[:, :1], x[:, 1:2])
            parts += g.mutual_information(x[:, :2], x[:, 2:])
            assert g.total_correlation(x).item() == pytest.approx(parts.item(), abs=1e-9)

    def test_one_feature_has_no_total_correlation(self):
        assert Gaussian().total_correlation(normal(20)).item() == 0

    def test_a_distribution_does_not_diverge_from_itself_when_plugged_in(self):
        p, _ = arguments("kl_divergence")
        for shrinkage in (0, 0.3, "ledoit-wolf"):
            assert Gaussian(shrinkage).kl_divergence(p, p).item() == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_gradients_equal_finite_differences(self, measure, shrinkage):
        tensors = [x.requires_grad_() for x in arguments(measure, n=12, m=11)]
        assert torch.autograd.gradcheck(getattr(Gaussian(shrinkage), measure), tensors)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_types_and_devices(self, measure, dtype, device):
        tensors = [x.to(dtype) for x in arguments(measure)]
        copies = [x.clone() for x in tensors]
        for shrinkage in SHRINKAGES:
            method = getattr(Gaussian(shrinkage), measure)
            value = method(*(x.to(device) for x in tensors))
            assert value.dtype == torch.float64
            assert value.dim() == 0
            assert value.device.type == device
            assert not value.requires_grad
            expected = method(*(x.double() for x in tensors)).item()
            assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert all(torch.equal(x, copy) for x, copy in zip(tensors, copies, strict=True))

    @pytest.mark.parametrize("measure", MEASURES)
    def test_whatever_follows_the_first_axis_is_flattened(self, measure):
        tensors = [x[:, :1] for x in arguments(measure)]
        method = getattr(Gaussian(), measure)
        expected = method(*tensors).item()
        assert method(*(x.flatten() for x in tensors)).item() == expected
        assert method(*(x[:, :, None, None].numpy() for x in tensors)).item() == expected
        assert method(*(x.tolist() for x in tensors)).item() == expected

    @pytest.mark.parametrize("measure", MEASURES)
    def test_the_callers_settings_do_not_matter(self, measure):
        tensors = [x.float() for x in arguments(measure)]
        method = getattr(Gaussian(), measure)
        expected = method(*tensors).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert method(*tensors).item() == expected
        with torch.inference_mode():
            assert method(*tensors).item() == expected
        with torch.device("meta"):
            assert method(*tensors).item() == expected
        torch.set_default_dtype(torch.float64)
        try:
            assert method(*tensors).item() == expected
        finally:
            torch.set_default_dtype(torch.float32)


class TestPrecision:
    def test_an_offset_far_beyond_the_spread(self):
        centred = 0.01 * normal(900, 784)
        shifted = (centred + 100).float()
        expected = Gaussian().entropy(centred).item()
        assert Gaussian().entropy(shifted).item() == pytest.approx(expected, abs=1e-3 * 784)
        shifted = centred + 100
        assert Gaussian().entropy(shifted).item() == pytest.approx(expected, abs=1e-8 * 784)

    def test_determinants_beyond_the_range_of_floats(self):
        x = normal(900, 784)
        for scale in (1e-11, 1e11):
            value = Gaussian().entropy(x * scale).item() - 784 * math.log(scale)
            assert value == pytest.approx(Gaussian().entropy(x).item(), rel=1e-9)

    def test_features_of_very_different_scales(self):
        x, y = arguments("mutual_information")
        scales = 10 ** torch.linspace(-30, 30, 3, dtype=torch.float64)
        expected = Gaussian().mutual_information(x, y).item()
        assert Gaussian().mutual_information(x * scales, y).item() == pytest.approx(expected)

    def test_nearly_redundant_features_are_not_refused(self):
        x = normal(500, 3)
        y = x + 1e-6 * normal(500, 3, seed=1)
        information = Gaussian().mutual_information(x, y).item()
        assert information == pytest.approx(3 * math.log(1e6), abs=0.3)

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_beyond_the_range_of_squares_it_says_so(self, scale):
        with pytest.raises(ValueError, match=r"(?i)rescale"):
            Gaussian().entropy(normal(20, 3) * scale)


class TestErrors:
    def test_samples_must_outnumber_features(self):
        for n, d in ((2, 2), (5, 5), (5, 6), (4, 100)):
            x = normal(n, d)
            message = rf"^x: expected more samples than features, got n={n} and d={d}\."
            for measure in ("entropy", "total_correlation"):
                with pytest.raises(ValueError, match=message + " .*shrinkage='ledoit-wolf'"):
                    getattr(Gaussian(), measure)(x)
        x = normal(6, 3)
        assert Gaussian().entropy(x[:4]).isfinite()
        with pytest.raises(ValueError, match=r"^x, y: expected more samples .* n=6 and d=6"):
            Gaussian().mutual_information(x, x + 1)
        with pytest.raises(ValueError, match=r"^x, y, z: expected more samples"):
            Gaussian().conditional_mutual_information(x, *normal(6, 3, seed=1).split([2, 1], 1))

    def test_cross_entropies_need_a_few_more(self):
        p, q = normal(9, 4), normal(7, 4, seed=1)
        assert Gaussian().cross_entropy(p, q).isfinite()
        assert Gaussian().cross_entropy(p[:2], q).isfinite()
        for m in (2, 4, 5, 6):
            for measure in ("cross_entropy", "kl_divergence"):
                with pytest.raises(ValueError, match=rf"^q: expected at least d \+ 3 = 7 .* {m}"):
                    getattr(Gaussian(), measure)(p, q[:m])
        with pytest.raises(ValueError, match=r"^p: expected more samples than features"):
            Gaussian().kl_divergence(p[:4], q)

    def test_redundant_features(self):
        x = normal(60, 4)
        probabilities = torch.softmax(x, 1)
        for redundant in (
            torch.cat([x, x[:, :1]], 1),
            torch.cat([x, x @ normal(4, 2, seed=1)], 1),
            torch.cat([x, 1e-9 * x[:, :1] + 1e-9 * x[:, 1:2]], 1),
            probabilities,
        ):
            for dtype in (torch.float32, torch.float64):
                for measure in ("entropy", "total_correlation"):
                    with pytest.raises(ValueError, match=r"linear combination .* minus infinity"):
                        getattr(Gaussian(), measure)(redundant.to(dtype))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_redundant_features_on_two_sides(self, dtype):
        x = normal(60, 4).to(dtype)
        probabilities = torch.softmax(x, 1)
        pairs = [
            (x, x),
            (x, 3.3 * x[:, :1]),
            (x, x @ normal(4, 2, seed=1).to(dtype)),
            (probabilities[:, :2], probabilities[:, 2:]),
        ]
        for pair in pairs:
            with pytest.raises(ValueError, match=r"^x, y: .* linear combination .* infinite"):
                Gaussian().mutual_information(*pair)
        xyz = probabilities.split([1, 1, 2], 1)
        with pytest.raises(ValueError, match=r"^x, y, z: .* linear combination"):
            Gaussian().conditional_mutual_information(*xyz)

    def test_redundant_features_of_different_types(self):
        # What float32 rounds off 1 - p is 1e-6 of its spread.
        p = 0.5 + 0.01 * normal(60, 1)
        for pair in ((p, (1 - p).float()), (p.float(), 1 - p)):
            with pytest.raises(ValueError, match=r"^x, y: .* linear combination"):
                Gaussian().mutual_information(*pair)

    def test_constant_features(self):
        x = normal(20, 3)
        x[:, 1] = 0.1
        other = normal(20, 3, seed=1)
        for measure, tensors, name in (
            ("entropy", [x], "x"),
            ("total_correlation", [x], "x"),
            ("kl_divergence", [x, other], "p"),
            ("kl_divergence", [other, x], "q"),
            ("cross_entropy", [other, x], "q"),
            ("mutual_information", [x, other], "x, y"),
            ("conditional_mutual_information", [other, other[:, :1] ** 2, x], "x, y, z"),
        ):
            with pytest.raises(ValueError, match=rf"^{name}: .*got 1 constant of"):
                getattr(Gaussian(), measure)(*tensors)
        # A constant has no covariance to plug in either.
        with pytest.raises(ValueError, match=r"^x: "):
            Gaussian(0).entropy(x)
        with pytest.raises(ValueError, match=r"^x: "):
            Gaussian("ledoit-wolf").entropy(torch.ones(20, 3))
        assert Gaussian("ledoit-wolf").entropy(x).isfinite()

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_bad_samples(self, measure, shrinkage):
        tensors = arguments(measure)
        method = getattr(Gaussian(shrinkage), measure)
        names = "pq" if measure in ("cross_entropy", "kl_divergence") else "xyz"
        for i, x in enumerate(tensors):
            for bad in (math.nan, math.inf, -math.inf):
                broken = x.clone()
                broken[3, 0] = bad
                with pytest.raises(ValueError, match=rf"^{names[i]}: expected finite values"):
                    method(*tensors[:i], broken, *tensors[i + 1 :])
            for dtype in (torch.int64, torch.uint8, torch.bool):
                with pytest.raises(TypeError, match=rf"^{names[i]}: .*{dtype}.*Histogram"):
                    method(*tensors[:i], x.to(dtype), *tensors[i + 1 :])
            with pytest.raises(ValueError, match=rf"^{names[i]}: expected at least 2 samples"):
                method(*tensors[:i], x[:1], *tensors[i + 1 :])
            with pytest.raises(TypeError, match=rf"^{names[i]}: "):
                method(*tensors[:i], "abc", *tensors[i + 1 :])

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_samples_that_do_not_fit_together(self, shrinkage):
        g = Gaussian(shrinkage)
        for measure in ("cross_entropy", "kl_divergence"):
            with pytest.raises(ValueError, match="p has d=3, q has d=2"):
                getattr(g, measure)(normal(20, 3), normal(20, 2))
        with pytest.raises(ValueError, match="x has 20, y has 19"):
            g.mutual_information(normal(20, 3), normal(19, 2))
        with pytest.raises(ValueError, match="x has 20, y has 20, z has 21"):
            g.conditional_mutual_information(normal(20, 3), normal(20, 2), normal(21, 1))

    def test_shrinkage(self):
        for bad in ("oas", "Ledoit-Wolf", -0.1, 1.1, math.nan, math.inf):
            with pytest.raises(ValueError, match=r"^shrinkage: expected"):
                Gaussian(bad)
        for bad in (True, [0.1], torch.tensor([0.1, 0.2])):
            with pytest.raises(TypeError, match=r"^shrinkage: expected"):
                Gaussian(bad)
        assert Gaussian(np.float64(0.5)) == Gaussian(0.5)

    def test_it_is_frozen(self):
        with pytest.raises(AttributeError):
            Gaussian().shrinkage = 0.5
        assert not hasattr(Gaussian(), "js_divergence")
