"""What estimates do not change by, as the mathematics says."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import infoprobe as ip
from tests.estimators.samples import normal

COPULA, GAUSSIAN = ip.KNN(calibration="copula"), ip.KNN(calibration="gaussian")
PLAIN = [ip.KNN(), ip.Gaussian(), ip.KNN(metric="chebyshev")]
CALIBRATED = [COPULA, GAUSSIAN]
SEARCHING = ip.Gaussianization(layers=2, folds=2, residual=ip.Gaussian())
TRAINED = [
    *(replace(SEARCHING, rotation=rotation) for rotation in ("identity", "pca", "random")),
    ip.Critic(steps=20, hidden=8),
]
INFORMATION = ["mutual_information", "conditional_mutual_information", "total_correlation"]
DIVERGENCES = ["kl_divergence"]

seeds = st.integers(0, 1000)
quick = settings(max_examples=6, deadline=None)


def data(measure, seed, n=60):
    x = normal(n, 2, seed=seed)
    near = x + normal(n, 2, seed=seed + 1000)
    if measure in DIVERGENCES:
        return [x, 1.5 * normal(n, 2, seed=seed + 2000)]
    if measure in ("entropy", "total_correlation"):
        return [torch.cat([x[:, :1], near], 1)]
    if measure == "conditional_mutual_information":
        return [x, near, normal(n, 1, seed=seed + 3000) + x[:, :1]]
    return [x, near]


def offered(estimators, measures):
    return [(e, m) for e in estimators for m in measures if hasattr(e, m)]


def values(estimator, measure, tensors, others):
    return tuple(float(getattr(estimator, measure)(*each)) for each in (tensors, others))


def units(width, seed):
    """A factor and a shift for each feature."""
    magnitudes = 4 * normal(width, 1, seed=seed + 4000).squeeze(1)
    return magnitudes.exp() * magnitudes.sign(), normal(width, 1, seed=seed).squeeze(1)


class TestUnits:
    @pytest.mark.parametrize(
        ("estimator", "measure"), offered([*PLAIN, *CALIBRATED, SEARCHING, *TRAINED], INFORMATION)
    )
    @given(seeds)
    @quick
    def test_information_does_not_depend_on_them(self, estimator, measure, seed):
        tensors = data(measure, seed)
        others = []
        for i, x in enumerate(tensors):
            scale, shift = units(x.shape[1], seed + i)
            scale = scale.abs() if estimator in (SEARCHING, *TRAINED) else scale
            others.append(scale * (x + shift))
        before, after = values(estimator, measure, tensors, others)
        # A calibration by a copula draws surrogates, which a mirrored feature draws elsewhere.
        tolerance = 0.3 if estimator in CALIBRATED else 1e-8
        assert after == pytest.approx(before, abs=tolerance)

    @pytest.mark.parametrize("seed", range(3))
    def test_a_search_for_components_that_are_not_there(self, seed):
        """All but one feature are Gaussian: the search wanders among rotations of these."""
        x = normal(600, 6, seed=seed)
        x[:, 0] = x[:, 0].exp()
        scale, shift = units(6, seed)
        searching = ip.Gaussianization("ica", layers=2, folds=2, residual=ip.Gaussian())
        scale = scale.abs()
        before, after = values(searching, "entropy", [x], [scale * (x + shift)])
        assert after == pytest.approx(before + float(scale.log().sum()), abs=1e-8)

    @pytest.mark.parametrize("estimator", [*PLAIN, *CALIBRATED])
    @given(seeds)
    @quick
    def test_entropy_changes_by_their_logarithm(self, estimator, seed):
        (x,) = data("entropy", seed)
        scale, shift = units(3, seed)
        scale = scale.abs() if estimator in CALIBRATED else scale
        before, after = values(estimator, "entropy", [x], [scale * (x + shift)])
        assert after == pytest.approx(before + float(scale.abs().log().sum()), abs=1e-6)

    @pytest.mark.parametrize(
        ("estimator", "measure"),
        offered([*PLAIN, GAUSSIAN, ip.Critic("dv", steps=20)], DIVERGENCES),
    )
    @given(seeds)
    @quick
    def test_divergence_does_not_depend_on_units_of_both(self, estimator, measure, seed):
        tensors = data(measure, seed)
        scale, shift = units(2, seed)
        scale = scale.abs()
        others = [scale * (x + shift) for x in tensors]
        before, after = values(estimator, measure, tensors, others)
        assert after == pytest.approx(before, abs=1e-3)

    @given(seeds, st.integers(-20, 20), st.floats(-9, 9))
    @quick
    def test_kernels_with_the_median_width(self, seed, magnitude, shift):
        renyi = ip.MatrixRenyi()
        for measure in ("entropy", "mutual_information", "total_correlation"):
            tensors = data(measure, seed)
            others = [(x + shift) * 2.0**magnitude for x in tensors]
            before, after = values(renyi, measure, tensors, others)
            assert after == pytest.approx(before, abs=1e-8)


class TestOrder:
    MEASURES = ("entropy", *INFORMATION, *DIVERGENCES)

    @pytest.mark.parametrize(
        ("estimator", "measure"), offered([*PLAIN, *CALIBRATED, ip.MatrixRenyi()], MEASURES)
    )
    @given(seeds)
    @quick
    def test_of_samples(self, estimator, measure, seed):
        if estimator is COPULA and measure in DIVERGENCES:
            return
        tensors = data(measure, seed)
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        before, after = values(estimator, measure, tensors, [x[order] for x in tensors])
        assert after == pytest.approx(before, abs=1e-8)

    @pytest.mark.parametrize(
        ("estimator", "measure"), offered([*PLAIN, ip.MatrixRenyi()], MEASURES)
    )
    @given(seeds)
    @quick
    def test_of_features(self, estimator, measure, seed):
        tensors = data(measure, seed)
        before, after = values(estimator, measure, tensors, [x.flip(1) for x in tensors])
        assert after == pytest.approx(before, abs=1e-8)


class TestBijections:
    @pytest.mark.parametrize(
        ("estimator", "measure"), offered([ip.KNN(), COPULA, ip.KNN(variant=2)], INFORMATION)
    )
    @given(seeds)
    @quick
    def test_increasing_maps_of_features_keep_information(self, estimator, measure, seed):
        tensors = data(measure, seed)
        maps = (torch.sinh, torch.exp, torch.atan)
        others = [f(x) for f, x in zip(maps, tensors, strict=False)]
        before, after = values(estimator, measure, tensors, others)
        assert after == before

    @given(seeds)
    @quick
    def test_linear_maps_and_gaussians(self, seed):
        """A divergence keeps under a map of both, and information under one of each."""
        a, b = normal(2, 2, seed=seed + 1), normal(2, 2, seed=seed + 2)
        for measure, maps in (("kl_divergence", (a, a)), ("mutual_information", (a, b))):
            tensors = data(measure, seed)
            others = [x @ m + 3 for x, m in zip(tensors, maps, strict=True)]
            before, after = values(ip.Gaussian(), measure, tensors, others)
            assert after == pytest.approx(before, abs=1e-7)

    @given(seeds)
    @quick
    def test_rotations_and_neighbours(self, seed):
        """Distances keep under a rotation, if no feature is first measured in units of its own."""
        angle = seed / 100
        turn = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
        x = normal(400, 2, seed=seed)
        before, after = values(ip.KNN(), "entropy", [x], [x @ turn.double()])
        assert after == pytest.approx(before, abs=0.02)

    @given(seeds)
    @quick
    def test_relabelling(self, seed):
        x, _ = data("mutual_information", seed)
        labels = torch.arange(60) % 3
        renamed = torch.tensor([7, -1, 4])[labels]
        for estimator in (ip.KNN(), ip.Histogram(4, over="samples")):
            before, after = values(estimator, "mutual_information", [x, labels], [x, renamed])
            assert after == pytest.approx(before, abs=1e-12)

    @given(seeds, st.integers(-20, 20))
    @quick
    def test_bins_that_follow_the_data(self, seed, magnitude):
        h = ip.Histogram(8)
        for measure in ("entropy", "kl_divergence", "mutual_information"):
            tensors = [x[:, :1] for x in data(measure, seed)]
            others = [x * 2.0**magnitude for x in tensors]
            before, after = values(h, measure, tensors, others)
            assert after == pytest.approx(before, abs=1e-12)
