"""Numbers that were wrong without a word: each kind is right now, or told."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.arguments import MUTUAL_INFORMATION
from infoprobe.estimators.critic.diagnosis import out_of_reach
from infoprobe.estimators.knn.thinness import of_dimension
from infoprobe.estimators.protocols import estimate
from tests.estimators.samples import normal, uniform

KNN, COPULA = ip.KNN(), ip.KNN(calibration="copula")


def told(estimator, measure, *tensors):
    return {finding.code for finding in estimate(estimator, measure, *tensors).findings}


def pair(n, d):
    return normal(n, d), normal(n, d, seed=1)


def sphere(n, d):
    x = normal(n, d)
    return x / x.norm(dim=1, keepdim=True)


class TestLabels:
    @pytest.mark.parametrize(("k", "d"), [(3, 5), (10, 2), (20, 1)])
    def test_clusters_that_tell_the_label(self, k, d):
        labels = torch.arange(600) % k
        x = normal(600, d)
        x[:, 0] += 30 * labels
        assert float(KNN.mutual_information(x, labels)) == pytest.approx(math.log(k), abs=0.03)
        units = torch.tensor([1e3, *[1.0] * (d - 1)], dtype=torch.float64)
        expected = KNN.mutual_information(x, labels)
        assert float(KNN.mutual_information(x * units, labels)) == pytest.approx(float(expected))

    def test_a_feature_that_is_constant_for_each_label(self):
        labels = torch.arange(300) % 3
        x = torch.cat([normal(300, 2), labels.double().unsqueeze(1)], 1)
        value = float(KNN.mutual_information(x, labels))
        assert value == pytest.approx(math.log(3), abs=0.15)


class TestNearCopies:
    @pytest.mark.parametrize("measure", ["entropy", "mutual_information", "kl_divergence"])
    def test_a_transport_tells_that_what_is_held_out_was_seen(self, measure):
        x, y = pair(600, 2)
        near = [torch.cat([v, v + 1e-3 * normal(600, 2, seed=7)]) for v in (x, y)]
        tensors = near[:1] if measure == "entropy" else near
        assert "copied-samples" in told(ip.Gaussianization(), measure, *tensors)
        assert "copied-samples" not in told(ip.Gaussianization(), measure, *[x, y][: len(tensors)])


class TestThinData:
    @pytest.mark.parametrize("estimator", [KNN, COPULA])
    def test_surfaces(self, estimator):
        x = normal(600, 2)
        curved = torch.cat([x, x.square(), x.sin()], 1)
        for thin in (sphere(600, 3), curved, curved * torch.tensor([1, 1e5, 1, 1, 1e-5, 1])):
            assert "thin-data" in told(estimator, "entropy", thin)

    def test_a_discrete_variable_leaves_information_finite(self):
        z, noise = normal(600, 1), normal(600, 2, seed=1)
        symbols = (30 * uniform(600, 1, seed=2)).floor()
        binary = (symbols > 14).double()
        for x, y in (
            (symbols, symbols),
            (symbols, symbols + 1e-3 * noise),
            (symbols + 1e-3 * noise[:, :1], torch.cat([symbols, symbols.sin()], 1)),
            (z, z.round()),
            (torch.cat([binary, z], 1), torch.cat([binary, noise[:, :1]], 1)),
            (torch.cat([symbols, z], 1), symbols),
        ):
            for pair in ((x, y), (y, x)):
                assert "thin-data" not in told(KNN, "mutual_information", *pair)

    def test_what_is_continuous_beside_it_may_make_information_infinite(self):
        z = normal(600, 1)
        binary = (torch.arange(600) % 2).double().unsqueeze(1)
        for x, y in (
            (z.relu(), 2 * z.relu()),
            (z.relu(), z),
            (torch.cat([binary, z], 1), (2 * binary - 1) * z),
            (torch.cat([binary, z], 1), torch.cat([1 - binary, z.exp()], 1)),
        ):
            assert "thin-data" in told(KNN, "mutual_information", x, y)

    def test_a_function_of_the_other_variable(self):
        x = normal(800, 3)
        y = (3 * x).sin().sum(1, keepdim=True)
        assert "thin-data" in told(KNN, "mutual_information", x, y)
        assert "thin-data" not in told(KNN, "mutual_information", x, y + normal(800, 1, seed=2))

    @pytest.mark.parametrize(("n", "d"), [(600, 3), (1500, 10), (1500, 30)])
    def test_bijections_of_many_features(self, n, d):
        turn = torch.linalg.qr(normal(d, d, seed=1)).Q
        for x in (normal(n, d), torch.special.ndtr(normal(n, d))):
            for y in (x @ turn, (x @ turn).tanh(), torch.nn.functional.leaky_relu(x @ turn, 0.1)):
                (found,) = of_dimension(MUTUAL_INFORMATION, {"x": x, "y": y})
                assert (found.severity, found.code) == ("error", "thin-data")

    @pytest.mark.parametrize("wide", [3, 20])
    def test_one_feature_that_is_told(self, wide):
        x, y = normal(800, wide), normal(800, wide, seed=1)
        for told_by in (x[:, 0].exp(), x.sum(1)):
            y[:, 1] = told_by
            (found,) = of_dimension(MUTUAL_INFORMATION, {"x": x, "y": y})
            assert (found.severity, found.code) == ("error", "thin-data")

    def test_the_plain_function_warns(self):
        x = normal(400, 3)
        with pytest.warns(ip.TrustWarning, match="information is infinite"):
            ip.mutual_information(x, torch.cat([normal(400, 1, seed=1), x[:, :1].exp()], 1))

    @pytest.mark.parametrize("seed", range(4))
    def test_noise_that_is_seen(self, seed):
        for n, d in ((400, 3), (800, 10), (800, 25)):
            x, noise = normal(n, d, seed=seed), normal(n, d, seed=seed + 10)
            heavy = 1 / normal(n, 1, seed=seed + 20).abs()
            for y, other in (
                (0.8 * x + 0.6 * noise, x.exp()),
                (x[:, :1].sin() + 0.5 * noise[:, :1], x),
                (noise * heavy, x * heavy),
                (x, x[:, :1] + 0.5 * noise),
            ):
                assert not list(of_dimension(MUTUAL_INFORMATION, {"x": other, "y": y}))

    @pytest.mark.parametrize("seed", range(5))
    def test_data_that_are_not_thin(self, seed):
        x = normal(500, 4, seed=seed)
        banana = torch.cat([x[:, :2], x[:, 2:] + x[:, :2] ** 2], 1)
        for full in (
            x,
            x.exp(),
            banana,
            x / normal(500, 1, seed=seed + 50),
            torch.special.ndtr(x),
        ):
            assert "thin-data" not in told(KNN, "entropy", full)


def pixels(n, d, levels, stay):
    """Neighbouring numbers are mostly equal; noise as wide as one of 256 steps is added."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, levels, (n, d), generator=generator).double() / levels
    for i in range(1, d):
        stays = torch.rand(n, generator=generator) < stay
        values[stays, i] = values[stays, i - 1]
    return values + torch.rand(n, d, generator=generator, dtype=torch.float64) / 256


