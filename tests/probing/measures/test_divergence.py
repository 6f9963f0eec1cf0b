import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.protocols import Estimate, for_pairs
from tests.probing.measures.helpers import (
    OF_DIVERGENCE,
    SPLITS,
    activations,
    data,
    measured,
    model_of,
)


class TestAllSamples:
    """With room for all samples, values are those of the whole tensors, to the last bit."""

    @pytest.mark.parametrize("reference", ["previous", "input"])
    @pytest.mark.parametrize("estimator", OF_DIVERGENCE, ids=repr)
    def test_divergence(self, estimator, reference):
        model, x = model_of(), data()
        tensors = activations(model, x)
        references = [x] * 3 if reference == "input" else tensors[:3]
        of_pairs = for_pairs(estimator)
        divergence = of_pairs.kl_divergence if of_pairs else _of_halves(estimator)
        expected = [float(divergence(p, q)) for p, q in zip(references, tensors[1:], strict=True)]
        for splits in SPLITS[3:]:
            rows = measured(model, x, ip.Divergence(estimator, reference), splits)
            assert [row["value"] for row in rows] == expected


def _of_halves(estimator):
    """The mean of both ways to take p from one half of the samples and q from the other."""

    def divergence(p, q):
        order = torch.randperm(len(p), generator=torch.Generator().manual_seed(0))
        a, b = order[: len(p) // 2], order[len(p) // 2 :]
        there, back = (float(estimator.kl_divergence(p[i], q[j])) for i, j in ((a, b), (b, a)))
        return (there + back) / 2

    return divergence


class Layer(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class TestIndependence:
    """A layer's input and its output come in pairs; the estimate is one of independent samples."""

    @pytest.mark.parametrize(
        ("function", "truth"),
        [
            (lambda x: 1.001 * x, 0.0),
            (lambda x: x + 0.05, 0.0037),
            (lambda x: 1.1 * x, 0.0259),
        ],
        ids=["1.001x", "x+0.05", "1.1x"],
    )
    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.Gaussianization()], ids=repr)
    def test_closed_forms(self, estimator, function, truth):
        x = data(3000, 3)
        (row,) = measured(Layer(function), x, ip.Divergence(estimator), [3000])
        assert row["value"] == pytest.approx(truth, abs=0.07)
        known = row["stderr"] is not None
        assert [finding.split(":")[0] for finding in row["findings"]] == (
            [] if known else ["It has no standard error"]
        )
        assert row["n"] == 3000

    def test_calibrated_in_ten_dimensions(self):
        x = data(3000, 10)
        estimator = ip.KNN(calibration="gaussian")
        (row,) = measured(Layer(lambda x: 1.5 * x), x, ip.Divergence(estimator), [3000])
        assert row["value"] == pytest.approx(1.277, abs=0.05)

    def test_the_error_of_the_mean_of_both_ways(self):
        class Known:
            def __init__(self):
                self.values = iter([1.0, 2.0])

            def kl_divergence(self, p, q):
                raise AssertionError

            def configuration(self):
                return {}

            def estimate(self, measure, p, q):
                value = next(self.values)
                return Estimate(torch.tensor(value), torch.tensor(value * 0.3), [])

        (row,) = measured(Layer(torch.tanh), data(10), ip.Divergence(Known()), [10])
        assert row["value"] == 1.5
        assert row["stderr"] == pytest.approx((0.3**2 + 0.6**2) ** 0.5 / 2)


def test_a_divergence_needs_probabilities():
    with pytest.raises(ValueError, match="corrects entropies alone"):
        ip.Divergence(ip.Histogram(correction="grassberger"))
    ip.Divergence(ip.Histogram(correction="james-stein"))
    ip.Entropy(ip.Histogram(correction="grassberger"))
