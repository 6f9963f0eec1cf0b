import itertools
import math
import random
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

import infoprobe as ip
from infoprobe.estimators import KNN, Gaussian
from infoprobe.estimators.knn import surrogates
from infoprobe.neighbors import nearest, tiles
from infoprobe.neighbors import points as points_module
from tests import textbook_neighbors as textbook

METRICS = ["euclidean", "chebyshev"]
SAMPLE_MEASURES = ["entropy", "cross_entropy", "kl_divergence"]
COUNT_MEASURES = ["mutual_information", "conditional_mutual_information", "total_correlation"]
MEASURES = SAMPLE_MEASURES + COUNT_MEASURES
ATOMS = r"coincide with at least k=\d+ (others|of q).*Dequantise.*ip\.Histogram"


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def uniform(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def laplace(*shape, seed=0):
    u = uniform(*shape, seed=seed) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())


def arguments(measure, n=60, d=3, m=50, seed=0):
    """Samples for a measure: dependent, or differently distributed."""
    x = normal(n, d, seed=seed)
    if measure in ("entropy", "total_correlation"):
        return [torch.cat([x[:, :1], x[:, 1:] + x[:, :1]], 1)]
    if measure in ("cross_entropy", "kl_divergence"):
        return [x, 1.5 * normal(m, d, seed=seed + 1) + 0.5]
    y = x[:, :2] + normal(n, 2, seed=seed + 2)
    z = x[:, :1] - y[:, :1] + normal(n, 1, seed=seed + 3)
    return [x, y] if measure == "mutual_information" else [x, y, z]


def textbook_value(measure, tensors, k, metric, variant=1):
    arrays = [x.double().numpy() for x in tensors]
    if measure == "mutual_information":
        return textbook.multi_information(arrays, k, metric, variant)
    if measure == "total_correlation":
        columns = np.split(arrays[0], arrays[0].shape[1], 1)
        return textbook.multi_information(columns, k, metric, variant)
    return getattr(textbook, measure)(*arrays, k, metric)


def near(value, abs=1e-9):
    return pytest.approx(float(value), abs=abs, rel=1e-10)


class TestClosedForms:
    """Within four standard errors, or so, where the bias of small d is less than that."""

    DISTRIBUTIONS = (
        (normal, math.log(2 * math.pi * math.e) / 2),
        (lambda *shape, seed=0: 3 * uniform(*shape, seed=seed), math.log(3)),
        (laplace, 1 + math.log(2)),
        (lambda *shape, seed=0: -uniform(*shape, seed=seed).log(), 1),
        (
            lambda *shape, seed=0: (math.pi * uniform(*shape, seed=seed)).tan(),
            math.log(4 * math.pi),
        ),
    )

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("k", [1, 3, 10])
    @pytest.mark.parametrize(("draw", "per_dimension"), DISTRIBUTIONS)
    def test_entropies(self, draw, per_dimension, k, metric):
        for d in (1, 2):
            x = draw(4000, d)
            expected = d * per_dimension
            assert KNN(k, metric).entropy(x).item() == pytest.approx(expected, abs=0.05 * d**1.5)

    def test_correlated_gaussians(self):
        a = normal(3, 3, seed=5)
        expected = scipy.stats.multivariate_normal(cov=(a.T @ a).numpy()).entropy()
        assert KNN().entropy(normal(5000, 3) @ a).item() == pytest.approx(expected, abs=0.1)

    @pytest.mark.parametrize("d", [1, 5, 20, 100])
    def test_gaussians_of_any_d_with_calibration(self, d):
        x = normal(1500, d)
        expected = d * math.log(2 * math.pi * math.e) / 2
        value = KNN(calibration="gaussian").entropy(x).item()
        assert value == pytest.approx(expected, abs=4 * math.sqrt((d + 1) / 3000))

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize(("n", "m"), [(4000, 4000), (4000, 1000), (1000, 4000)])
    def test_divergences_of_samples_of_different_sizes(self, n, m, metric):
        shift, scale = 0.5, 1.5
        p, q = normal(n, 2) + shift, scale * normal(m, 2, seed=1)
        expected = 2 * math.log(scale) + (1 + shift**2) / scale**2 - 1
        assert KNN(3, metric).kl_divergence(p, q).item() == pytest.approx(expected, abs=0.12)
        expected += math.log(2 * math.pi * math.e)
        assert KNN(3, metric).cross_entropy(p, q).item() == pytest.approx(expected, abs=0.12)

    def test_a_divergence_in_five_dimensions_is_not_multiplied_by_the_sizes(self):
        # The truth is 2.5; cross-entropies divided by m instead of n give 11.2 for m = 1000.
        p = normal(4000, 5) + 1
        values = [KNN().kl_divergence(p, normal(m, 5, seed=1)).item() for m in (1000, 4000, 8000)]
        assert all(1.5 < value < 2.5 for value in values)
        assert max(values) - min(values) < 0.4

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("variant", [1, 2])
    @pytest.mark.parametrize("snr", [0, 0.5, 10])
    def test_linear_channels(self, snr, variant, metric):
        x = normal(3000, 1)
        y = math.sqrt(snr) * x + normal(3000, 1, seed=1)
        estimator = KNN(5, metric, variant=variant)
        expected = math.log1p(snr) / 2
        assert estimator.mutual_information(x, y).item() == pytest.approx(expected, abs=0.06)
        x = normal(3000, 2)
        y = math.sqrt(snr) * x + normal(3000, 2, seed=1)
        information = estimator.mutual_information(x, y).item()
        assert information == pytest.approx(2 * expected, abs=0.06 + 0.1 * expected)

    @pytest.mark.parametrize("metric", METRICS)
    def test_a_chain(self, metric):
        x = normal(3000, 1)
        z = x + normal(3000, 1, seed=1)
        y = z + normal(3000, 1, seed=2)
        estimator = KNN(5, metric)
        assert estimator.mutual_information(x, y).item() == pytest.approx(0.203, abs=0.06)
        conditional = estimator.conditional_mutual_information(x, y, z)
        assert conditional.item() == pytest.approx(0, abs=0.05)
        # Given the sum of two, each tells about the other.
        conditional = estimator.conditional_mutual_information(x, z - x, y)
        expected = (math.log(2 / 3) + math.log(2 / 3) - math.log(1 / 3)) / 2
        assert conditional.item() == pytest.approx(expected, abs=0.06)

    @pytest.mark.parametrize("variant", [1, 2])
    def test_equal_correlations(self, variant):
        d, r = 4, 0.4
        x = math.sqrt(r) * normal(3000, 1) + math.sqrt(1 - r) * normal(3000, d, seed=1)
        expected = -((d - 1) * math.log1p(-r) + math.log1p((d - 1) * r)) / 2
        value = KNN(5, variant=variant).total_correlation(x).item()
        assert value == pytest.approx(expected, abs=0.07)
        assert KNN().total_correlation(normal(100)).item() == near(0)

    def test_labels(self):
        labels = torch.arange(3000) % 4
        apart = labels + 0.5 * uniform(3000)
        assert KNN().mutual_information(apart, labels).item() == pytest.approx(
            math.log(4), abs=0.01
        )
        # Gao et al. 2017: y is uniform on [x, x + 2] for x = 0 .. m - 1.
        y = labels + 2 * uniform(3000, seed=1)
        expected = math.log(4) - 3 * math.log(2) / 4
        for metric in METRICS:
            information = KNN(5, metric).mutual_information(y, labels).item()
            assert information == pytest.approx(expected, abs=0.06)
            information = KNN(5, metric).mutual_information(normal(3000, 2), labels).item()
            assert information == pytest.approx(0, abs=0.04)

    def test_nothing_is_clamped(self):
        values = [KNN().mutual_information(*normal(2, 100, seed=i)).item() for i in range(40)]
        assert 8 <= sum(value < 0 for value in values) <= 32
        values = [KNN().kl_divergence(*normal(2, 100, seed=i)).item() for i in range(40)]
        assert 8 <= sum(value < 0 for value in values) <= 32


