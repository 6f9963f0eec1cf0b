import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from infoprobe.estimators import Gaussian
from infoprobe.estimators.protocols import estimate
from tests.estimators.gaussian_cases import MEASURES, arguments, mixture, moments
from tests.estimators.samples import normal
from tests.textbook_gaussian import (
    entropy_of,
    half_log_det,
    kl_of,
    textbook_cross_entropy,
    textbook_entropy,
)


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

    def test_a_shrinkage_that_decides_the_entropy_is_found(self):
        def codes(x, shrinkage):
            return [f.code for f in estimate(Gaussian(shrinkage), "entropy", x).findings]

        for seed in range(10):
            x = normal(60, 20, seed=seed)
            assert codes(x, "ledoit-wolf") == []
            stretched = x * torch.logspace(-1, 1, 20)
            assert codes(stretched, "ledoit-wolf") == ["bias-beyond-error"]
            assert codes(stretched, None) == []
