import math
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

import infoprobe as ip
from infoprobe.estimators.histogram import corrections, tables, tabulation
from infoprobe.estimators.histogram.grids import UniformGrid
from tests import textbook
from tests.estimators.histogram.cases import COARSE, RANGES, matrices


class TestMutualInformation:
    @given(matrices(COARSE), st.integers(2, 12), st.sampled_from([0, 0.5]), st.booleans())
    def test_it_equals_the_textbook(self, pair, bins, pseudocount, dense):
        x, y = pair
        numbers, support = textbook.dyadic_bins(
            x.flatten().tolist(), y.flatten().tolist(), bins=bins
        )
        seen = Counter(zip(*numbers, strict=True))
        table = [seen[i, j] for i in support for j in support]
        h = ip.Histogram(bins, pseudocount=pseudocount)
        for estimator, p in [
            (h, textbook.probabilities(table, pseudocount)),
            (ip.Histogram(bins, correction="james-stein"), self.shrunk(table)),
        ]:
            p = np.array(p).reshape(len(support), -1)
            expected = (
                textbook.entropy(p.sum(0))
                + textbook.entropy(p.sum(1))
                - textbook.entropy(p.flatten())
            )
            with mock.patch.object(tabulation, "_DENSE", 1e9 if dense else 0):
                value = estimator.mutual_information(x, y).item()
            assert value == pytest.approx(expected, abs=1e-12)

    def shrunk(self, counts):
        one = tables.Table(
            torch.tensor([counts]), torch.tensor([[len(counts)]], dtype=torch.float64)
        )
        return corrections.probabilities(one, corrections.james_stein(one))[0].tolist()

    @given(matrices(COARSE), st.integers(2, 12), st.sampled_from(["own", (-5, 5)]))
    def test_it_equals_another_library(self, pair, bins, mode):
        x, y = (z.flatten() for z in pair)
        labels = []
        for z in (x, y):
            low, high = (z.min(), z.max()) if mode == "own" else mode
            grid = UniformGrid(float(low), float(high), bins)
            labels.append(grid.index(torch.tensor(z)))
        expected = mutual_info_score(*labels)
        value = ip.Histogram(bins, mode).mutual_information(x, y).item()
        assert value == pytest.approx(expected, abs=1e-12)

    @given(
        matrices(COARSE),
        st.sampled_from(["values", "units"]),
        st.sampled_from(RANGES),
        st.sampled_from(["miller-madow", "james-stein", "grassberger", None]),
    )
    def test_identities(self, pair, over, mode, correction):
        x, y = pair
        h = ip.Histogram(8, mode, over, correction=correction)
        value = h.mutual_information(x, y).item()
        assert h.mutual_information(y, x).item() == pytest.approx(value, abs=1e-12)
        order = np.random.default_rng(0).permutation(len(x))
        again = h.mutual_information(x[order], y[order]).item()
        assert again == pytest.approx(value, abs=1e-12)
        if correction != "james-stein":  # which gives mass to pairs that never occur
            itself = h.mutual_information(x, x).item()
            assert itself == pytest.approx(h.entropy(x).item(), abs=1e-12)
        if correction in (None, "james-stein"):
            assert value >= -1e-12

    def test_of_a_relabelling_it_is_the_entropy(self):
        x = torch.randint(0, 16, (1000,))
        relabelled = torch.randperm(16)[x]
        for over in ("values", "units", "samples"):
            h = ip.Histogram(16, over=over)
            value = h.mutual_information(x, relabelled).item()
            assert value == pytest.approx(h.entropy(x).item())

    def test_of_all_pairs_it_is_zero(self):
        x, y = torch.cartesian_prod(torch.arange(8), torch.arange(8)).T
        for over in ("values", "units", "samples"):
            value = ip.Histogram(8, over=over).mutual_information(x, y).item()
            assert value == pytest.approx(0, abs=1e-12)

    def test_of_a_gaussian(self):
        rho = 0.8
        x, noise = torch.randn(2, 1_000_000, dtype=torch.float64)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        expected = -0.5 * math.log(1 - rho**2)
        value = ip.Histogram(128).mutual_information(x, y).item()
        assert value == pytest.approx(expected, abs=0.01)

    def test_pairs_are_taken_by_place_not_by_memory(self):
        x, y = torch.randn(2, 30, 4)
        h = ip.Histogram(4)
        same = h.mutual_information(x, y.T.contiguous().T)
        assert same == h.mutual_information(x, y)
        assert h.mutual_information(x.T, y.T) == same

    @pytest.mark.parametrize("mode", ["dyadic", "minmax"])
    def test_many_bins_need_not_fit_into_memory(self, mode):
        x, y = torch.randn(2, 1000, 2)
        value = ip.Histogram(1 << 20, mode).mutual_information(x, y).item()
        assert value == pytest.approx(math.log(2000), rel=0.01)
        value = ip.Histogram(1 << 20, mode, "units").mutual_information(x, y).item()
        assert value == pytest.approx(2 * math.log(1000), rel=0.01)

    def test_a_pair_with_a_value_outside_is_dropped(self):
        x, y = torch.tensor([0.1, 0.9, 5.0, 0.1, 0.9]), torch.tensor([0.1, 0.9, 0.1, 5.0, 0.1])
        h = ip.Histogram(2, (0, 1), outside="drop")
        expected = ip.Histogram(2, (0, 1)).mutual_information(x[[0, 1, 4]], y[[0, 1, 4]])
        assert h.mutual_information(x, y).item() == pytest.approx(expected.item())
        with pytest.raises(ValueError, match=r"x, y: .*outside='drop' left none"):
            h.mutual_information(x[2:4], y[2:4])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int64", "float16", "bool"])
@pytest.mark.parametrize("range", ["dyadic", "minmax", "own", (0.0, 9.0)])
@pytest.mark.parametrize("over", ["values", "units", "samples"])
def test_types_of_the_variables(dtype, range, over):
    x = (torch.arange(24) % 7).to(getattr(torch, dtype)).reshape(24, 1)
    y = torch.arange(24.0).reshape(24, 1) % 3
    h = ip.Histogram(5, range=range, over=over)
    for pair in ((x, y), (y, x), (x, x)):
        expected = h.mutual_information(*(z.double() for z in pair))
        assert h.mutual_information(*pair) == expected
        assert h.kl_divergence(*pair) == h.kl_divergence(*(z.double() for z in pair))