class TestExactly:
    """Points whose distances are known."""

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [1, 2, 3])
    def test_a_lattice(self, d, metric):
        steps = range({1: 50, 2: 8, 3: 5}[d])
        x = torch.tensor(list(itertools.product(steps, repeat=d)), dtype=torch.float64)
        # The unit ball's volume, by its radius.
        euclidean = {1: 2, 2: math.pi, 3: 4 / 3 * math.pi}[d]
        volume = euclidean if metric == "euclidean" else 2**d
        harmonic = sum(1 / i for i in range(1, len(x)))
        for spacing in (1, 0.5, 1e-11):
            expected = harmonic + math.log(volume) + d * math.log(spacing)
            assert KNN(1, metric).entropy(spacing * x).item() == near(expected)

    @pytest.mark.parametrize("d", [20, 342, 784, 10_000])
    def test_a_simplex(self, d):
        # All distances are sqrt(2); gamma(d / 2 + 1) overflows at d = 342.
        x = torch.linalg.qr(normal(d, 12)).Q.T
        log_volume = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
        harmonic = sum(1 / i for i in range(3, 12))
        expected = harmonic + log_volume + d / 2 * math.log(2)
        assert KNN(3).entropy(x).item() == near(expected)
        # In the Chebyshev metric, that of corners of a cube is its edge.
        x = torch.eye(12).repeat_interleave(d // 10, 1)[:, :d].double()
        expected = harmonic + x.shape[1] * math.log(2)
        assert KNN(3, "chebyshev").entropy(x).item() == near(expected)

    def test_a_divergence(self):
        # The nearest neighbours in p are at 1, in q at 3.
        p = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        q = torch.tensor([[0.0, -3.0], [1.0, -3.0], [-3.0, 1.0], [9.0, 9.0]])
        expected = 2 * math.log(3) + math.log(4 / 2)
        assert KNN(1).kl_divergence(p, q).item() == near(expected)
        entropy = 1 / 1 + 1 / 2 + math.log(math.pi)
        assert KNN(1).entropy(p).item() == near(entropy)
        assert KNN(1).cross_entropy(p, q).item() == near(expected + entropy)

    def test_information(self):
        # x = y = 0 .. 3 with k = 1: nobody is nearer than the neighbour at distance 1.
        x = torch.arange(4.0)
        psi_1, psi_4 = -np.euler_gamma, 11 / 6 - np.euler_gamma
        expected = psi_1 + psi_4 - 2 * psi_1
        assert KNN(1).mutual_information(x, x).item() == near(expected)
        # At most as far: one neighbour for the points at the ends, two in between.
        psi_2 = psi_1 + 1
        expected = psi_1 - 1 + psi_4 - 2 * (psi_1 + psi_2) / 2
        assert KNN(1).mutual_information(x, x, variant=2).item() == near(expected)


class TestAgainstTheTextbook:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("k", [1, 4, 29])
    @pytest.mark.parametrize("measure", MEASURES)
    def test_all_measures(self, measure, k, metric, device):
        tensors = arguments(measure)
        expected = textbook_value(measure, tensors, k, metric)
        value = getattr(KNN(k, metric), measure)(*(x.to(device) for x in tensors))
        assert value.item() == near(expected)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("widths", [(1, 1), (2, 1), (5, 4), (70, 65)])
    def test_both_variants_in_any_dimensions(self, widths, metric):
        x, y = (normal(60, d, seed=d) for d in widths)
        y = y + x[:, :1]
        for k, variant in itertools.product((1, 5), (1, 2)):
            expected = textbook_value("mutual_information", [x, y], k, metric, variant)
            estimator = KNN(k, metric, variant=variant)
            assert estimator.mutual_information(x, y).item() == near(expected)
            value = KNN(k, metric, variant=3 - variant).mutual_information(x, y, variant=variant)
            assert value.item() == near(expected)

    @pytest.mark.parametrize("variant", [1, 2])
    @pytest.mark.parametrize("d", [2, 3, 9])
    def test_total_correlation(self, d, variant):
        x = normal(60, d) + normal(60, 1, seed=1)
        for metric in METRICS:
            expected = textbook_value("total_correlation", [x], 3, metric, variant)
            estimator = KNN(3, metric, variant=variant)
            assert estimator.total_correlation(x).item() == near(expected)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("widths", [(1, 1, 1), (2, 1, 3), (9, 2, 4)])
    def test_conditional_information(self, widths, metric):
        x, y, z = (normal(60, d, seed=i) for i, d in enumerate(widths))
        y, z = y + x[:, :1], z + y[:, :1]
        for k in (1, 5):
            expected = textbook_value("conditional_mutual_information", [x, y, z], k, metric)
            value = KNN(k, metric).conditional_mutual_information(x, y, z)
            assert value.item() == near(expected)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [1, 3, 9])
    def test_labels(self, d, metric):
        labels = torch.arange(100) ** 2 % 7  # 0, 1, 2 and 4, of different numbers
        x = normal(100, d) + labels[:, None]
        expected = textbook.mutual_information_with_labels(x.numpy(), labels.tolist(), 3, metric)
        estimator = KNN(3, metric)
        assert estimator.mutual_information(x, labels).item() == near(expected)
        assert estimator.mutual_information(labels, x).item() == near(expected)
        # Labels are names.
        renamed = -100 * labels + 3
        for same in (renamed, renamed.to(torch.int16), labels.to(torch.uint8), labels[:, None]):
            assert estimator.mutual_information(x, same).item() == near(expected)
        assert estimator.mutual_information(labels.numpy(), x.numpy()).item() == near(expected)
        halves = labels > 1
        expected = textbook.mutual_information_with_labels(x.numpy(), halves.tolist(), 3, metric)
        assert estimator.mutual_information(x, halves).item() == near(expected)

    def test_a_single_label_tells_nothing(self):
        assert KNN().mutual_information(normal(50, 2), torch.zeros(50).long()).item() == near(0)

    @given(st.data())
    @settings(max_examples=80, deadline=None)
    def test_ties_on_a_lattice(self, drawn):
        n, k = drawn.draw(st.integers(5, 16)), drawn.draw(st.integers(1, 4))
        metric = drawn.draw(st.sampled_from(METRICS))
        # Steps of 1/10 and offsets of 0.7 are no floats: distances are equal up to rounding.
        step, offset = drawn.draw(st.sampled_from([(1, 0), (0.1, 0.7), (1e-11, 0), (1e5, 1)]))

        def draw():
            d = drawn.draw(st.integers(1, 2))
            return drawn.draw(hnp.arrays(np.float64, (n, d), elements=st.integers(-9, 9)))

        x, y, z = draw(), draw(), draw()
        floats = [step * v + offset for v in (x, y, z)]
        estimator = KNN(k, metric)
        if max(self.most_equal(v) for v in (x, y)) > k:
            with pytest.raises(ValueError, match=ATOMS):
                estimator.mutual_information(*floats[:2])
            return
        expected = textbook.multi_information([x, y], k, metric)
        assert estimator.mutual_information(*floats[:2]).item() == near(expected)
        if self.most_equal(z) <= k:
            expected = textbook.conditional_mutual_information(x, y, z, k, metric)
            value = estimator.conditional_mutual_information(*floats)
            assert value.item() == near(expected)
        labels = np.arange(n) % 2
        if n >= 2 * (k + 1):
            expected = textbook.mutual_information_with_labels(x, labels, k, metric)
            assert estimator.mutual_information(floats[0], labels).item() == near(expected)

    @staticmethod
    def most_equal(x):
        return np.unique(x, axis=0, return_counts=True)[1].max()