class TestDequantisedPixels:
    """Few levels under fine noise are no density that a calibration knows."""

    @pytest.mark.parametrize(("d", "levels", "stay"), [(36, 2, 0.9), (16, 16, 0.8), (25, 4, 0.95)])
    @pytest.mark.parametrize("calibration", ["gaussian", "copula"])
    def test_entropies(self, d, levels, stay, calibration):
        x = pixels(600, d, levels, stay)
        assert told(ip.KNN(calibration=calibration), "entropy", x)

    def test_raw_neighbours_and_moments(self):
        x = pixels(600, 25, 4, 0.95)
        assert told(KNN, "entropy", x)
        assert told(ip.Gaussian(), "entropy", x)


class TestFarApart:
    @pytest.mark.parametrize(
        ("p", "q"),
        [
            (normal(900, 2) * 6, normal(900, 2, seed=1)),
            (normal(900, 2) * 50, normal(900, 2, seed=1)),
            (torch.special.ndtr(normal(900, 1)), torch.special.ndtr(normal(900, 1, seed=1)) + 0.3),
            (normal(500, 8) + 9, normal(500, 8, seed=1)),
        ],
    )
    def test_samples_beyond_the_other(self, p, q):
        assert "distant-samples" in told(KNN, "kl_divergence", p, q)
        assert "distant-samples" in told(ip.Gaussianization(layers=1), "kl_divergence", p, q)

    @pytest.mark.parametrize("seed", range(5))
    def test_samples_that_overlap(self, seed):
        p, q = normal(600, 2, seed=seed), 1.2 * normal(700, 2, seed=seed + 100)
        for f in (torch.clone, torch.exp, torch.sinh):
            assert "distant-samples" not in told(KNN, "kl_divergence", f(p), f(q))

    def test_a_critic(self):
        (found,) = out_of_reach(6.0, 600)
        assert found.code == "near-ceiling"
        assert list(out_of_reach(3.0, 600)) == []


