import pytest
from torch import nn

import infoprobe as ip
from tests.probing.measures.helpers import PAPER, Spy, data, measured


class TestArguments:
    def test_numbers(self):
        with pytest.raises(ValueError, match="samples: expected an integer at least 2, got 1"):
            ip.Entropy(samples=1)
        with pytest.raises(ValueError, match="project: expected an integer at least 1, got 0"):
            ip.Divergence(project=0)
        with pytest.raises(ValueError, match="samples: expected an integer at least 51, got 20"):
            ip.Entropy(ip.KNN(k=50), samples=20)
        with pytest.raises(TypeError, match=r"project: expected an integer, got 2\.5"):
            ip.MutualInformation(project=2.5)
        with pytest.raises(TypeError):
            ip.Entropy(ip.KNN(), 100)
        with pytest.raises(ValueError, match="memory: expected an integer at least 0, got -1"):
            ip.probe(nn.Identity(), memory=-1)
        with pytest.raises(ValueError, match="seed: expected an integer between 0 and"):
            ip.probe(nn.Identity(), seed=1 << 32)
        with pytest.raises(ValueError, match="values_per_batch: expected an integer at least 1"):
            ip.probe(nn.Identity(), values_per_batch=0)

    def test_estimators(self):
        with pytest.raises(TypeError, match=r"one that has mutual_information\(\)"):
            ip.MutualInformation("input")
        with pytest.raises(TypeError, match=r"one that has entropy\(\)"):
            ip.Entropy(ip.KNN)
        with pytest.raises(TypeError, match=r"measures: expected .* got 'entropy' of type str"):
            ip.probe(nn.Identity(), measures="entropy")
        with pytest.raises(
            ValueError, match="reference: expected one of 'input', 'previous', 'ta"
        ):
            ip.MutualInformation(reference="output")
        with pytest.raises(ValueError, match="reference: expected one of 'previous', 'input'"):
            ip.Divergence(reference="target")

    def test_equal_measures_are_one(self):
        shared = ip.Entropy(ip.Histogram(), width="shared")
        measures = [ip.Entropy(), shared, ip.Entropy(samples=9)]
        assert len({*measures}) == 2
        assert len(measured(nn.Identity(), data(), measures)) == 2
        assert ip.Entropy() != ip.MutualInformation()

    def test_kinds(self):
        estimators = [ip.Histogram(), PAPER, ip.MatrixRenyi(), ip.KNN(), ip.Gaussian(), Spy()]
        kinds = [ip.Entropy(estimator).kind for estimator in estimators]
        assert kinds == ["discrete"] * 3 + ["differential"] * 2 + [None]