class TestAgainstOthers:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [1, 2, 10])
    def test_infomeasure_of_samples(self, d, metric):
        im = pytest.importorskip("infomeasure")
        p, q = normal(200, d).numpy(), 1.5 * normal(200, d, seed=1).numpy()
        options = {"approach": "kl", "k": 4, "noise_level": 0, "base": "e"}
        options["minkowski_p"] = 2 if metric == "euclidean" else np.inf
        expected = im.entropy(p, **options)
        assert KNN(4, metric).entropy(p).item() == near(expected)
        # It has ln(n / n) in place of ln(m / (n - 1)), so that only equal sizes compare.
        expected = im.kld(p, q, **options) + math.log(200 / 199)
        assert KNN(4, metric).kl_divergence(p, q).item() == near(expected)

    def test_infomeasure_of_pairs(self):
        im = pytest.importorskip("infomeasure")
        x, y, z = (v.numpy() for v in arguments("conditional_mutual_information", n=200))
        options = {"approach": "ksg", "k": 4, "noise_level": 0, "base": "e", "normalize": False}
        options["minkowski_p"] = np.inf
        estimator = KNN(4, "chebyshev")
        expected = im.mutual_information(x, y, **options)
        assert estimator.mutual_information(x, y).item() == near(expected)
        expected = im.mutual_information(x[:, 0], y[:, 0], z[:, 0], **options)
        columns = np.concatenate([x[:, :1], y[:, :1], z], 1)
        assert estimator.total_correlation(columns).item() == near(expected)
        expected = im.conditional_mutual_information(x, y, cond=z, **options)
        assert estimator.conditional_mutual_information(x, y, z).item() == near(expected)

    @pytest.mark.parametrize("k", [1, 3, 7])
    def test_scikit_learn(self, k):
        # It scales to unit variance, adds noise of 1e-10 and clips at 0.
        x = normal(300, 1)
        y = x[:, 0] + normal(300, seed=1)
        x, y = x / x.std(correction=0), y / y.std(correction=0)
        expected = mutual_info_regression(x, y, n_neighbors=k, random_state=0)
        assert KNN(k).mutual_information(x, y).item() == near(expected[0], abs=1e-6)
        labels = (y > 0).long() + (y > 1)
        expected = mutual_info_classif(x, labels, n_neighbors=k, random_state=0)
        assert KNN(k).mutual_information(x, labels).item() == near(expected[0], abs=1e-6)