class TestSurrogates:
    def test_clusters(self):
        """The calibration by a copula doubles what clusters tell of each other."""
        cluster = torch.randint(0, 6, (1500,), generator=torch.Generator().manual_seed(0))
        places = [8 * normal(6, 5, seed=i)[cluster] for i in (1, 2)]
        x, y = (place + normal(1500, 5, seed=9 + i) for i, place in enumerate(places))
        found = ip.diagnose(x, y, COPULA)
        assert [f.severity for f in found if f.code == "unlike-surrogates"] == ["error"]
        assert float(KNN.mutual_information(x, y)) == pytest.approx(math.log(6), abs=0.1)

    def test_divergences(self):
        signs = normal(800, 10, seed=5).sign()
        p = signs * normal(800, 10).abs().square()
        q = p.flip(0) + 1
        calibrated = ip.KNN(calibration="gaussian")
        assert "unlike-surrogates" in told(calibrated, "kl_divergence", p, q)
        clean = normal(800, 10), normal(800, 10, seed=1) * 1.2
        assert told(calibrated, "kl_divergence", *clean) == set()


class TestOthers:
    def test_information_by_a_gaussian_of_data_that_are_not(self):
        angle = 6.3 * torch.special.ndtr(normal(900, 1))
        x, y = angle.cos() + 0.1 * normal(900, 1, seed=1), angle.sin()
        assert "not-gaussian" in told(ip.Gaussian(), "mutual_information", x, y)
        assert told(ip.Gaussian(), "mutual_information", *pair(900, 3)) == set()

    def test_an_outlier_and_information_in_bins(self):
        x = normal(9000, 1)
        y = torch.cat([x + normal(9000, 1, seed=1), torch.full((1, 1), 1e6)])
        x = torch.cat([x, torch.zeros(1, 1)])
        assert "squeezed-bins" in told(ip.Histogram(32), "mutual_information", x, y)
        assert told(ip.Histogram(8), "mutual_information", x[:-1], y[:-1]) == set()

    def test_a_critic_that_misses_linear_dependence(self):
        x = normal(300, 20)
        y = x + 0.5 * normal(300, 20, seed=1)
        assert "below-bound" in told(ip.Critic(steps=20, hidden=8), "mutual_information", x, y)

    def test_what_a_transport_leaves(self):
        x = normal(1000, 6)
        x[:, 1::2] += x[:, ::2] ** 2
        turn = torch.linalg.qr(normal(6, 6, seed=3)).Q
        left = ip.Gaussianization(layers=1).report("entropy", x @ turn)
        assert [finding.code for finding in left.findings] == ["negentropy-left"]
        assert left.transported["x"].curvature > 0.02
        clean = ip.Gaussianization().report("entropy", normal(1000, 6))
        assert (clean.findings, clean.transported["x"].curvature) == ([], 0)
