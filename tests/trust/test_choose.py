import math

import pytest
import torch

import infoprobe as ip
from tests.estimators.samples import normal


def correlated(n, d, rho, seed=0):
    x = normal(n, d, seed=seed)
    return x, rho * x + math.sqrt(1 - rho**2) * normal(n, d, seed=seed + 1)


def chosen(*tensors, measure="mutual_information"):
    return ip.choose(measure, *tensors).estimator


class TestOfInformation:
    def test_densities(self):
        x, y = correlated(300, 2, 0.5)
        assert chosen(x, y) == ip.KNN(calibration="copula")
        assert chosen(x, measure="total_correlation") == ip.KNN(calibration="copula")
        three = x, y, normal(300, 1, seed=5)
        assert chosen(*three, measure="conditional_mutual_information").calibration == "copula"

    def test_what_a_calibration_does_not_allow(self):
        x, y = correlated(300, 2, 0.5)
        assert chosen(x.relu(), y) == ip.KNN()  # ties
        assert chosen(x, (10 * y).round()) == ip.KNN()
        assert chosen(x.bfloat16().repeat(8, 1), y.repeat(8, 1)) == ip.KNN()
        assert chosen(x, 2 * x + 1) == ip.KNN()  # copies
        assert chosen(normal(20, 10), normal(20, 9)) == ip.KNN()  # n < d + 3

    def test_labels(self):
        x, _ = correlated(300, 2, 0.5)
        labels = (x[:, 0] > 0).long()
        for given in [(x, labels), (labels, x), (x, labels.bool()), (x.numpy(), labels.tolist())]:
            assert chosen(*given) == ip.KNN()
        labels[:3] = 7
        assert chosen(x, labels) == ip.KNN(k=2)
        assert ip.mutual_information(x, labels) > 0.3

    def test_symbols(self):
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randint(10, (2, 200), generator=generator)
        estimator = ip.Histogram(over="samples", correction="grassberger")
        assert chosen(a, b) == estimator
        assert abs(float(ip.mutual_information(a, b))) < 0.1  # 0.2 without a correction
        assert float(ip.mutual_information(a, a)) == pytest.approx(math.log(10), abs=0.05)
        counts = torch.stack([a, 1000 * a], 1)
        assert chosen(counts, b).bins == 9001
        assert float(ip.mutual_information(counts, a)) == pytest.approx(math.log(10), abs=0.05)

    def test_different_lengths_are_the_estimators_to_refuse(self):
        with pytest.raises(ValueError, match="expected as many samples"):
            ip.mutual_information(normal(50, 1), normal(40, 1))


class TestOfPooledValues:
    def test_real_numbers(self):
        x = normal(100, 3)
        for measure in ("entropy", "kl_divergence", "js_divergence", "cross_entropy"):
            tensors = [x] if measure == "entropy" else [x, x]
            assert chosen(*tensors, measure=measure) == ip.Histogram()

    def test_integers_have_a_bin_each(self):
        labels = torch.arange(1000).repeat(2)
        assert ip.entropy(labels).item() == pytest.approx(math.log(1000))
        assert ip.entropy(labels - 500).item() == pytest.approx(math.log(1000))
        assert chosen(labels % 10, measure="entropy") == ip.Histogram()
        assert chosen(torch.tensor([0, 2**40]), measure="entropy") == ip.Histogram()


def test_reasons_are_sentences():
    x, y = correlated(100, 1, 0.5)
    choice = ip.choose("mutual_information", x, y)
    estimator, reasons = choice
    assert repr(choice).splitlines() == [repr(estimator), *(f"* {each}" for each in reasons)]
    assert all(each[0].isupper() and each.endswith(".") for each in reasons)


def test_errors():
    with pytest.raises(ValueError, match="measure: expected one of"):
        ip.choose("information", normal(10, 1), normal(10, 1))
    with pytest.raises(TypeError, match="tensors: expected the arguments x, y"):
        ip.choose("mutual_information", normal(10, 1))
    with pytest.raises(TypeError, match="expected a tensor"):
        ip.choose("entropy", ["a"])


class TestThePlainestCall:
    """The numbers that a histogram got wrong in silence."""

    def test_a_pair(self):
        x, y = correlated(4000, 1, 0.75)
        truth = -math.log(1 - 0.75**2) / 2
        assert float(ip.mutual_information(x, y)) == pytest.approx(truth, abs=0.06)
        in_bits = float(ip.mutual_information(x, y, base=2))
        assert in_bits == pytest.approx(truth / math.log(2), abs=0.09)

    @pytest.mark.parametrize("n", [200, 1000, 4000])
    def test_independent_pairs(self, n):
        x, y = correlated(n, 1, 0.0)
        assert abs(float(ip.mutual_information(x, y))) < 0.1

    def test_some_of_many_dimensions(self):
        x, y = correlated(2000, 5, 0.0)
        y[:, :2] = correlated(2000, 5, 0.8)[1][:, :2]
        truth = -math.log(1 - 0.8**2)
        assert float(ip.mutual_information(x, y)) == pytest.approx(truth, abs=0.12)

    @pytest.mark.parametrize("measure", ["total_correlation", "conditional_mutual_information"])
    def test_the_other_measures(self, measure):
        x, y = correlated(2000, 1, 0.8)
        truth = -math.log(1 - 0.8**2) / 2
        given = [torch.cat([x, y], 1)] if measure == "total_correlation" else [x, y]
        if len(given) == 2:
            given.append(normal(2000, 1, seed=9))
        assert float(getattr(ip, measure)(*given)) == pytest.approx(truth, abs=0.1)
