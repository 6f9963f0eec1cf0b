import math
import random

import numpy as np
import pytest
import scipy.stats
import torch

from infoprobe.estimators import KNN, Gaussian
from infoprobe.estimators.knn import student, surrogates
from infoprobe.estimators.ranks import normal_scores
from tests.estimators.knn.cases import (
    COUNT_MEASURES,
    MEASURES,
    METRICS,
    SAMPLE_MEASURES,
    arguments,
    near,
)
from tests.estimators.samples import laplace, normal


class TestCalibration:
    """Of Gaussian data: means over many samples, within four standard errors of the truth."""

    def mean(self, measure, draw, truth, repeats=50, **options):
        values = []
        for i in range(repeats):
            estimator = KNN(calibration="gaussian", repeats=2, seed=i, **options)
            values.append(getattr(estimator, measure)(*draw(i)))
        values = torch.stack(values)
        stderr = values.std().item() / math.sqrt(repeats)
        assert abs(values.mean().item() - truth) < 4 * stderr
        return stderr

    @pytest.mark.parametrize("n", [23, 26, 200])
    @pytest.mark.parametrize("metric", METRICS)
    def test_entropy_is_unbiased_up_to_as_many_dimensions_as_samples(self, n, metric):
        d = 20
        a = normal(d, d, seed=10**6)
        truth = scipy.stats.multivariate_normal(cov=(a.T @ a).numpy()).entropy()
        stderr = self.mean("entropy", lambda i: [normal(n, d, seed=i) @ a], truth, metric=metric)
        raw = [KNN(3, metric).entropy(normal(n, d, seed=i) @ a) for i in range(5)]
        assert abs(torch.stack(raw).mean().item() - truth) > 8 * stderr

    @pytest.mark.parametrize(("n", "m"), [(150, 60), (40, 200)])
    def test_divergences_are_unbiased(self, n, m):
        d = 10
        truth = d * (math.log(1.5) + (1 + 0.25) / 1.5**2 / 2 - 0.5)

        def draw(i):
            return normal(n, d, seed=i) + 0.5, 1.5 * normal(m, d, seed=i + 1000)

        self.mean("kl_divergence", draw, truth)
        entropy = d * math.log(2 * math.pi * math.e) / 2
        self.mean("cross_entropy", draw, truth + entropy)

    @pytest.mark.parametrize("variant", [1, 2])
    def test_information_is_unbiased(self, variant):
        def draw(i):
            x, noise, z = (normal(60, 5, seed=i + j) for j in (0, 1000, 2000))
            return x, x + noise, x + z

        truth = 5 * math.log(2) / 2
        stderr = self.mean("mutual_information", lambda i: draw(i)[:2], truth, variant=variant)
        raw = [KNN(variant=variant).mutual_information(*draw(i)[:2]).item() for i in range(5)]
        assert truth - np.mean(raw) > 8 * stderr
        if variant == 2:
            return
        # Given x + z, x has half of its variance.
        truth = 5 * math.log(1.5) / 2
        self.mean("conditional_mutual_information", draw, truth)
        truth = -(4 * math.log(1 - 0.5) + math.log(1 + 4 * 0.5)) / 2

        def equal(i):
            return [(normal(60, 5, seed=i) + normal(60, 1, seed=i + 1000)) / math.sqrt(2)]

        self.mean("total_correlation", equal, truth)

    def test_the_copula_takes_care_of_the_features(self):
        d, n = 10, 1500
        entropy = d * (1 + math.log(2))
        cubes = d * (math.log(2 * math.pi * math.e) / 2 + math.log(3))
        cubes += d * (-np.euler_gamma - math.log(2))
        for draw, truth in (
            (lambda seed: laplace(n, d, seed=seed), entropy),
            (lambda seed: normal(n, d, seed=seed) ** 3, cubes),
        ):
            errors = {
                calibration: np.mean(
                    [KNN(calibration=calibration).entropy(draw(i)).item() for i in range(4)]
                )
                - truth
                for calibration in (None, "copula")
            }
            # The features themselves vary: 10 times 1 / sqrt(6000) and 3 times as much.
            assert abs(errors["copula"]) < (0.2 if truth == entropy else 0.4)
            assert abs(errors[None]) > 1.4 * abs(errors["copula"])

    def test_the_copula_of_dependent_features(self):
        x = normal(1500, 5)
        y = 0.8 * x + 0.6 * normal(1500, 5, seed=1)
        truth = -5 * math.log(0.6)
        estimator = KNN(calibration="copula")
        expected = estimator.mutual_information(x, y)
        assert expected.item() == pytest.approx(truth, abs=0.15)
        # Ranks are all that counts.
        for same in (x**3, x.exp(), torch.sinh(3 * x), 1e-11 * x):
            assert estimator.mutual_information(same, y).item() == near(expected)
        both = torch.cat([x, y], 1)
        assert estimator.total_correlation(both).item() == pytest.approx(truth, abs=0.15)
        same = estimator.total_correlation(torch.cat([x**3, y.exp()], 1)).item()
        assert same == near(estimator.total_correlation(both))
        x, y, z = (v[:, :1] for v in arguments("conditional_mutual_information", n=300))
        expected = estimator.conditional_mutual_information(x, y, z)
        value = estimator.conditional_mutual_information(x.exp(), y**3, z.sinh()).item()
        assert value == near(expected)

    def test_an_entropy_changes_with_maps_of_features_as_it_should(self):
        x = normal(1500, 4) @ (normal(4, 4, seed=1) + torch.eye(4))
        estimator = KNN(calibration="copula")
        change = (estimator.entropy(x.sinh()) - estimator.entropy(x)).item()
        assert change == pytest.approx(x.cosh().log().sum(1).mean().item(), abs=0.1)
        expected = estimator.entropy(x).item() + 4 * math.log(1e-11)
        assert estimator.entropy(1e-11 * x).item() == near(expected)
        assert estimator.entropy(1e-11 * x + 7).item() == pytest.approx(expected, abs=0.01)

    @pytest.mark.parametrize(
        ("calibration", "measure"),
        [
            *(("gaussian", m) for m in MEASURES),
            *(("copula", m) for m in ["entropy", *COUNT_MEASURES]),
        ],
    )
    def test_the_bias_is_what_is_subtracted(self, measure, calibration):
        tensors = arguments(measure)
        estimator = KNN(calibration=calibration)
        bias = estimator.bias(measure, *tensors)
        value = getattr(estimator, measure)(*tensors)
        gain = 0.0
        pair = measure in ("cross_entropy", "kl_divergence")
        if calibration == "copula":
            scores = [normal_scores(x) for x in tensors]
            copula = student.fit(scores)
            drawn = copula.draw(4, seed=0)
            truth = getattr(Gaussian(), measure)(*copula.samples) + copula.excess_information()
        else:
            scores = tensors
            drawn = (surrogates.separate if pair else surrogates.paired)(scores, 4, seed=0)
            truth = getattr(Gaussian(), measure)(*scores)
        if calibration == "copula" and measure == "entropy":
            # In place of those of the features, which are standard Gaussian, come their own.
            standard = 3 * math.log(2 * math.pi * math.e) / 2
            correlation = Gaussian().total_correlation(*copula.samples)
            truth = standard - correlation - copula.excess_information()
            gain = sum(KNN().entropy(x) for x in tensors[0].unbind(1)) - standard
        raw = getattr(KNN(), measure)
        assert (raw(*scores) - bias.value + gain).item() == near(value)
        errors = torch.stack([raw(*some) - truth for some in drawn])
        assert bias.value.item() == near(errors.mean())
        assert bias.stderr.item() == near(errors.std() / 2)
        assert bias.value.dtype == bias.stderr.dtype == torch.float64

    @pytest.mark.parametrize("measure", ["entropy", "kl_divergence"])
    def test_its_stderr_is_honest(self, measure):
        tensors = arguments(measure, n=80, m=60, d=8)
        found = [KNN(calibration="gaussian", seed=i).bias(measure, *tensors) for i in range(30)]
        spread = torch.stack([bias.value for bias in found]).std().item()
        # Of four values, a standard deviation is 0.92 of the truth in the mean.
        reported = torch.stack([bias.stderr for bias in found]).mean().item() / 0.92
        assert 0.7 < reported / spread < 1.4
        many = KNN(calibration="gaussian", repeats=100).bias(measure, *tensors)
        assert 3.5 < spread / many.stderr.item() < 7.5

    def test_a_single_surrogate_has_no_stderr(self):
        bias = KNN(calibration="gaussian", repeats=1).bias("entropy", normal(50, 3))
        assert bias.value.isfinite()
        assert bias.stderr.isnan()

    @pytest.mark.parametrize("measure", MEASURES)
    def test_seeds(self, measure):
        tensors = arguments(measure)
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        method = getattr(KNN(calibration="gaussian", seed=5), measure)
        value = method(*tensors).item()
        torch.rand(3)
        assert method(*tensors).item() == value
        other = getattr(KNN(calibration="gaussian", seed=6), measure)(*tensors).item()
        assert other != value
        assert abs(other - value) < 1
        torch.set_rng_state(states[0])
        method(*tensors)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()
        assert random.getstate() == states[2]

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_types_and_devices(self, measure, dtype, device):
        tensors = [x.to(dtype) for x in arguments(measure)]
        for calibration in ("gaussian", "copula"):
            if calibration == "copula" and (
                measure in SAMPLE_MEASURES[1:] or dtype == torch.bfloat16
            ):
                continue
            method = getattr(KNN(10, calibration=calibration), measure)
            value = method(*(x.to(device) for x in tensors))
            assert value.dtype == torch.float64
            assert value.device.type == device
            expected = method(*(x.double() for x in tensors)).item()
            assert value.item() == pytest.approx(expected, abs=1e-4)


def test_a_covariance_without_full_rank_is_named():
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    q = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match=r"^p: expected linearly independent"):
        KNN(k=1, calibration="gaussian").cross_entropy(x, q)
