import itertools

import pytest
import torch

from infoprobe.estimators import KNN
from tests.estimators.knn.cases import ATOMS, METRICS, near, textbook_value
from tests.estimators.samples import normal


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

    @pytest.mark.parametrize("k", [1, 2, 5])
    @pytest.mark.parametrize("d", [1, 3, 9])
    def test_as_many_as_set_the_radius_are_refused(self, k, d):
        x, y = normal(60, d), normal(60, d, seed=1)
        x[10 : 10 + k] = x[10].clone()
        assert KNN(k).entropy(x).isfinite()
        x[10 : 11 + k] = x[10].clone()
        message = rf"^x: .* {k + 1} of 60 coincide with at least k={k} others"
        with pytest.raises(ValueError, match=message):
            KNN(k).entropy(x)
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
        message = r"^x: .* of 200 coincide .* in one of its features \(2 have such\)"
        with pytest.raises(ValueError, match=message):
            KNN(calibration="copula").entropy(x)

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
                KNN().entropy(x)

    def test_a_few_in_the_last_rows_are_found(self):
        for n, d in ((17, 8), (33, 5), (100, 7), (1001, 8)):
            x = normal(n, d).T.contiguous().T
            x[[0, 5, -2, -1]] = x[0].clone()
            with pytest.raises(ValueError, match=rf"^x: .* 4 of {n:,} coincide"):
                KNN().entropy(x)

    def test_zeros_of_both_signs_are_equal(self):
        x = self.halved(200, 2)
        x[::4] *= -1
        assert x[0, 0].signbit()
        assert not x[2, 0].signbit()
        with pytest.raises(ValueError, match=r"^x: .* 100 of 200 coincide"):
            KNN(60).entropy(x)

    def test_samples_of_the_same_values_in_another_order_are_none(self):
        x = torch.tensor(list(itertools.permutations(range(4)))).double()
        expected = textbook_value("entropy", [x], 1, "euclidean")
        assert KNN(1).entropy(x).item() == near(expected)

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
