import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.protocols import estimate
from infoprobe.estimators.transport import bijections, gaussianization, marginals
from infoprobe.estimators.transport.gaussianization import ROTATIONS, Gaussianization
from tests.estimators.samples import generator, laplace, normal, uniform

STANDARD = math.log(2 * math.pi * math.e) / 2


def rotation(d, seed=99):
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def correlated(n, d, seed=0):
    x = normal(n, d, seed=seed)
    for i in range(1, d):
        x[:, i] = 0.9 * x[:, i - 1] + math.sqrt(0.19) * x[:, i]
    return x


def fit(x, **settings):
    """A map of nine tenths of the samples, and a tenth."""
    m = len(x) // 10
    return gaussianization.fit(x[m:], x[:m], generator=generator(), **settings)


def error(make, truth, d, n=6000, **settings):
    """Of the entropy of samples that the map has not seen."""
    f = fit(make(n, d, seed=1), **settings)
    z, log_det = f(make(4000, d, seed=2))
    return float(ip.KNN(calibration="gaussian").entropy(z) - log_det.mean()) - d * truth


class TestMap:
    @pytest.mark.parametrize("rotation", [None, *ROTATIONS])
    def test_is_invertible_and_knows_its_volume(self, rotation):
        x = laplace(1000, 4) @ normal(4, 4, seed=5)
        f = fit(x, rotation=rotation, layers=3)
        check = ip.check_invertible(f, x[:200])
        assert check.ok, check.verdict
        assert check.inversion_error < 1e-6
        assert check.cancellation < 1e-6
        assert check.forward_error < 1e-6

    def test_change_of_entropy_is_that_of_autograd(self):
        x = laplace(1000, 4) @ normal(4, 4, seed=5)
        f = fit(x)
        claimed = ip.entropy_change(f, x[:50]).value
        exact = ip.entropy_change(lambda x: f(x)[0], x[:50]).value
        assert float(claimed) == pytest.approx(float(exact), abs=1e-6)

    def test_layers_pair_linear_maps_with_marginals(self):
        f = fit(laplace(2000, 3) @ normal(3, 3, seed=5))
        kinds = [type(step) for step in f]
        assert kinds[-1] is bijections.Affine
        assert kinds[1:-1:2] == [marginals.Marginals] * (len(f) // 2)
        assert len(f) >= 3

    def test_state_dict_holds_all(self):
        x = laplace(1000, 3)
        f, g = fit(x, layers=1), fit(normal(1000, 3) ** 3, layers=1)
        assert len(f) == len(g) == 3
        g.load_state_dict(f.state_dict())
        assert torch.equal(f(x)[0], g(x)[0])


class TestEntropy:
    def test_gaussian(self):
        assert error(normal, STANDARD, 20) == pytest.approx(0, abs=0.25)

    def test_correlated_gaussian(self):
        truth = STANDARD + 19 / 40 * math.log(0.19)
        assert error(correlated, truth, 20) == pytest.approx(0, abs=0.25)

    @pytest.mark.parametrize("turn", [torch.eye(20, dtype=torch.float64), rotation(20)])
    def test_laplace(self, turn):
        def make(n, d, seed):
            return laplace(n, d, seed=seed) @ turn

        assert error(make, 1 + math.log(2), 20) == pytest.approx(0, abs=0.3)

    def test_uniform(self):
        def make(n, d, seed):
            return torch.rand(n, d, generator=generator(seed))

        assert error(make, 0, 20) == pytest.approx(0, abs=0.2)

    def test_gaussian_copula_with_heavy_features(self):
        """The features have to be mapped first, and then what correlates them."""

        def make(n, d, seed):
            return torch.sinh(2 * correlated(n, d, seed=seed))

        x = correlated(200_000, 1)
        volume = (math.log(2) + torch.cosh(2 * x).log()).mean()
        truth = STANDARD + 9 / 20 * math.log(0.19) + float(volume)
        assert error(make, truth, 10) == pytest.approx(0, abs=0.4)

    def test_mutual_information_of_transformed_gaussians(self):
        x = normal(8000, 5)
        y = 0.6 * x + 0.8 * normal(8000, 5, seed=1)
        x, y = x**3, torch.asinh(y)
        f, g = fit(x[:5000]), fit(y[:5000])
        found = ip.KNN(calibration="gaussian").mutual_information(f(x[5000:])[0], g(y[5000:])[0])
        assert float(found) == pytest.approx(-5 / 2 * math.log(0.64), abs=0.12)


class TestLayers:
    def test_gaussian_data_are_only_whitened(self):
        false_alarms = sum(len(fit(correlated(2000, 10, seed=s))) > 1 for s in range(10))
        assert false_alarms <= 1

    def test_no_layer_makes_the_held_out_less_likely(self):
        x = laplace(1500, 6) @ rotation(6)
        likelihoods = []
        for layers in range(4):
            z, log_det = fit(x, layers=layers)(x[:150])
            likelihoods.append(float((log_det - z.square().sum(1) / 2).mean()))
        assert likelihoods == sorted(likelihoods)
        assert likelihoods[0] < likelihoods[-1]

    def test_independent_components_are_found(self):
        x, turn = laplace(5000, 8), rotation(8)
        f = fit(x @ turn, rotation="ica", layers=1)
        found = (f[0].matrix @ turn.T).abs()
        strongest = found.amax(1) / found.square().sum(1).sqrt()
        assert strongest.min() > 0.99
        assert sorted(found.argmax(1).tolist()) == list(range(8))

    def test_no_layers_are_a_whitening(self):
        x = correlated(1000, 5)
        (white,) = fit(x, layers=0)
        z, _ = white(x[100:])
        assert torch.allclose(z.T.cov(correction=0), torch.eye(5, dtype=torch.float64), atol=2e-3)

    def test_same_generator_same_map(self):
        x = laplace(1000, 5) @ rotation(5)
        state = torch.get_rng_state()
        assert torch.equal(fit(x)(x)[0], fit(x)(x)[0])
        assert torch.equal(state, torch.get_rng_state())


class TestRobustness:
    def test_shift_and_scale(self):
        x, new = laplace(1000, 4), laplace(100, 4, seed=1)
        z, log_det = fit(x)(new)
        same, less = fit(8 * x + 3)(8 * new + 3)
        assert torch.allclose(same, z, rtol=0, atol=1e-6)
        assert torch.allclose(less + 4 * math.log(8), log_det, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_tiny_and_huge_scales(self, scale):
        x, new = laplace(1000, 4), laplace(100, 4, seed=1)
        z, log_det = fit(x)(new)
        same, more = fit(scale * x)(scale * new)
        assert torch.allclose(same, z, rtol=0, atol=1e-4)
        assert torch.allclose(more + 4 * math.log(scale), log_det, rtol=0, atol=1e-4)

    def test_features_of_different_scales(self):
        scales = torch.tensor([1e-30, 1.0, 1e30], dtype=torch.float64)
        x, new = laplace(1000, 3), laplace(100, 3, seed=1)
        z, log_det = fit(scales * x)(scales * new)
        assert z.isfinite().all()
        assert float(log_det.mean()) == pytest.approx(float(fit(x)(new)[1].mean()), abs=0.05)

    def test_outliers(self):
        x, new = laplace(3000, 5), laplace(1000, 5, seed=1)
        x[0], x[1500] = 1e6, -1e6
        z, log_det = fit(x)(new)
        found = ip.KNN(calibration="gaussian").entropy(z) - log_det.mean()
        assert float(found) == pytest.approx(5 * (1 + math.log(2)), abs=0.5)
        assert fit(laplace(3000, 5))(x[:1])[0].isfinite().all()

    @pytest.mark.parametrize("d", [1, 3])
    def test_few_samples(self, d):
        f = gaussianization.fit(
            laplace(20, d), laplace(5, d, seed=1), generator=generator(), layers=2
        )
        assert ip.check_invertible(f, laplace(20, d, seed=2)).ok

    def test_single_precision(self):
        x = laplace(1000, 3)
        assert torch.allclose(fit(x.float())(x.float())[0], fit(x)(x)[0], rtol=0, atol=1e-3)

    def test_in_any_context(self):
        x = laplace(500, 3)
        before = fit(x)(x)[0]
        torch.set_default_dtype(torch.float16)
        try:
            with torch.inference_mode():
                after = fit(x)(x)[0]
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(before, after)


class TestErrors:
    def test_features_that_others_explain(self):
        x = normal(500, 3)
        x[:, 2] = x[:, 0] + x[:, 1]
        with pytest.raises(ValueError, match="x_fit: expected linearly independent features"):
            fit(x)
        with pytest.raises(ValueError, match=r"of d=9 and with n=9 samples"):
            fit(normal(10, 9))

    def test_constant_features(self):
        x = normal(500, 3)
        x[:, 2] = 1
        with pytest.raises(ValueError, match="x_fit: expected features that vary, got 1"):
            fit(x)

    def test_settings(self):
        with pytest.raises(ValueError, match="rotation: expected one of None, 'identity'"):
            Gaussianization("fastica")
        with pytest.raises(ValueError, match="folds: expected an integer at least 2, got 1"):
            Gaussianization(folds=1)
        with pytest.raises(TypeError, match=r"layers: expected an integer, got 1\.5"):
            Gaussianization(layers=1.5)


class TestBound:
    """The entropies of the features bound that of all, which few samples show to a map."""

    def test_few_samples_with_edges(self):
        x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        value, stderr, findings = estimate(Gaussianization(), "entropy", x)
        assert value > 0.3
        assert 1.96 * stderr > value
        (found,) = [f for f in findings if f.code == "above-bound"]
        assert found.severity == "error"
        assert found.figure == pytest.approx(float(value), abs=0.15)

    def test_samples_below_it(self):
        x = normal(300, 3)
        x[:, 1] += x[:, 0]
        report = Gaussianization().report("entropy", x)
        assert "above-bound" not in {f.code for f in report.findings}
        assert report.stderr < 0.2


class TestFewSamples:
    @pytest.mark.parametrize(
        ("draw", "truth"),
        [
            (normal, STANDARD),
            (uniform, 0.0),
            (lambda n, d, seed: -(1 - uniform(n, d, seed=seed)).log(), 1.0),
        ],
        ids=["normal", "uniform", "exponential"],
    )
    def test_intervals_hold_the_truth(self, draw, truth):
        held, widths = 0, []
        for seed in range(24):
            x = draw(40, 1, seed=seed)
            value, stderr, _ = estimate(Gaussianization(), "entropy", x)
            held += bool(abs(value - truth) <= 1.96 * stderr)
            widths.append(float(stderr))
        assert held >= 20
        assert 0.1 < sum(widths) / 24 < 0.35

    def test_all_measures_have_an_error(self):
        x, noise = normal(40, 1), normal(40, 1, seed=1)
        for measure, other in (
            ("mutual_information", [x + noise]),
            ("cross_entropy", [2 * noise]),
            ("kl_divergence", [2 * noise]),
            ("total_correlation", []),
        ):
            given = [torch.cat([x, x + noise], 1)] if not other else [x, *other]
            _, stderr, _ = estimate(Gaussianization(), measure, *given)
            assert 0 < stderr < 1
