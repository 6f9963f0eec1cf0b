import pytest

import infoprobe as ip
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
        expected = [
            float(estimator.kl_divergence(p, q))
            for p, q in zip(references, tensors[1:], strict=True)
        ]
        for splits in SPLITS[3:]:
            rows = measured(model, x, ip.Divergence(estimator, reference), splits)
            assert [row["value"] for row in rows] == expected


def test_a_divergence_needs_probabilities():
    with pytest.raises(ValueError, match="corrects entropies alone"):
        ip.Divergence(ip.Histogram(correction="grassberger"))
    ip.Divergence(ip.Histogram(correction="james-stein"))
    ip.Entropy(ip.Histogram(correction="grassberger"))
