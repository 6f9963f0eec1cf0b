import pytest

import infoprobe as ip
from tests.probing.measures.helpers import (
    OF_ENTROPY,
    SPLITS,
    activations,
    data,
    measured,
    model_of,
)


class TestAllSamples:
    """With room for all samples, values are those of the whole tensors, to the last bit."""

    @pytest.mark.parametrize("estimator", OF_ENTROPY, ids=repr)
    def test_entropy(self, estimator):
        model, x = model_of(), data()
        expected = [float(estimator.entropy(y)) for y in activations(model, x)[1:]]
        for splits in SPLITS[:3]:
            rows = measured(model, x, ip.Entropy(estimator), splits)
            assert [row["value"] for row in rows] == expected
            assert {(row["n"], row["d"]) for row in rows} == {(120, 4)}
            assert not any("samples, drawn" in found for row in rows for found in row["findings"])