class TestProperties:
    @given(
        st.sampled_from(MEASURES),
        st.sampled_from(METRICS),
        st.integers(0, 1000),
        st.floats(-11, 11),
        st.floats(-1000, 1000),
        st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_maps_of_all_data(self, measure, metric, seed, magnitude, offset, mirrored):
        tensors = arguments(measure, n=40, seed=seed)
        scale = 10**magnitude
        moved = [(-scale if mirrored else scale) * (x + offset) for x in tensors]
        gain = 3 * math.log(scale) if measure in ("entropy", "cross_entropy") else 0
        method = getattr(KNN(3, metric), measure)
        assert method(*moved).item() == near(method(*tensors).item() + gain, abs=1e-7)

    @given(st.sampled_from(SAMPLE_MEASURES), st.integers(0, 1000), st.integers(2, 8))
    @settings(max_examples=30, deadline=None)
    def test_rotations(self, measure, seed, d):
        tensors = arguments(measure, n=40, d=d, seed=seed)
        rotation, _ = torch.linalg.qr(normal(d, d, seed=seed))
        method = getattr(KNN(), measure)
        assert method(*(x @ rotation for x in tensors)).item() == near(method(*tensors))
        turned = KNN().mutual_information(tensors[0] @ rotation, tensors[0][:, :1] ** 2).item()
        expected = KNN().mutual_information(tensors[0], tensors[0][:, :1] ** 2)
        assert turned == near(expected)

    @given(
        st.sampled_from(MEASURES),
        st.sampled_from(METRICS),
        st.sampled_from([None, "gaussian"]),
        st.integers(0, 1000),
    )
    @settings(max_examples=40, deadline=None)
    def test_the_order_of_rows_and_features(self, measure, metric, calibration, seed):
        tensors = arguments(measure, n=40, m=30, seed=seed)
        generator = np.random.default_rng(seed)
        rows = [torch.from_numpy(generator.permutation(len(x))) for x in tensors]
        if measure not in ("cross_entropy", "kl_divergence"):
            rows = rows[:1] * len(rows)
        method = getattr(KNN(3, metric), measure)
        expected = method(*tensors).item()
        assert method(*(x[i] for x, i in zip(tensors, rows, strict=True))).item() == near(expected)
        assert method(*(x.flip(1) for x in tensors)).item() == near(expected)
        if calibration:
            # The same covariance makes the same surrogates.
            method = getattr(KNN(3, metric, calibration), measure)
            shuffled = method(*(x[i] for x, i in zip(tensors, rows, strict=True)))
            assert shuffled.item() == near(method(*tensors))

    @given(st.sampled_from(METRICS), st.integers(0, 1000), st.sampled_from([1, 2]))
    @settings(max_examples=30, deadline=None)
    def test_information_is_symmetric(self, metric, seed, variant):
        x, y, z = arguments("conditional_mutual_information", n=40, seed=seed)
        for calibration in (None, "copula"):
            estimator = KNN(3, metric, calibration, variant=variant)
            swapped = estimator.mutual_information(y, x).item()
            tolerance = 1e-9 if calibration is None else 0.5
            expected = estimator.mutual_information(x, y).item()
            assert swapped == pytest.approx(expected, abs=tolerance)
        estimator = KNN(3, metric)
        swapped = estimator.conditional_mutual_information(y, x, z).item()
        assert swapped == near(estimator.conditional_mutual_information(x, y, z))

    @pytest.mark.parametrize("variant", [1, 2])
    def test_total_correlation_of_two_is_information(self, variant):
        x = arguments("total_correlation", d=2)[0]
        for metric in METRICS:
            estimator = KNN(3, metric, variant=variant)
            expected = estimator.mutual_information(*x.split(1, 1))
            assert estimator.total_correlation(x).item() == near(expected)

    def test_the_chain_rule_holds_within_errors(self):
        x, y, z = arguments("conditional_mutual_information", n=3000, d=2)
        estimator = KNN(5)
        whole = estimator.mutual_information(x, torch.cat([y, z], 1)).item()
        parts = estimator.mutual_information(x, z)
        parts += estimator.conditional_mutual_information(x, y, z)
        assert whole == pytest.approx(parts.item(), abs=0.1)
        # TC(X1, X2, X3) = I(X1; X2) + I(X1, X2; X3)
        three = arguments("total_correlation", n=3000)[0]
        parts = estimator.mutual_information(three[:, :1], three[:, 1:2])
        parts += estimator.mutual_information(three[:, :2], three[:, 2:])
        value = estimator.total_correlation(three).item()
        assert value == pytest.approx(parts.item(), abs=0.1)

    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_cross_entropy_is_the_sum_of_entropy_and_divergence(self, calibration):
        p, q = arguments("cross_entropy")
        for metric in METRICS:
            estimator = KNN(3, metric, calibration)
            parts = (estimator.entropy(p) + estimator.kl_divergence(p, q)).item()
            # Surrogates of p are the same for each, as they are drawn first.
            assert estimator.cross_entropy(p, q).item() == near(parts)

    @pytest.mark.parametrize("variant", [1, 2])
    @pytest.mark.parametrize(
        "bijection",
        [torch.exp, torch.sinh, lambda x: x**3, lambda x: -7 * x - 3, torch.special.ndtr],
    )
    def test_information_under_bijections(self, bijection, variant):
        x = normal(3000, 1)
        y = x + 0.5 * normal(3000, 1, seed=1)
        expected = math.log(5) / 2
        estimator = KNN(5, variant=variant)
        assert estimator.mutual_information(bijection(x), y).item() == pytest.approx(
            expected, abs=0.07
        )

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_threads_and_blocks_change_nothing(self, measure, calibration):
        tensors = arguments(measure, n=200, m=150, d=9)
        method = getattr(KNN(calibration=calibration, repeats=1), measure)
        expected = method(*tensors)
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert method(*tensors).item() == near(expected)
        finally:
            torch.set_num_threads(threads)
        with (
            mock.patch.multiple(tiles, _TILE=(64, 128), _TILE_SYMMETRIC=(64, 128)),
            mock.patch.object(points_module, "BLOCK", 1000),
        ):
            assert method(*tensors).item() == near(expected)
        for tree in (False, True):
            with (
                mock.patch.object(nearest, "_suits_tree", return_value=tree),
                mock.patch.object(nearest, "_TREE_DIMENSIONS", 10**9),
                mock.patch.object(tiles, "_SYMMETRIC_DIMENSIONS", 1),
            ):
                assert method(*tensors).item() == near(expected)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_types_and_devices(self, measure, dtype, device):
        # Steps of bfloat16 leave some ties.
        tensors = [x.to(dtype) for x in arguments(measure)]
        copies = [x.clone() for x in tensors]
        method = getattr(KNN(10), measure)
        value = method(*(x.to(device) for x in tensors))
        assert value.dtype == torch.float64
        assert value.dim() == 0
        assert value.device.type == device
        assert value.item() == near(method(*(x.double() for x in tensors)))
        assert all(torch.equal(x, copy) for x, copy in zip(tensors, copies, strict=True))

    @pytest.mark.parametrize("measure", MEASURES[1:-1])
    def test_types_may_differ(self, measure):
        tensors = arguments(measure, d=9)
        method = getattr(KNN(), measure)
        for narrow in itertools.product([False, True], repeat=len(tensors)):
            mixed = [x.float() if small else x for x, small in zip(tensors, narrow, strict=True)]
            assert method(*mixed).item() == near(method(*(x.double() for x in mixed)))

    def test_types_that_differ_far_from_the_origin(self):
        p = (1e4 + 0.005 * normal(1000, 8)).float()
        q = 1e4 + 0.005 * normal(2000, 8, seed=1)
        for a, b in ((p, q), (q, p)):
            expected = KNN().kl_divergence(a.double(), b.double())
            assert KNN().kl_divergence(a, b).item() == near(expected)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_whatever_follows_the_first_axis_is_flattened(self, measure):
        tensors = arguments(measure)
        method = getattr(KNN(), measure)
        expected = method(*tensors).item()
        assert method(*(x[:, None, :, None].numpy() for x in tensors)).item() == expected
        assert method(*(x.tolist() for x in tensors)).item() == expected

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_the_callers_settings_do_not_matter(self, measure, calibration):
        tensors = [x.float() for x in arguments(measure, d=9)]
        method = getattr(KNN(calibration=calibration), measure)
        expected = method(*tensors).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert method(*tensors).item() == expected
        with torch.inference_mode():
            assert method(*tensors).item() == expected
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            assert method(*tensors).item() == expected
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("measure", ["entropy", "kl_divergence", "mutual_information"])
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_the_default_dtype_does_not_matter(self, measure, calibration):
        tensors = [x.float() for x in arguments(measure, d=9)]
        method = getattr(KNN(calibration=calibration), measure)
        expected = method(*tensors).item()
        torch.set_default_dtype(torch.float64)
        try:
            assert method(*tensors).item() == expected
        finally:
            torch.set_default_dtype(torch.float32)

    @pytest.mark.parametrize("measure", ["entropy", "kl_divergence", "mutual_information"])
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_the_default_device_does_not_matter(self, measure, calibration):
        for d in (2, 9):
            tensors = arguments(measure, d=d)
            method = getattr(KNN(calibration=calibration), measure)
            expected = method(*tensors).item()
            # Of a device without memory, any tensor made on it is found out.
            with torch.device("meta"):
                assert method(*tensors).item() == expected

    def test_by_functions_in_any_unit(self):
        x, y, z = arguments("conditional_mutual_information")
        bits = ip.entropy(x, KNN(), base=2).item()
        assert bits == near(KNN().entropy(x) / math.log(2))
        value = ip.conditional_mutual_information(x, y, z).item()
        assert value == near(KNN().conditional_mutual_information(x, y, z))


class TestGradients:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    @pytest.mark.parametrize("measure", SAMPLE_MEASURES)
    def test_they_equal_finite_differences(self, measure, calibration, metric):
        tensors = [x.requires_grad_() for x in arguments(measure, n=9, m=8, d=2)]
        method = getattr(KNN(2, metric, calibration, repeats=2), measure)
        assert torch.autograd.gradcheck(method, tensors)

    @pytest.mark.parametrize("engine", ["tree", "tiles"])
    def test_a_loss_of_information(self, engine):
        x, y = (v.requires_grad_() for v in arguments("mutual_information", n=10, d=2))

        def loss(x, y):
            knn = KNN(2)
            return knn.entropy(x) + knn.entropy(y) - knn.entropy(torch.cat([x, y], 1))

        with mock.patch.object(nearest, "_suits_tree", return_value=engine == "tree"):
            assert torch.autograd.gradcheck(loss, (x, y))

    def test_half_precision(self):
        x = normal(100, 9).half().requires_grad_()
        KNN().entropy(x).backward()
        assert x.grad.dtype == torch.float16
        assert x.grad.isfinite().all()
        assert x.grad.abs().max() > 0.001

    @pytest.mark.parametrize("calibration", [None, "gaussian", "copula"])
    @pytest.mark.parametrize("measure", COUNT_MEASURES)
    def test_counts_have_none(self, measure, calibration):
        tensors = [x.requires_grad_() for x in arguments(measure)]
        assert not getattr(KNN(calibration=calibration), measure)(*tensors).requires_grad

    def test_labels_have_none(self):
        x = normal(50, 2).requires_grad_()
        assert not KNN().mutual_information(x, torch.arange(50) % 2).requires_grad

    def test_ranks_have_none(self):
        assert not KNN(calibration="copula").entropy(normal(50, 2).requires_grad_()).requires_grad


class TestPrecision:
    def test_an_offset_far_beyond_the_spread(self):
        centred = 0.01 * normal(400, 784)
        p = (centred + 100).float()
        q = 0.01 * normal(400, 784, seed=1)
        for measure, others in (("entropy", []), ("cross_entropy", [q]), ("kl_divergence", [q])):
            for metric in METRICS:
                method = getattr(KNN(3, metric), measure)
                expected = method(centred, *others).item()
                shifted = method(p, *((x + 100).float() for x in others)).item()
                assert shifted == pytest.approx(expected, abs=1e-3 * 784)
                exact = method(centred + 100, *(x + 100 for x in others)).item()
                assert exact == pytest.approx(expected, abs=1e-7 * 784)

    def test_an_offset_far_beyond_the_spread_with_calibration(self):
        centred = 0.01 * normal(900, 784)
        estimator = KNN(calibration="gaussian", repeats=1)
        expected = estimator.entropy(centred).item()
        shifted = estimator.entropy((centred + 100).float()).item()
        assert shifted == pytest.approx(expected, abs=1e-3 * 784)
        # In float32, single features have ties there, of which a copula has none.
        with pytest.raises(ValueError, match="in one of its features"):
            KNN(calibration="copula").entropy((centred + 100).float())

    @pytest.mark.parametrize("offset", [0, 100])
    def test_many_samples_of_one_dimension(self, offset):
        # Neighbours are at 1e-5; squares in float32 resolve 1e-4 of the spread.
        x = normal(100_000) + offset
        expected = math.log(2 * math.pi * math.e) / 2
        assert KNN().entropy(x).item() == pytest.approx(expected, abs=0.012)
        y = x + normal(100_000, seed=1)
        information = KNN().mutual_information(x, y).item()
        assert information == pytest.approx(math.log(2) / 2, abs=0.02)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_data_at_1e_11(self, measure):
        # Where others add noise of 1e-10 or 1e-8, it would be the result.
        tensors = arguments(measure, n=500)
        gain = 3 * math.log(1e-11) if measure in ("entropy", "cross_entropy") else 0
        for metric in METRICS:
            method = getattr(KNN(3, metric), measure)
            value = method(*(1e-11 * x for x in tensors)).item()
            assert value == near(method(*tensors).item() + gain)
            # Around 1, float64 keeps five digits of them.
            value = method(*(1 + 1e-11 * x for x in tensors)).item()
            assert value == pytest.approx(method(*tensors).item() + gain, abs=0.01)

    @pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
    @pytest.mark.parametrize("d", [1, 2, 8])
    def test_beyond_the_range_of_squares_entropies_are_right_or_refused(self, d, scale):
        x = normal(60, d)
        expected = KNN().entropy(x).item() + d * math.log(scale)
        try:
            value = KNN().entropy(x * scale).item()
        except ValueError as error:
            assert "Rescale" in str(error)  # noqa: PT017
        else:
            assert value == near(expected)


class TestAtoms:
    def halved(self, *shape):
        """Half of the rows are exactly zero."""
        x = normal(*shape)
        x[::2] = 0
        return x

    @pytest.mark.parametrize("d", [1, 2, 20])
    @pytest.mark.parametrize("metric", METRICS)
    def test_half_of_the_rows_are_zero(self, d, metric):
        x, other = self.halved(200, d), normal(200, d, seed=1)
        calls = [
            ("entropy", [x], "x", 100),
            ("kl_divergence", [x, other], "p", 100),
            ("cross_entropy", [x, x + 0], "p, q", 100),
            ("mutual_information", [x, other], "x", 100),
            ("mutual_information", [other, x], "y", 100),
            ("mutual_information", [x, torch.arange(200) % 3], "x", 100),
            ("mutual_information", [torch.arange(200) % 3, x], "y", 100),
            ("conditional_mutual_information", [other, x, other + 1], "y", 100),
            ("conditional_mutual_information", [other, other + 1, x], "z", 100),
            ("total_correlation", [x], "x", 100),
        ]
        for measure, tensors, name, count in calls:
            with pytest.raises(ValueError, match=rf"^{name}: .* {count} of 200 .*{ATOMS}"):
                getattr(KNN(3, metric), measure)(*tensors)
        # Among those of q, atoms of q alone do no harm.
        assert KNN(3, metric).kl_divergence(other, x).isfinite()

    def test_rectified_data(self):
        p, q = normal(500, 2).relu(), normal(500, 2, seed=1).relu()
        for measure in ("kl_divergence", "cross_entropy"):
            with pytest.raises(ValueError, match=ATOMS):
                getattr(KNN(), measure)(p, q)
        with pytest.raises(ValueError, match=ATOMS):
            KNN().mutual_information(p[:, 0], q)

    @pytest.mark.parametrize("k", [1, 2, 5])
    @pytest.mark.parametrize("d", [1, 3, 9])
    def test_as_many_as_set_the_radius_are_refused(self, k, d):
        x, y = normal(60, d), normal(60, d, seed=1)
        x[10 : 10 + k] = x[10].clone()
        assert KNN(k).entropy(x).isfinite()
        assert KNN(k).mutual_information(x, y).isfinite()
        x[10 : 11 + k] = x[10].clone()
        message = rf"^x: .* {k + 1} of 60 coincide with at least k={k} others"
        with pytest.raises(ValueError, match=message):
            KNN(k).entropy(x)
        with pytest.raises(ValueError, match=message):
            KNN(k).mutual_information(x, y)
        with pytest.raises(ValueError, match=message.replace("x:", "p:")):
            KNN(k).kl_divergence(x, y)

    def test_those_that_two_samples_share(self):
        p, q = normal(60, 2), normal(60, 2, seed=1)
        for k in (1, 2):
            message = r"^p, q: .* 60 of 60 samples of p coincide with at least k=1 of q"
            with pytest.raises(ValueError, match=message):
                KNN(k).kl_divergence(p, p)
        q = torch.cat([q, p[7].expand(2, 2)])
        assert KNN(3).cross_entropy(p, q).isfinite()
        with pytest.raises(ValueError, match=r"^p, q: .* 1 of 60 samples of p coincide .* k=2 of"):
            KNN(2).cross_entropy(p, q)
        # A few are tolerated.
        assert KNN(2).kl_divergence(p, torch.cat([q[:60], p[:11]])).isfinite()
        with pytest.raises(
            ValueError, match=r"^p, q: .* 30 of 60 samples of p coincide .* k=1 of"
        ):
            KNN(2).kl_divergence(p, torch.cat([q[:60], p[:30]]))

    def test_twins(self):
        # By chance, float32 has a few.
        x = normal(100, 2)
        x[:10] = x[50:60].clone()
        assert KNN(2).entropy(x).item() == near(textbook_value("entropy", [x], 2, "euclidean"))
        with pytest.raises(ValueError, match=r"^x: .* 20 of 100 coincide with at least k=1"):
            KNN(1).entropy(x)
        x[:30] = x[50:80].clone()
        with pytest.raises(ValueError, match=rf"^x: .* 60 of 100 {ATOMS}"):
            KNN(2).entropy(x)

    def test_those_of_single_features(self):
        x = normal(200, 4)
        x[:, 1] = x[:, 1].round()
        x[:50, 3] = 0
        tied = (torch.unique(x[:, 1], return_counts=True)[1] > 3).sum()
        assert tied > 1
        assert KNN().entropy(x).isfinite()
        for estimator, measure in (
            (KNN(), "total_correlation"),
            (KNN(calibration="copula"), "total_correlation"),
            (KNN(calibration="copula"), "entropy"),
        ):
            message = r"^x: .* of 200 coincide .* in one of its features \(2 have such\)"
            with pytest.raises(ValueError, match=message):
                getattr(estimator, measure)(x)

    def test_labels_that_are_floats(self):
        labels = torch.arange(90) % 3
        x = normal(90, 2) + labels[:, None]
        for pair, name in (((x, labels.float()), "y"), ((labels.double(), x), "x")):
            with pytest.raises(ValueError, match=rf"^{name}: .* 90 of 90 .*labels as integers"):
                KNN().mutual_information(*pair)

    @pytest.mark.parametrize("layout", ["rows", "columns", "float32 columns"])
    def test_all_are_counted_however_they_lie_in_memory(self, layout):
        for n, d in ((17, 8), (33, 5), (100, 7), (1001, 5), (1001, 8)):
            x = normal(n, d)
            # The last four differ from the rest.
            x[:-4] = x[0].clone()
            x[-4:] = x[-1].clone()
            if "columns" in layout:
                x = x.T.contiguous().T
            if "float32" in layout:
                x = x.float().T.contiguous().T
            with pytest.raises(ValueError, match=rf"^x: .* {n:,} of {n:,} coincide"):
                KNN().mutual_information(x, normal(n, 1, seed=1))

    def test_a_few_in_the_last_rows_are_found(self):
        for n, d in ((17, 8), (33, 5), (100, 7), (1001, 8)):
            x = normal(n, d).T.contiguous().T
            x[[0, 5, -2, -1]] = x[0].clone()
            with pytest.raises(ValueError, match=rf"^x: .* 4 of {n:,} coincide"):
                KNN().mutual_information(x, normal(n, 1, seed=1))

    def test_zeros_of_both_signs_are_equal(self):
        x = self.halved(200, 2)
        x[::4] *= -1
        assert x[0, 0].signbit()
        assert not x[2, 0].signbit()
        for measure, tensors in (("entropy", [x]), ("mutual_information", [x, normal(200, 1)])):
            with pytest.raises(ValueError, match=r"^x: .* 100 of 200 coincide"):
                getattr(KNN(60), measure)(*tensors)

    def test_samples_of_the_same_values_in_another_order_are_none(self):
        x = torch.tensor(list(itertools.permutations(range(4)))).double()
        y = normal(24, 1)
        expected = textbook_value("mutual_information", [x, y], 1, "euclidean")
        assert KNN(1).mutual_information(x, y).item() == near(expected)

    def test_samples_that_differ_by_little_are_none(self):
        # Equal sums are not equal samples.
        x = 1 + 1e-13 * normal(300, 2)
        assert len(x.unique(dim=0)) == 300
        y = normal(300, 1)
        expected = textbook_value("mutual_information", [x, y], 1, "euclidean")
        assert KNN(1).mutual_information(x, y).item() == near(expected)

    def test_features_of_very_different_scales_are_none(self):
        x = torch.stack([1e6 * (torch.arange(100) % 2), 1e-11 * normal(100)], 1)
        y = x[:, 1:] * 1e11 + normal(100, 1, seed=1)
        expected = textbook_value("mutual_information", [x, y], 3, "euclidean")
        assert KNN().mutual_information(x, y).item() == near(expected)


class TestSurrogates:
    @pytest.mark.parametrize(("n", "d"), [(4, 1), (24, 20), (500, 3)])
    def test_they_have_the_covariance_of_the_data(self, n, d):
        x = laplace(n, d) @ (normal(d, d, seed=1) + 3) + 100
        drawn = list(surrogates.paired([x[:, :1], x[:, 1:]] if d > 1 else [x], 3, seed=0))
        assert len(drawn) == 3
        for parts in drawn:
            z = torch.cat(parts, 1)
            assert z.dtype == x.dtype
            # Their offset would only cost digits.
            assert z.mean(0).abs().max() < 1e-10 * x.std(0).max()
            torch.testing.assert_close(z.T.cov(), x.T.cov(), rtol=1e-8, atol=1e-8)
            assert (z - x).abs().min() > 0
        assert not torch.equal(drawn[0][0], drawn[1][0])

    def test_those_of_two_samples_have_their_own(self):
        p, q = normal(50, 3) + 1, 5 * normal(70, 3, seed=1) - 100
        for a, b in surrogates.separate([p, q], 2, seed=0):
            for z, x in ((a, p), (b, q)):
                assert z.shape == x.shape
                torch.testing.assert_close(z.T.cov(), x.T.cov())
            torch.testing.assert_close(b.mean(0) - a.mean(0), q.mean(0) - p.mean(0))
            assert a.mean(0).abs().max() < 1e-10
            # Independent of each other.
            assert np.corrcoef(a[:, 0], b[:50, 0])[0, 1] < 0.5

    def test_they_are_gaussian(self):
        (z,) = next(surrogates.paired([laplace(3000, 2)], 1, seed=0))
        assert scipy.stats.kstest(z[:, 0] / z[:, 0].std(), "norm").pvalue > 0.01
        z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
        radii = z.square().sum(1)
        assert scipy.stats.kstest(radii, "chi2", args=(2,)).pvalue > 0.01

    def test_normal_scores(self):
        x = torch.tensor([[3.0, -1.0], [1e9, -2.0], [-5.0, -3.0]], dtype=torch.float64)
        third = scipy.stats.norm.ppf(5 / 6)
        expected = torch.tensor([[0, third], [third, 0], [-third, -third]], dtype=torch.float64)
        torch.testing.assert_close(surrogates.normal_scores(x), expected)
        x = laplace(101, 3)
        scores = surrogates.normal_scores(x)
        assert torch.equal(scores.argsort(0), x.argsort(0))
        expected = scipy.stats.norm.ppf((scipy.stats.rankdata(x.numpy(), axis=0) - 0.5) / 101)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)
        # Equal values have the mean of their ranks.
        x = (2 * x).round()
        expected = scipy.stats.norm.ppf((scipy.stats.rankdata(x.numpy(), axis=0) - 0.5) / 101)
        np.testing.assert_allclose(surrogates.normal_scores(x), expected, rtol=1e-9, atol=1e-12)


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
            scores = [surrogates.normal_scores(x) for x in tensors]
        else:
            scores = tensors
        drawn = (surrogates.separate if pair else surrogates.paired)(scores, 4, seed=0)
        truth = getattr(Gaussian(), measure)(*scores)
        if calibration == "copula":
            # The surrogates have ranks, too.
            drawn = ([surrogates.normal_scores(x) for x in some] for some in drawn)
        if calibration == "copula" and measure == "entropy":
            # In place of those of the features, which are standard Gaussian, come their own.
            standard = 3 * math.log(2 * math.pi * math.e) / 2
            truth = standard - Gaussian().total_correlation(scores[0])
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


