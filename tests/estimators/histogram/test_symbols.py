import math
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip
from infoprobe.estimators.histogram import tables
from tests import textbook
from tests.estimators.histogram.cases import COARSE, RANGES, matrices


def symbols(*samples, bins):
    """The rows of each as tuples of bins on a grid that all share."""
    numbers, _ = textbook.dyadic_bins(*(x.flatten().tolist() for x in samples), bins=bins)
    return [
        [tuple(row) for row in np.array(of_x).reshape(len(x), -1)]
        for x, of_x in zip(samples, numbers, strict=True)
    ]


def entropy_of(symbols):
    return scipy.stats.entropy(list(Counter(symbols).values()))


class TestOverSamples:
    @given(matrices(COARSE), st.integers(2, 12), st.sampled_from([16, 1 << 17]))
    def test_entropies_equal_those_of_tuples(self, pair, bins, block):
        x, y = pair
        h = ip.Histogram(bins, over="samples")
        (of_x,), (of_y,) = symbols(x, bins=bins), symbols(y, bins=bins)
        both = list(zip(of_x, of_y, strict=True))
        information = entropy_of(of_x) + entropy_of(of_y) - entropy_of(both)
        with mock.patch.object(tables, "_BLOCK", block):
            assert h.entropy(x).item() == pytest.approx(entropy_of(of_x), abs=1e-12)
            value = h.mutual_information(x, y).item()
            assert value == pytest.approx(information, abs=1e-12)
            assert h.mutual_information(y, x).item() == pytest.approx(value, abs=1e-12)
            assert h.mutual_information(x, x).item() == pytest.approx(h.entropy(x).item())

    @given(matrices(COARSE, 2), st.integers(2, 6))
    def test_divergences_equal_those_of_tuples(self, pair, bins):
        x, y = pair
        h = ip.Histogram(bins, over="samples")
        of_x, of_y = (Counter(of_z) for of_z in symbols(x, y[1:], bins=bins))
        union = of_x | of_y
        p, q = ([of_z[symbol] for symbol in union] for of_z in (of_x, of_y))
        kl = scipy.stats.entropy(p, q)
        assert h.kl_divergence(x, y[1:]).item() == pytest.approx(kl, abs=1e-12)
        cross = scipy.stats.entropy(p) + kl
        assert h.cross_entropy(x, y[1:]).item() == pytest.approx(cross, abs=1e-12)
        mixture = np.array(p) / sum(p) / 2 + np.array(q) / sum(q) / 2
        js = (scipy.stats.entropy(p, mixture) + scipy.stats.entropy(q, mixture)) / 2
        assert h.js_divergence(x, y[1:]).item() == pytest.approx(js, abs=1e-12)
        alone = sum(n for n, m in zip(p, q, strict=True) if not m) / sum(p)
        assert h.uncovered(x, y[1:]).item() == alone

    @pytest.mark.parametrize("bins", [2, 30, 256, 1 << 24])
    def test_wide_samples(self, bins):
        kinds = torch.rand(60, 300)
        kinds[1:20], kinds[21:40] = kinds[0], kinds[20]
        kinds[1:20, -1] = torch.arange(19) / 19  # all alike but for the last unit
        kinds[21:40, 0] = torch.arange(19) / 19  # or the first
        x = kinds[torch.randint(60, (500,))]
        (expected,) = symbols(x, bins=bins)
        h = ip.Histogram(bins, over="samples")
        assert h.entropy(x).item() == pytest.approx(entropy_of(expected))

    def test_all_samples_different(self):
        x = torch.randn(50, 300)
        h = ip.Histogram(30, over="samples")
        assert h.entropy(x).item() == pytest.approx(math.log(50))
        x[7] = x[3]
        assert h.entropy(x).item() == pytest.approx(math.log(50) - 2 / 50 * math.log(2))

    @given(matrices(COARSE), st.sampled_from(RANGES), st.randoms())
    def test_bounds_and_order(self, pair, mode, random):
        x, _ = pair
        h = ip.Histogram(8, mode, "samples")
        value = h.entropy(x).item()
        assert 0 <= value <= math.log(len(x)) + 1e-9
        if mode == (-5, 5):  # one grid, however many units
            assert value >= h.entropy(x[:, :1]).item() - 1e-9
        order = random.sample(range(len(x)), len(x))
        assert h.entropy(x[order]).item() == pytest.approx(value, abs=1e-12)

    def test_all_units_share_a_grid(self):
        # 0.4 and 0.6 are in one bin of the grid up to 100, in two of a grid of their own.
        x = torch.tensor([[0.4, 0.0], [0.6, 100.0], [0.6, 0.0]])
        for mode in ("dyadic", "minmax", "own", (0, 100)):
            value = ip.Histogram(4, mode, "samples").entropy(x).item()
            assert value == pytest.approx(scipy.stats.entropy([2, 1]))

    def test_arguments_of_a_divergence_share_a_grid_unless_each_has_its_own(self):
        x = torch.randn(100, 2)
        assert ip.Histogram(8, "own", "samples").kl_divergence(x, 2 * x + 1).item() == 0.0
        assert ip.Histogram(8, "minmax", "samples").js_divergence(x, 2 * x + 1) > 0.1

    def test_each_argument_of_mutual_information_has_its_own_grid(self):
        x = torch.randn(100, 3)
        for mode in ("dyadic", "minmax", "own"):
            h = ip.Histogram(4, mode, "samples")
            expected = h.mutual_information(x, x[:, :1])
            assert expected > 0.5
            # 2**20 times as large, it would be all there is on a common grid.
            assert h.mutual_information(x, x[:, :1] * 2**20) == expected
            assert h.mutual_information(x * 2**20, x[:, :1]) == expected

    def test_labels(self):
        metrics = pytest.importorskip("sklearn.metrics")
        x = torch.randint(0, 3, (500, 2)).float()
        label = (x[:, 0] + torch.randint(0, 2, (500,))).long()
        h = ip.Histogram(4, over="samples")
        expected = metrics.mutual_info_score((x[:, 0] * 3 + x[:, 1]).long(), label)
        value = h.mutual_information(x, label)
        assert value.item() == pytest.approx(expected)
        for same in (label.numpy(), label.tolist(), label.to(torch.uint8), label * 1000 - 17):
            assert h.mutual_information(x, same).item() == pytest.approx(expected)
            assert h.mutual_information(same, x).item() == pytest.approx(expected)
        inside = ip.Histogram(4, (0, 2), "samples")
        assert inside.mutual_information(x, label * 1000).item() == pytest.approx(expected)
        assert h.mutual_information(x, label > 1) < value

    def test_labels_are_not_binned(self):
        label = torch.arange(1000).repeat(2)
        h = ip.Histogram(2, (0, 1), "samples")
        assert h.entropy(label).item() == pytest.approx(math.log(1000))
        assert h.mutual_information(label, -label).item() == pytest.approx(math.log(1000))
        assert h.kl_divergence(label, label[:1000]).item() == pytest.approx(0)
        assert h.js_divergence(label, label + 1000).item() == pytest.approx(math.log(2))
        # But numbers are, be they integers.
        assert ip.Histogram(2, over="samples").entropy(label.unsqueeze(1)) < math.log(2) + 1e-9
        mixed = ip.Histogram(2, over="samples").kl_divergence(label, label.double())
        assert mixed.item() == 0.0
        mixed = ip.Histogram(2, over="samples").uncovered(label, label[:9].double())
        assert mixed.item() == 0.488  # what is beyond an edge at 512

    def test_values_outside(self):
        x = torch.tensor([[0.1, 0.1], [0.9, 2.0], [0.9, 0.1], [0.1, 0.1]])
        clip = ip.Histogram(2, (0, 1), "samples", outside="clip")
        assert clip.entropy(x).item() == pytest.approx(scipy.stats.entropy([2, 1, 1]))
        drop = ip.Histogram(2, (0, 1), "samples", outside="drop")
        assert drop.entropy(x).item() == pytest.approx(scipy.stats.entropy([2, 1]))
        # The pair goes with either.
        y = torch.tensor([-1.0, 0.1, 0.1, 0.9])
        assert drop.mutual_information(x, y).item() == pytest.approx(math.log(2))
        assert drop.mutual_information(y, x).item() == pytest.approx(math.log(2))
        label = torch.tensor([7, 7, 8, 7])
        expected = scipy.stats.entropy([2, 1])
        assert drop.mutual_information(x, label).item() == pytest.approx(expected)
