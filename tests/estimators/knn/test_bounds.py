"""Findings on values that break a bound, or on which the calibrations do not agree."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.protocols import estimate_without_error
from tests.estimators.samples import laplace, normal

CALIBRATIONS = [None, "gaussian", "copula"]


def codes(measure, calibration, *tensors):
    found = estimate_without_error(ip.KNN(calibration=calibration), measure, *tensors).findings
    return [finding.code for finding in found]


def students(n, d, freedom=2):
    squares = normal(n, freedom, seed=1).square().mean(1, keepdim=True)
    return normal(n, d) / squares.sqrt()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
class TestClean:
    def test_entropy(self, calibration):
        for n, d in ((100, 1), (200, 3), (1000, 2)):
            for seed in range(3):
                assert codes("entropy", calibration, normal(n, d, seed=seed)) == []
        assert codes("entropy", calibration, laplace(1000, 2)) == []

    def test_information(self, calibration):
        for seed in range(3):
            x, noise, other = (normal(500, 2, seed=seed + i) for i in (0, 100, 200))
            assert codes("mutual_information", calibration, x[:, :1], noise[:, :1]) == []
            assert codes("mutual_information", calibration, x, x + noise) == []
            assert codes("total_correlation", calibration, x + other[:, :1]) == []
            three = x[:, :1], (x + noise)[:, :1], other[:, :1]
            assert codes("conditional_mutual_information", calibration, *three) == []


@pytest.mark.parametrize("calibration", ["gaussian", "copula"])
def test_many_gaussian_dimensions_are_clean_once_calibrated(calibration):
    assert codes("entropy", calibration, normal(1000, 50)) == []
    x = normal(1000, 10)
    assert codes("mutual_information", calibration, x, x + normal(1000, 10, seed=1)) == []


class TestEntropy:
    @pytest.mark.parametrize("calibration", [None, "copula"])
    def test_data_within_a_subspace(self, calibration):
        x = normal(500, 3) @ normal(3, 10, seed=1)
        assert "redundant-features" in codes("entropy", calibration, x)
        (finding,) = (
            f
            for f in ip.diagnose(x.float(), ip.KNN(calibration=calibration))
            if f.code == "redundant-features"
        )
        assert finding.figure == 3

    def test_data_near_a_subspace(self):
        x = normal(1000, 3) @ normal(3, 10, seed=1) + 1e-3 * normal(1000, 10, seed=2)
        assert codes("entropy", None, x) == ["dimension-bias"]
        assert codes("entropy", "gaussian", x) == []
        (finding,) = estimate_without_error(ip.KNN(calibration="copula"), "entropy", x).findings
        assert finding.code == "above-bound"
        assert "calibration='gaussian'" in finding.remedy
        excess = ip.KNN(calibration="copula").entropy(x) - ip.Gaussian().entropy(x)
        assert finding.figure == pytest.approx(float(excess))

    def test_the_sum_of_the_features(self):
        """Narrow features with a few outliers, which are all that a covariance sees."""
        x = 1e-3 * normal(2000, 20)
        x[:100] += normal(100, 20, seed=1)
        (finding,) = estimate_without_error(ip.KNN(calibration="gaussian"), "entropy", x).findings
        assert finding.code in ("above-bound", "calibrations-differ")

    def test_scale_mixtures(self):
        scales = torch.where(torch.arange(2000) % 2 == 0, 1.0, 2.0).double()
        x = normal(2000, 50) * scales.unsqueeze(1)
        assert codes("entropy", None, x) == ["dimension-bias"]
        assert codes("entropy", "gaussian", x) == ["calibrations-differ"]

    def test_the_radii_of_scale_mixtures(self):
        """Surrogates with a Student copula have heavier tails than three widths."""
        scales = torch.tensor([0.3, 1.0, 3.0]).double()[torch.arange(1000) % 3]
        x = normal(1000, 20) * scales.unsqueeze(1)
        turned = x @ torch.linalg.qr(normal(20, 20, seed=1)).Q
        (finding,) = estimate_without_error(
            ip.KNN(calibration="copula"), "entropy", 1e4 * turned + 1
        ).findings
        assert finding.code == "above-bound"
        assert "radii" in finding.what

    def test_curved_data(self):
        x = normal(2000, 10)
        x[:, 1::2] += x[:, ::2] ** 2
        assert codes("entropy", "gaussian", x) == ["calibrations-differ"]
        assert codes("entropy", "copula", x) == ["extrapolated"]


class TestInformation:
    def test_too_many_dimensions(self):
        x = normal(1000, 20)
        y = 0.6 * x + 0.8 * normal(1000, 20, seed=1)
        truth = -20 * math.log(0.8)
        value, _, findings = estimate_without_error(ip.KNN(), "mutual_information", x, y)
        (finding,) = findings
        assert finding.code == "dimension-bias"
        assert float(value) - finding.figure == pytest.approx(truth, abs=0.3)

    @pytest.mark.parametrize(
        ("calibration", "expected"),
        [(None, ["dimension-bias"]), ("gaussian", ["calibrations-differ"]), ("copula", [])],
    )
    def test_students(self, calibration, expected):
        x = students(5000, 10)
        assert codes("mutual_information", calibration, x[:, :5], x[:, 5:]) == expected

    def test_below_a_gaussian_copula(self):
        x, y = normal(1000, 1), normal(1000, 1, seed=1)
        (finding,) = ip.KNN().diagnose(
            "mutual_information", [x, x + y / 2], torch.tensor(0.3, dtype=torch.float64)
        )
        assert finding.code == "below-bound"
        assert finding.figure == pytest.approx(0.3 - math.log(5) / 2, abs=0.1)
        (finding,) = ip.KNN().diagnose("mutual_information", [x, y], torch.tensor(-0.4))
        assert "zero" in finding.what


class TestDivergence:
    def test_what_neighbours_miss(self):
        """Where p reaches beyond q, there are hardly any neighbours to find."""
        p, q = 2 * normal(1000, 3), normal(1000, 3, seed=1)
        findings = estimate_without_error(ip.KNN(), "kl_divergence", p, q).findings
        (finding,) = (each for each in findings if each.code == "dimension-bias")
        missed = float(ip.KNN().kl_divergence(p, q)) - 3 * (1.5 - math.log(2))
        assert finding.figure == pytest.approx(missed, abs=0.3)

    def test_clean(self):
        for d in (1, 2, 3):
            for seed in range(3):
                p, q = normal(1000, d, seed=seed), 0.9 * normal(1000, d, seed=seed + 100) + 0.1
                assert codes("kl_divergence", None, p, q) == []
        # Neighbours miss the entropies of both by nats, and the divergence by little.
        p, q = normal(2000, 10), normal(2000, 10, seed=1)
        assert codes("kl_divergence", None, p, q) == []


def test_rounding_makes_no_bound():
    """The entropies of features whose values repeat are minus infinity, and bound nothing."""
    rounded = normal(2000, 3).half()
    assert "above-bound" not in codes("entropy", None, rounded)
    assert "above-bound" not in codes("entropy", "gaussian", rounded)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_findings_do_not_depend_on_how_they_are_asked_for(calibration):
    x = laplace(300, 12)
    pair = x[:, :6], x[:, :6] + normal(300, 6)
    for measure, tensors in (("entropy", [x]), ("mutual_information", pair)):
        knn = ip.KNN(calibration=calibration)
        value, stderr, findings = knn.estimate(measure, *tensors)
        assert stderr > 0
        assert value == getattr(knn, measure)(*tensors)
        assert knn.estimate_without_error(measure, *tensors) == (value, None, findings)
        assert knn.diagnose(measure, tensors, value) == findings