class TestErrors:
    def test_settings(self):
        for k in (0, -1):
            with pytest.raises(ValueError, match=r"^k: expected an integer at least 1"):
                KNN(k)
        for k in (1.0, "3", None, True):
            with pytest.raises(TypeError, match=r"^k: expected an integer"):
                KNN(k)
        for metric in ("manhattan", "Euclidean", None, 2):
            with pytest.raises(ValueError, match=r"^metric: expected one of 'euclidean', 'cheb"):
                KNN(3, metric)
        for calibration in ("Gaussian", True, "none"):
            with pytest.raises(ValueError, match=r"^calibration: expected one of None, 'gauss"):
                KNN(calibration=calibration)
        for variant in (0, 3, "1", None):
            with pytest.raises((TypeError, ValueError), match=r"^variant: expected an integer"):
                KNN(variant=variant)
        with pytest.raises(ValueError, match=r"^variant: expected an integer between 1 and 2"):
            KNN().mutual_information(normal(9), normal(9), variant=3)
        with pytest.raises(ValueError, match=r"^repeats: "):
            KNN(repeats=0)
        with pytest.raises(ValueError, match=r"^seed: "):
            KNN(seed=-1)
        with pytest.raises(TypeError):
            KNN(3, "euclidean", None, 2)
        with pytest.raises(AttributeError):
            KNN().k = 5
        assert KNN(np.int64(3)).entropy(normal(9)).isfinite()
        assert not hasattr(KNN(), "js_divergence")

    @pytest.mark.parametrize("measure", MEASURES)
    def test_k_and_the_number_of_samples(self, measure):
        tensors = [x[:5] for x in arguments(measure)]
        assert getattr(KNN(4), measure)(*tensors).isfinite()
        names = "pq" if measure in SAMPLE_MEASURES[1:] else "xyz"
        name = names[0] if len(tensors) == 1 or names == "pq" else ", ".join(names[: len(tensors)])
        for k in (5, 100):
            with pytest.raises(ValueError, match=rf"^{name}: expected more than k={k} .* got 5"):
                getattr(KNN(k), measure)(*tensors)
        for i, x in enumerate(tensors):
            with pytest.raises(ValueError, match=rf"^{names[i]}: expected at least 2 samples"):
                getattr(KNN(1), measure)(*tensors[:i], x[:1], *tensors[i + 1 :])
        if names == "pq":
            with pytest.raises(ValueError, match=r"^q: expected more than k=7 samples, got 5"):
                getattr(KNN(7), measure)(normal(20, 3), tensors[1])

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_bad_samples(self, measure, calibration):
        tensors = arguments(measure)
        method = getattr(KNN(calibration=calibration), measure)
        names = "pq" if measure in SAMPLE_MEASURES[1:] else "xyz"
        for i, x in enumerate(tensors):
            for bad in (math.nan, math.inf, -math.inf):
                broken = x.clone()
                broken[3, 0] = bad
                with pytest.raises(ValueError, match=rf"^{names[i]}: expected finite values"):
                    method(*tensors[:i], broken, *tensors[i + 1 :])
            if measure != "mutual_information":
                for dtype in (torch.int64, torch.uint8, torch.bool):
                    with pytest.raises(TypeError, match=rf"^{names[i]}: .*{dtype}.*Histogram"):
                        method(*tensors[:i], x.to(dtype), *tensors[i + 1 :])

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("bad", ["abc", None, 1j * torch.ones(60, 2), torch.ones(0, 2)])
    def test_things_that_are_no_samples(self, measure, bad):
        tensors = arguments(measure)
        names = "pq" if measure in SAMPLE_MEASURES[1:] else "xyz"
        for i in range(len(tensors)):
            with pytest.raises((TypeError, ValueError), match=rf"^{names[i]}: expected"):
                getattr(KNN(), measure)(*tensors[:i], bad, *tensors[i + 1 :])

    def test_samples_that_do_not_fit_together(self):
        for measure in ("cross_entropy", "kl_divergence"):
            with pytest.raises(ValueError, match="p has d=3, q has d=2"):
                getattr(KNN(), measure)(normal(20, 3), normal(20, 2))
        with pytest.raises(ValueError, match="x has 20, y has 19"):
            KNN().mutual_information(normal(20, 3), normal(19, 2))
        with pytest.raises(ValueError, match="x has 20, y has 20, z has 21"):
            KNN().conditional_mutual_information(normal(20, 3), normal(20, 2), normal(21, 1))
        with pytest.raises(ValueError, match=r"x has 20, y has 19"):
            KNN().mutual_information(normal(20, 3), torch.arange(19) % 2)

    def test_constant_features(self):
        x, other = normal(40, 3), normal(40, 3, seed=1)
        x[:, 1] = 0.1
        for measure, tensors, name in (
            ("entropy", [x], "x"),
            ("total_correlation", [x], "x"),
            ("kl_divergence", [x, other], "p"),
            ("kl_divergence", [other, x], "q"),
            ("cross_entropy", [other, x], "q"),
        ):
            for calibration in (None, "gaussian"):
                with pytest.raises(ValueError, match=rf"^{name}: .*got 1 constant of 3"):
                    getattr(KNN(calibration=calibration), measure)(*tensors)
        with pytest.raises(ValueError, match=r"^x: .*got 1 constant of 3"):
            KNN(calibration="copula").entropy(x)
        # They add nothing to an information, unless they are all there is.
        expected = KNN().mutual_information(x[:, ::2], other)
        assert KNN().mutual_information(x, other).item() == near(expected)
        with pytest.raises(ValueError, match=rf"^y: .* 40 of 40 {ATOMS}"):
            KNN().mutual_information(other, x[:, 1])

    def test_labels(self):
        x, labels = normal(20, 2), torch.arange(20) % 3
        with pytest.raises(TypeError, match=r"^x, y: .*continuous.*Histogram"):
            KNN().mutual_information(labels, labels)
        for name, pair in (("y", (x, x.long())), ("x", (x.long(), x))):
            with pytest.raises(ValueError, match=rf"^{name}: expected a vector of integer labels"):
                KNN().mutual_information(*pair)
        with pytest.raises(ValueError, match=r"^y: expected a vector of integer labels"):
            KNN().mutual_information(x, torch.tensor(3))
        labels[:2] = torch.tensor([7, 8])
        message = r"^y: expected more than k=3 .* but 2 of 5 have no more than that: 7, 8"
        with pytest.raises(ValueError, match=message):
            KNN().mutual_information(x, labels)
        with pytest.raises(ValueError, match=r"^x: expected more than k=1 .* but 2 of 5"):
            KNN(1).mutual_information(labels, x)
        for calibration in ("gaussian", "copula"):
            with pytest.raises(ValueError, match=r"^calibration: expected None with labels"):
                KNN(calibration=calibration).mutual_information(x, torch.arange(20) % 2)

    def test_calibration(self):
        for calibration in ("gaussian", "copula"):
            estimator = KNN(calibration=calibration)
            x, y = normal(8, 6), normal(8, 1, seed=1)
            message = r"expected at least d \+ 3 = {} samples for a calibration, got 8"
            with pytest.raises(ValueError, match="^x: " + message.format(9)):
                estimator.entropy(x)
            assert estimator.entropy(x[:, :5]).isfinite()
            with pytest.raises(ValueError, match="^x, y: " + message.format(9)):
                estimator.mutual_information(x[:, :5], y)
            assert estimator.mutual_information(x[:, :4], y).isfinite()
            with pytest.raises(ValueError, match="^x, y, z: " + message.format(9)):
                estimator.conditional_mutual_information(x[:, :4], y, y + 1)
        with pytest.raises(ValueError, match="^q: " + message.format(9)):
            KNN(calibration="gaussian").kl_divergence(normal(30, 6), x)
        for measure in ("cross_entropy", "kl_divergence"):
            with pytest.raises(ValueError, match=r"^calibration: .* two samples, got 'copula'"):
                getattr(KNN(calibration="copula"), measure)(normal(30, 2), normal(30, 2))

    def test_redundant_features(self):
        # Their entropy is minus infinity; without calibration, k-NN cannot tell.
        x = normal(40, 3)
        redundant = torch.cat([x, x.sum(1, keepdim=True)], 1)
        for calibration in ("gaussian", "copula"):
            estimator = KNN(calibration=calibration)
            copies = torch.cat([x, x[:, :1]], 1)
            for bad in (copies, redundant) if calibration == "gaussian" else (copies,):
                with pytest.raises(ValueError, match=r"^x: .*linear combination"):
                    estimator.entropy(bad)
            with pytest.raises(ValueError, match=r"^x, y: .*linear combination"):
                estimator.mutual_information(x, x[:, :1])

    def test_bias(self):
        x = normal(40, 3)
        with pytest.raises(ValueError, match=r"^calibration: .* got None"):
            KNN().bias("entropy", x)
        estimator = KNN(calibration="gaussian")
        for measure in ("js_divergence", "bias", "_raw", ""):
            with pytest.raises(ValueError, match=r"^measure: expected one of 'entropy'"):
                estimator.bias(measure, x)
        with pytest.raises(ValueError, match=r"^x: expected finite"):
            estimator.bias("entropy", x * math.nan)

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_the_bias_of_too_few_or_too_many_arguments(self, count):
        estimator = KNN(calibration="gaussian")
        with pytest.raises((TypeError, ValueError), match=r"expected .* x, y.* got"):
            estimator.bias("mutual_information", *[normal(40, 2)] * count)
