import itertools
import math
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from infoprobe.estimators import KNN
from infoprobe.estimators.knn import ksg
from infoprobe.estimators.knn.atoms import copies
from tests import textbook_neighbors as textbook
from tests.estimators.knn.cases import MEASURES, METRICS, arguments, near, textbook_value
from tests.estimators.samples import laplace, normal, uniform


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
        # All distances are equal; gamma(d / 2 + 1) overflows at d = 342.
        x = torch.eye(20).repeat_interleave(d // 20, 1).double()
        d = x.shape[1]
        log_volume = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
        harmonic = sum(1 / i for i in range(3, 20))
        expected = harmonic + log_volume + d / 2 * math.log(2 * d / 20)
        assert KNN(3).entropy(x).item() == near(expected)
        # In the Chebyshev metric, that of corners of a cube is its edge.
        expected = harmonic + d * math.log(2)
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
        # Normal scores lie closest in the middle: nobody else is as near as the nearest.
        expected = psi_1 - 1 + psi_4 - 2 * psi_1
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
        scaled = textbook.scaled_within_labels(x.double().numpy(), labels.tolist())
        expected = textbook.mutual_information_with_labels(scaled, labels.tolist(), 3, metric)
        estimator = KNN(3, metric)
        assert estimator.mutual_information(x, labels).item() == near(expected)
        assert estimator.mutual_information(labels, x).item() == near(expected)
        # Labels are names.
        renamed = -100 * labels + 3
        for same in (renamed, renamed.to(torch.int16), labels.to(torch.uint8), labels[:, None]):
            assert estimator.mutual_information(x, same).item() == near(expected)
        assert estimator.mutual_information(labels.numpy(), x.numpy()).item() == near(expected)
        halves = labels > 1
        scaled = textbook.scaled_within_labels(x.double().numpy(), halves.tolist())
        expected = textbook.mutual_information_with_labels(scaled, halves.tolist(), 3, metric)
        assert estimator.mutual_information(x, halves).item() == near(expected)

    def test_a_single_label_tells_nothing(self):
        assert KNN().mutual_information(normal(50, 2), torch.zeros(50).long()).item() == near(0)

    @given(st.data())
    @settings(max_examples=80)
    def test_ties_on_a_lattice(self, drawn):
        n, k = drawn.draw(st.integers(5, 16)), drawn.draw(st.integers(1, 4))
        metric = drawn.draw(st.sampled_from(METRICS))
        # Steps of 1/10 and offsets of 0.7 are no floats: distances are equal up to rounding.
        step, offset = drawn.draw(st.sampled_from([(1, 0), (0.1, 0.7), (1e-11, 0), (1e5, 1)]))

        def draw():
            d = drawn.draw(st.integers(1, 2))
            return drawn.draw(hnp.arrays(np.float64, (n, d), elements=st.integers(-9, 9)))

        x, y, z = draw(), draw(), draw()
        floats = [torch.from_numpy(step * v + offset) for v in (x, y, z)]
        if max(copies(some).max() for some in (floats[:2], floats)) > 0:
            return
        estimator = KNN(k, metric)
        scores = [textbook.scores(v) for v in (x, y, z)]
        expected = textbook.multi_information(scores[:2], k, metric)
        if max(self.most_equal(v) for v in (x, y)) > 1:
            spaces = [(-1, [0]), (-1, [1])]
            expected = textbook.information_of_mixtures(scores[:2], spaces, k, metric)
            expected += digamma(n)
        assert estimator.mutual_information(*floats[:2]).item() == near(expected)
        expected = textbook.conditional_mutual_information(*scores, k, metric)
        if max(self.most_equal(v) for v in (x, y, z)) > 1:
            spaces = [(-1, [0, 2]), (-1, [1, 2]), (1, [2])]
            expected = textbook.information_of_mixtures(scores, spaces, k, metric)
        value = estimator.conditional_mutual_information(*floats)
        assert value.item() == near(expected)

    @staticmethod
    def most_equal(x):
        return np.unique(x, axis=0, return_counts=True)[1].max()


@pytest.fixture
def features_as_they_are():
    """KSG without normal scores, as others have it."""
    with mock.patch.object(ksg, "scored", list):
        yield


class TestAgainstOthers:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [1, 2, 10])
    def test_infomeasure_of_samples(self, d, metric):
        im = pytest.importorskip("infomeasure")
        p, q = normal(200, d), 1.5 * normal(200, d, seed=1)
        # In units in which it has nothing to divide by.
        scale = torch.from_numpy(textbook.spreads(p.numpy()))
        p, q = (p / scale).numpy(), (q / scale).numpy()
        options = {"approach": "kl", "k": 4, "noise_level": 0, "base": "e"}
        options["minkowski_p"] = 2 if metric == "euclidean" else np.inf
        expected = im.entropy(p, **options)
        assert KNN(4, metric).entropy(p).item() == near(expected)
        # It has ln(n / n) in place of ln(m / (n - 1)), so that only equal sizes compare.
        expected = im.kld(p, q, **options) + math.log(200 / 199)
        assert KNN(4, metric).kl_divergence(p, q).item() == near(expected)

    @pytest.mark.usefixtures("features_as_they_are")
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

    @pytest.mark.usefixtures("features_as_they_are")
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
