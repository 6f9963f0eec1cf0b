from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip
from infoprobe.estimators.histogram import tables
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.tabulation import counts_of_all, tabulate
from tests import textbook
from tests.estimators.histogram.cases import COARSE, CORRECTIONS, FINITE, RANGES, columns, matrices


class TestOverUnits:
    """Against one estimate for each unit."""

    @given(matrices(FINITE | COARSE), st.integers(2, 50), st.sampled_from([16, 1 << 17]))
    def test_dyadic_counts_are_exactly_those_of_each_unit(self, pair, bins, block):
        self.check_counts(pair, bins, "dyadic", block)

    @given(
        matrices(COARSE | st.floats(-5, 5, width=32)),
        st.integers(1, 50),
        st.sampled_from(["minmax", "own", (-5, 5)]),
        st.sampled_from([16, 1 << 17]),
    )
    def test_uniform_counts_are_exactly_those_of_each_unit(self, pair, bins, mode, block):
        self.check_counts(pair, bins, mode, block)

    @pytest.mark.parametrize("bins", [3, 7, 47, 49, 93, 299])
    def test_values_on_the_edges_of_bins(self, bins):
        x = np.arange(300)[:, None] / 299 * np.array([1.0, 0.3, 7.0, 1e-5, 123.4])
        for mode in ("minmax", "own"):
            self.check_counts((x, x + np.float32(0.1)), bins, mode, 1 << 17)

    def check_counts(self, pair, bins, mode, block):
        x, y = pair
        y[:, 0] = x[0, 0]  # a constant unit
        with mock.patch.object(tables, "_BLOCK", block):
            parts = list(tabulate(Binning(bins, mode, "units", "raise"), p=x, q=y[1:]))
        each = Binning(bins, mode, "values", "raise")
        pooled = zip(columns(x), columns(y[1:]), strict=True)
        expected = [counts_of_all(each, p=of_x, q=of_y) for of_x, of_y in pooled]
        rows = [
            (counts, int(cells))
            for tables in parts
            for row in zip(
                *(zip(table.counts, table.cells, strict=True) for table in tables), strict=True
            )
            for counts, cells in row
        ]
        assert len(rows) == 2 * len(expected)
        for (counts, cells), unit in zip(
            rows, (c for both in expected for c in both), strict=True
        ):
            assert cells == unit.grid.size
            assert counts.tolist()[:cells] == unit.values.tolist()
            assert not counts[cells:].any()

    @pytest.mark.parametrize("mode", ["dyadic", "minmax", "own", (-1e306, 1e306)])
    def test_units_of_very_different_size(self, mode):
        x = torch.randn(50, 7, dtype=torch.float64)
        x = x * torch.tensor([1e305, 1e20, 1.0, 1e-20, 1e-305, 5e-324, 0.0], dtype=torch.float64)
        x[0] = -5e-324  # the number next to zero has a bin of its own, below it
        x[1:] = x[1:].abs()
        h, each = ip.Histogram(16, mode, "units"), ip.Histogram(16, mode)
        expected = sum(each.entropy(unit) for unit in x.T)
        assert h.entropy(x).item() == pytest.approx(expected.item(), abs=1e-12)

    @given(
        matrices(COARSE),
        st.integers(2, 30),
        st.sampled_from(RANGES),
        st.sampled_from([{}, {"pseudocount": 0.5}, *({"correction": c} for c in CORRECTIONS)]),
        st.sampled_from([16, 1 << 17]),
    )
    def test_every_measure_is_the_sum_over_units(self, pair, bins, mode, smoothing, block):
        x, y = pair
        h = ip.Histogram(bins, mode, "units", **smoothing)
        each = ip.Histogram(bins, mode, **smoothing)
        names = ["entropy", "mutual_information"]
        if h.correction in (None, "james-stein"):
            names += ["cross_entropy", "kl_divergence", "js_divergence"]
        for name in names:
            one = name == "entropy"
            try:
                expected = sum(
                    getattr(each, name)(*unit[: 1 if one else 2]).item()
                    for unit in zip(columns(x), columns(y), strict=True)
                )
            except ValueError:  # of Chao & Shen's estimator, where no two pairs are equal
                assert h.correction == "chao-shen"
                continue
            with mock.patch.object(tables, "_BLOCK", block):
                value = getattr(h, name)(*pair[: 1 if one else 2]).item()
            assert value == pytest.approx(expected, abs=1e-12), name

    @given(matrices(COARSE), st.integers(2, 30))
    def test_the_entropy_equals_the_textbook(self, pair, bins):
        x, _ = pair
        counts = [textbook.dyadic_counts(unit.tolist(), bins=bins)[0] for unit in columns(x)]
        expected = sum(textbook.entropy(textbook.probabilities(c)) for c in counts)
        value = ip.Histogram(bins, over="units").entropy(x).item()
        assert value == pytest.approx(expected, abs=1e-12)

    def test_what_a_unit_is(self):
        h = ip.Histogram(8, over="units")
        x = torch.randn(30, 2, 3)
        assert h.entropy(x) == h.entropy(x.reshape(30, 6))
        assert h.entropy(x[:, 0, 0]) == ip.Histogram(8).entropy(x[:, 0, 0])
        assert h.entropy(x.transpose(1, 2)).item() == pytest.approx(h.entropy(x).item())
        assert h.entropy(x[torch.randperm(30)]) == h.entropy(x)

    def test_each_unit_has_its_own_range(self):
        x = torch.rand(100, 2) * torch.tensor([1.0, 1000.0])
        for mode in ("dyadic", "minmax", "own"):
            h = ip.Histogram(8, mode, "units")
            assert h.entropy(x) > 1.5 * ip.Histogram(8, mode).entropy(x[:, 1])

    @pytest.mark.parametrize("outside", ["clip", "drop"])
    def test_values_outside(self, outside):
        x, y = torch.randn(2, 200, 5, dtype=torch.float64)
        h = ip.Histogram(8, (-1, 1), "units", outside=outside)
        each = ip.Histogram(8, (-1, 1), outside=outside)
        for name in ("entropy", "js_divergence", "mutual_information"):
            given = (x,) if name == "entropy" else (x, y)
            expected = sum(
                getattr(each, name)(*unit) for unit in zip(*(z.T for z in given), strict=True)
            )
            assert getattr(h, name)(*given).item() == pytest.approx(expected.item())

    def test_uncovered(self):
        p = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
        q = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
        assert ip.Histogram(over="units").uncovered(p, q).item() == 1 / 8
