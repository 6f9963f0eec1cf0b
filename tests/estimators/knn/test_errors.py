import math

import numpy as np
import pytest
import torch

from infoprobe.estimators import KNN
from tests.estimators.knn.cases import MEASURES, SAMPLE_MEASURES, arguments, near
from tests.estimators.samples import normal


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
        assert KNN().mutual_information(other, x[:, 1]).item() == near(0)
        found = KNN().diagnose("mutual_information", [other, x[:, 1]], torch.tensor(0.0))
        assert [finding.what for finding in found] == ["it is constant, and tells nothing"]

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
