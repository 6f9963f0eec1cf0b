import math

import numpy as np
import pytest
import scipy.stats
import torch

import infoprobe as ip
from infoprobe.estimators.knn import student, surrogates
from infoprobe.estimators.ranks import normal_scores
from tests.estimators.samples import normal


def students(n, d, freedom, seed=0, correlation=0.0):
    common = normal(n, 1, seed=seed + 2000)
    z = math.sqrt(1 - correlation) * normal(n, d, seed=seed) + math.sqrt(correlation) * common
    squares = np.random.default_rng(seed).chisquare(freedom, (n, 1)) / freedom
    return z / torch.from_numpy(squares).sqrt()


def scores(x, *widths):
    return [normal_scores(part) for part in torch.split(x, widths, 1)]


class TestClosedForm:
    @pytest.mark.skipif(
        not hasattr(scipy.stats.multivariate_t(), "entropy"), reason="needs scipy 1.11 or newer"
    )
    @pytest.mark.parametrize("freedom", [1.0, 2.5, 30.0])
    @pytest.mark.parametrize("d", [1, 2, 7])
    def test_entropy_of_a_student_vector(self, d, freedom):
        own = scipy.stats.multivariate_t(shape=np.eye(d), df=freedom).entropy()
        gaussian = d * math.log(2 * math.pi * math.e) / 2
        assert student.excess_entropy(d, freedom) == pytest.approx(own - gaussian, abs=1e-9)

    def test_limits(self):
        assert student.excess_entropy(0, 3.0) == 0
        assert student.excess_entropy(5, math.inf) == 0
        assert student.excess_entropy(5, 1e7) == pytest.approx(0, abs=1e-4)

    def test_information_is_a_sum_of_entropies(self):
        x = torch.zeros(2, 7)
        h = {d: student.excess_entropy(d, 3.0) for d in range(8)}

        def excess(*widths):
            return student.Copula(3.0, list(torch.split(x, widths, 1))).excess_information()

        assert excess(7) == pytest.approx(7 * h[1] - h[7])
        assert excess(3, 4) == pytest.approx(h[3] + h[4] - h[7])
        assert excess(1, 2, 4) == pytest.approx(h[5] + h[6] - h[4] - h[7])
        assert excess(3, 4) > 0


class TestFit:
    @pytest.mark.parametrize(("d", "freedom"), [(2, 1), (6, 3), (6, 10)])
    def test_degrees_of_freedom_are_found(self, d, freedom):
        x = students(4000, d, freedom, correlation=0.5)
        found = student.fit(scores(x, 1, d - 1))
        assert found.freedom == pytest.approx(freedom, rel=0.15)
        correlations = torch.cat(found.samples, 1).T.corrcoef()
        assert correlations[0, 1].item() == pytest.approx(0.5, abs=0.05)
        # Increasing maps of features change nothing.
        assert student.fit(scores(x.asinh(), 1, d - 1)).freedom == found.freedom

    @pytest.mark.parametrize(("n", "d"), [(40, 20), (300, 3), (2000, 10)])
    def test_gaussian_copulas_stay_gaussian(self, n, d):
        for seed in range(10):
            common = normal(n, 1, seed=seed + 1000)
            parts = scores((normal(n, d, seed=seed) + common) ** 3, 1, d - 1)
            found = student.fit(parts)
            assert found.freedom == math.inf
            assert all(a is b for a, b in zip(found.samples, parts, strict=True))

    def test_surrogates_have_the_copula(self):
        parts = scores(students(4000, 4, 2, correlation=0.3), 2, 2)
        found = student.fit(parts)
        (drawn, other) = found.draw(2, seed=1)
        assert [x.shape for x in drawn] == [x.shape for x in parts]
        assert not torch.equal(drawn[0], other[0])
        assert student.fit(drawn).freedom == pytest.approx(2, rel=0.15)
        (again, _) = found.draw(2, seed=1)
        assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


class TestInformation:
    def test_of_student_vectors(self):
        x = students(4000, 6, 2)
        h = {d: student.excess_entropy(d, 2.0) for d in (1, 2, 3, 4, 5, 6)}
        copula = ip.KNN(calibration="copula")
        truth = 2 * h[3] - h[6]
        assert truth == pytest.approx(0.29, abs=0.01)
        value = copula.mutual_information(x[:, :3], x[:, 3:].asinh()).item()
        assert value == pytest.approx(truth, abs=0.04)
        value = copula.conditional_mutual_information(x[:, :2], x[:, 2:4], x[:, 4:]).item()
        assert value == pytest.approx(2 * h[4] - h[2] - h[6], abs=0.04)
        value = copula.total_correlation(x).item()
        assert value == pytest.approx(6 * h[1] - h[6], abs=0.12)

    def test_of_gaussian_vectors(self):
        """The calibration is the one by Gaussian surrogates."""
        x = normal(500, 4)
        y = x + normal(500, 4, seed=1)
        parts = [normal_scores(v) for v in (x, y)]
        expected = ip.KNN().mutual_information(*parts).item()
        errors = [
            ip.KNN().mutual_information(*map(normal_scores, drawn))
            - ip.Gaussian().mutual_information(*parts)
            for drawn in surrogates.paired(parts, 4, seed=0)
        ]
        expected -= torch.stack(errors).mean().item()
        value = ip.KNN(calibration="copula").mutual_information(x, y).item()
        assert value == pytest.approx(expected, abs=1e-12)


def test_features_that_hardly_differ_are_no_failure():
    x = normal(1000, 3)
    both = torch.cat([x, x[:, :2] + 1e-4 * normal(1000, 2, seed=1)], 1)
    truth = 5 * math.log(2 * math.pi * math.e) / 2 + 2 * math.log(1e-4)
    assert float(ip.KNN(calibration="gaussian").entropy(both)) == pytest.approx(truth, abs=0.4)
    found = ip.KNN(calibration="copula").estimate("entropy", both)
    assert [f.severity for f in found.findings if f.code == "above-bound"] == ["error"]
