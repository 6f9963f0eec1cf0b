import math
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import torch
from FrEIA.modules import HaarDownsampling
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import infoprobe as ip
from infoprobe.estimators.histogram import corrections, tables, tabulation
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.counts import count
from infoprobe.estimators.histogram.grids import UniformGrid
from infoprobe.estimators.histogram.tabulation import counts_of_all, tabulate
from tests import textbook

PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)

samples = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 60),
    elements=st.floats(-1000, 1000, width=32),
)


def matrices(elements, width=4):
    """Two of one dtype, float32 or float64, and one shape, of 3 to 20 samples."""
    shapes = st.tuples(st.integers(3, 20), st.integers(1, width))
    return st.tuples(st.sampled_from([np.float32, np.float64]), shapes).flatmap(
        lambda kind: st.tuples(*[hnp.arrays(*kind, elements=elements)] * 2)
    )


FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
# Values that meet each other and the edges of bins.
COARSE = st.integers(-40, 40).map(lambda i: i / 8)
RANGES = ["dyadic", "minmax", "own", (-5, 5)]
CORRECTIONS = [None, "miller-madow", "james-stein", "chao-shen", "grassberger"]

histograms = st.builds(
    ip.Histogram,
    bins=st.integers(2, 50),
    range=st.sampled_from(["dyadic", "minmax", "own", (-1000, 1000)]),
    pseudocount=st.sampled_from([0.0, 0.5, 1.0]),
)


class TestGoldenValues:
    """The model-independent values of Callahan & Paskett (2021), figures 3 and 4."""

    def test_mnist(self, mnist_test_images):
        x = mnist_test_images / 255
        (haar,), _ = HaarDownsampling([(1, 28, 28)])((x,))
        assert PAPER.entropy(x).item() == pytest.approx(1.331631, abs=1e-6)
        # Many Haar coefficients lie on edges of bins, so rounding moves the fourth digit.
        assert PAPER.entropy(haar).item() == pytest.approx(1.9538, abs=2e-3)
        assert PAPER.kl_divergence(x, haar).item() == pytest.approx(7.4290, abs=2e-3)

    def test_cifar10(self, cifar10_test_images):
        x = cifar10_test_images / 255
        (haar,), _ = HaarDownsampling([(3, 32, 32)])((x,))
        assert PAPER.entropy(x).item() == pytest.approx(5.488225, abs=1e-4)
        assert PAPER.entropy(haar).item() == pytest.approx(5.327101, abs=1e-4)
        assert PAPER.kl_divergence(x, haar).item() == pytest.approx(2.469802, abs=1e-4)

    def test_the_definition_is_blind_to_affine_maps(self, mnist_test_images):
        x = mnist_test_images[:100] / 255
        assert PAPER.kl_divergence(x, 2 * x.flip(0)).item() == 0.0

    def test_it_rates_uniform_noise_better_than_most(self, mnist_test_images):
        x = mnist_test_images / 255
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        assert PAPER.kl_divergence(x, noise).item() == pytest.approx(5.54, abs=0.1)

    def test_and_sees_an_invisible_noise(self, mnist_test_images):
        x = mnist_test_images / 255
        noisy = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        # More than the 5.54 of uniform noise in place of the digits; 10.22 +- 0.6 by seed.
        assert PAPER.kl_divergence(x, noisy).item() > 9.5


class TestClosedForms:
    def test_uniform_on_its_bins(self):
        x = torch.arange(64).repeat(7)
        for bins in (2, 4, 16, 64):
            assert ip.Histogram(bins).entropy(x).item() == pytest.approx(math.log(bins))

    def test_a_constant_has_no_entropy(self):
        for mode in ("dyadic", "minmax", "own", (0, 1)):
            assert ip.Histogram(range=mode).entropy([0.3, 0.3]).item() == 0.0

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
    def test_bernoulli(self, share):
        n = 1000
        x = torch.arange(n) < share * n
        expected = scipy.stats.bernoulli(share).entropy()
        assert ip.Histogram().entropy(x).item() == pytest.approx(expected)

    def test_a_gaussian_in_narrow_bins_approaches_its_differential_entropy(self):
        # H(bins of width w) -> h(X) - ln w
        x = torch.randn(1_000_000, dtype=torch.float64)
        width = ip.Histogram(256).count(x).grid.edges().diff()[0].item()
        expected = scipy.stats.norm().entropy() - math.log(width)
        assert ip.Histogram(256).entropy(x).item() == pytest.approx(expected, abs=2e-3)

    def test_divergence_of_shifted_gaussians(self):
        # KL(N(0, 1) || N(m, 1)) = m**2 / 2; bins lose a little of it
        p, q = torch.randn(2, 1_000_000, dtype=torch.float64)
        h = ip.Histogram(1000, pseudocount=0.5)
        assert h.kl_divergence(p, q + 0.8).item() == pytest.approx(0.32, abs=0.01)

    def test_divergence_of_two_coins(self):
        p, q = torch.arange(10) < 3, torch.arange(100) < 60
        expected = 0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4)
        assert ip.Histogram().kl_divergence(p, q).item() == pytest.approx(expected)

    def test_disjoint_supports(self):
        h, p, q = ip.Histogram(), torch.zeros(5), torch.ones(7)
        assert h.kl_divergence(p, q).item() == math.inf
        assert h.cross_entropy(p, q).item() == math.inf
        assert h.js_divergence(p, q).item() == pytest.approx(math.log(2))
        assert h.uncovered(p, q).item() == 1.0

    def test_an_edge_at_zero(self):
        # Half an atom moves from one side of zero to the other: all of KL is between two bins.
        p, q = [0.0] * 8 + [1.0] * 8, [0.0] * 4 + [-1e-9] * 4 + [1.0] * 8
        h = ip.Histogram(8)
        assert h.kl_divergence(p, q).item() == pytest.approx(0.5 * math.log(2))
        assert h.kl_at_zero(p, q).item() == pytest.approx(0.5 * math.log(2))
        # A real difference beside it stays.
        q[-4:] = [-1.0] * 4
        expected = h.kl_divergence(p, q).item() - 0.5 * math.log(2)
        assert expected > 0.3
        assert h.kl_at_zero(p, q).item() == pytest.approx(0.5 * math.log(2))
        assert ip.Histogram(4, range=(-1, 1)).kl_at_zero(p, q) > 0
        for without in (ip.Histogram(3, range=(-1, 1)), ip.Histogram(4, range="own")):
            assert without.kl_at_zero(p, q).item() == 0.0


class TestAgainstOthers:
    @given(samples, samples, st.integers(2, 50), st.sampled_from([0.0, 0.5, 1.0]))
    def test_dyadic_equals_the_textbook(self, x, y, bins, pseudocount):
        counts = textbook.dyadic_counts(x.tolist(), y.tolist(), bins=bins)
        p, q = (textbook.probabilities(c, pseudocount) for c in counts)
        h = ip.Histogram(bins, pseudocount=pseudocount)
        assert h.kl_divergence(x, y).item() == pytest.approx(textbook.kl_divergence(p, q))
        alone = textbook.dyadic_counts(x.tolist(), bins=bins)[0]
        expected = textbook.entropy(textbook.probabilities(alone, pseudocount))
        assert h.entropy(x).item() == pytest.approx(expected)

    @given(samples, samples, st.integers(1, 50), st.sampled_from([0.0, 0.5, 1.0]))
    def test_the_other_ranges_equal_scipy_on_numpy_counts(self, x, y, bins, pseudocount):
        x, y = x.astype(np.float64), y.astype(np.float64)
        joint = (min(x.min(), y.min()), max(x.max(), y.max()))
        cases = {"own": [None, None], "minmax": [joint, joint], (-1e3, 1e3): [(-1e3, 1e3)] * 2}
        for mode, limits in cases.items():
            p, q = (
                _numpy_counts(values, bins, limit) + pseudocount
                for values, limit in zip([x, y], limits, strict=True)
            )
            h = ip.Histogram(bins, range=mode, pseudocount=pseudocount)
            assert h.kl_divergence(x, y).item() == pytest.approx(scipy.stats.entropy(p, q))
            mixture = (p / p.sum() + q / q.sum()) / 2
            js = (scipy.stats.entropy(p, mixture) + scipy.stats.entropy(q, mixture)) / 2
            assert h.js_divergence(x, y).item() == pytest.approx(js, abs=1e-12)
            if mode != "minmax":
                assert h.entropy(x).item() == pytest.approx(scipy.stats.entropy(p))


def _numpy_counts(x, bins, limits):
    low, high = limits or (x.min(), x.max())
    if low == high or (high - low) / bins < 4 * np.spacing(max(abs(low), abs(high))):
        # Constant, or bins that numpy refuses as narrower than the spacing of floats.
        return count(torch.tensor(x), UniformGrid(low, high, bins)).values.numpy()
    return np.histogram(x, bins, (low, high))[0]


class TestProperties:
    @given(samples, histograms)
    def test_bounds(self, x, h):
        value = h.entropy(x).item()
        assert 0 <= value <= math.log(h.bins) + 1e-9

    @given(samples, samples, histograms)
    def test_identities(self, x, y, h):
        cross, kl = h.cross_entropy(x, y).item(), h.kl_divergence(x, y).item()
        assert kl >= -1e-12
        assert h.kl_divergence(x, x).item() == 0.0
        if h.range == "own" or not isinstance(h.range, str):
            # Elsewhere the bins of x alone differ from those that x and y share.
            assert cross == pytest.approx(h.entropy(x).item() + kl)
        js = h.js_divergence(x, y).item()
        assert js == pytest.approx(h.js_divergence(y, x).item())
        assert -1e-12 <= js <= math.log(2) + 1e-12
        assert (kl == math.inf) == (h.pseudocount == 0 and h.uncovered(x, y) > 0)

    @given(samples, histograms, st.randoms())
    def test_order_and_shape_do_not_matter(self, x, h, random):
        shuffled = x.tolist()
        random.shuffle(shuffled)
        shuffled = torch.tensor(shuffled, dtype=torch.tensor(x).dtype).reshape(1, -1, 1)
        assert h.entropy(x) == h.entropy(shuffled)

    @given(samples, st.integers(-20, 20))
    def test_powers_of_two_do_not_change_dyadic_values(self, x, exponent):
        x = torch.tensor(x, dtype=torch.float64)
        h = ip.Histogram(32)
        assert h.entropy(x) == h.entropy(x * 2.0**exponent)

    @given(st.lists(samples, min_size=1, max_size=5), samples)
    def test_counts_of_batches_stand_for_the_data(self, batches, y):
        h = ip.Histogram(32, pseudocount=0.5)
        x = np.concatenate([batch.astype(np.float64) for batch in batches])
        counts = h.count(batches[0])
        for batch in batches[1:]:
            counts = counts + h.count(batch)
        assert h.entropy(counts) == h.entropy(x)
        assert h.kl_divergence(counts, y) == h.kl_divergence(x, y)
        assert h.kl_divergence(y, counts) == h.kl_divergence(y, x)

    @given(hnp.arrays(np.int16, st.integers(1, 50)))
    def test_the_same_integers_in_another_type(self, x):
        h = ip.Histogram(64)
        expected = h.entropy(x)
        for dtype in (torch.int32, torch.int64, torch.float32, torch.float64):
            assert h.entropy(torch.tensor(x).to(dtype)) == expected

    @pytest.mark.parametrize(
        "dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.bool]
    )
    def test_small_types(self, dtype):
        x = (torch.rand(100) * 100).to(dtype)
        assert ip.Histogram().entropy(x) == ip.Histogram().entropy(x.to(torch.float64))


def columns(x):
    return x.reshape(len(x), -1).T


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
            for row in zip(*(zip(*table, strict=True) for table in tables), strict=True)
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
        metrics = pytest.importorskip("sklearn.metrics")
        x, y = (z.flatten() for z in pair)
        labels = []
        for z in (x, y):
            low, high = (z.min(), z.max()) if mode == "own" else mode
            grid = UniformGrid(float(low), float(high), bins)
            labels.append(grid.index(torch.tensor(z)))
        expected = metrics.mutual_info_score(*labels)
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


class TestCorrections:
    @pytest.mark.parametrize("correction", ["miller-madow", "chao-shen"])
    def test_they_equal_another_library(self, correction):
        infomeasure = pytest.importorskip("infomeasure")
        x = torch.randint(0, 9, (60,))
        y = (x + torch.randint(0, 3, (60,))) % 9
        approach = correction.replace("-", "_")
        for over in ("values", "units", "samples"):
            h = ip.Histogram(16, over=over, correction=correction)
            expected = infomeasure.entropy(x.numpy(), approach=approach, base="e")
            assert h.entropy(x).item() == pytest.approx(expected)
            expected = infomeasure.mutual_information(
                x.numpy(), y.numpy(), approach=approach, base="e"
            )
            assert h.mutual_information(x, y).item() == pytest.approx(expected)

    def test_they_apply_to_counts_of_batches(self):
        x = torch.randn(300)
        for correction in CORRECTIONS:
            h = ip.Histogram(32, correction=correction)
            counts = h.count(x[:100]) + h.count(x[100:])
            assert h.entropy(counts) == h.entropy(x)
            assert counts.total == 300
        h = ip.Histogram(32, correction="james-stein")
        assert h.kl_divergence(counts, x[:50]) == h.kl_divergence(x, x[:50])

    def test_james_stein_takes_all_bins_into_account(self):
        # Two of the four bins of an explicit range are empty: 1 - 5/8 over 3 * (5/8 - 1/4).
        h = ip.Histogram(4, (0, 4), correction="james-stein")
        weight = (3 / 8) / (3 * 3 / 8)
        p = [weight / 4 + (1 - weight) * n / 4 for n in (3, 1, 0, 0)]
        x = torch.tensor([0.5, 0.5, 0.5, 1.5])
        assert h.entropy(x).item() == pytest.approx(scipy.stats.entropy(p))
        q = [weight / 4 + (1 - weight) * n / 4 for n in (0, 0, 1, 3)]
        expected = scipy.stats.entropy(p, q)
        assert h.kl_divergence(x, 4 - x).item() == pytest.approx(expected)
        assert h.cross_entropy(x, 4 - x).item() == pytest.approx(expected + h.entropy(x).item())

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_chao_shen_without_coverage(self, over):
        h = ip.Histogram(256, over=over, correction="chao-shen")
        x = torch.arange(64.0)
        assert h.entropy(x).item() == math.inf
        with pytest.raises(ValueError, match=r"no two pairs .*fall into the same bins"):
            h.mutual_information(x, x)
        with pytest.raises(ValueError, match=r"no two pairs .*fall into the same bins"):
            h.mutual_information(x, x // 2)

    @pytest.mark.parametrize("correction", ["miller-madow", "chao-shen", "grassberger"])
    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_most_have_no_probabilities(self, correction, over):
        h = ip.Histogram(over=over, correction=correction)
        names = ["cross_entropy", "kl_divergence", "js_divergence"]
        if over == "values":
            names.append("kl_at_zero")
        for name in names:
            with pytest.raises(ValueError, match=rf"correction: '{correction}' .*'james-stein'"):
                getattr(h, name)(torch.randn(9), torch.randn(9))

    def test_who_shares_counts(self):
        plain = ip.Histogram(32)
        for h in (
            ip.Histogram(32, pseudocount=1),
            *(ip.Histogram(32, correction=c) for c in CORRECTIONS),
        ):
            assert h.uncorrected == plain
        assert ip.Histogram(64, correction="grassberger").uncorrected != plain


class TestGuestManners:
    def test_result(self, device):
        x = torch.randn(10, device=device, requires_grad=True)
        value = ip.Histogram().kl_divergence(x, x.detach().cpu())
        assert value.shape == ()
        assert value.dtype == torch.float64
        assert value.device == x.device
        assert not value.requires_grad

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    @pytest.mark.parametrize("correction", CORRECTIONS)
    def test_every_result(self, device, over, correction):
        x = torch.randint(0, 9, (40, 3), generator=torch.Generator().manual_seed(0)).float()
        x, y = x.to(device).requires_grad_(), x.roll(1)
        if over == "samples" and correction == "james-stein":
            return
        h = ip.Histogram(4, over=over, correction=correction)
        values = {"entropy": h.entropy(x), "mutual_information": h.mutual_information(x, y)}
        if correction in (None, "james-stein"):
            for name in ("cross_entropy", "kl_divergence", "js_divergence", "uncovered"):
                values[name] = getattr(h, name)(x, y)
        for name, value in values.items():
            assert value.shape == ()
            assert value.dtype == torch.float64
            assert value.device == x.device
            assert not value.requires_grad
            there = (x.detach().cpu(),) if name == "entropy" else (x.detach().cpu(), y)
            assert value.item() == pytest.approx(getattr(h, name)(*there).item())

    def test_devices_agree(self, device):
        x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
        for mode in ("dyadic", "minmax", "own", (-9, 9)):
            h = ip.Histogram(range=mode)
            assert h.entropy(x.to(device)).item() == pytest.approx(h.entropy(x).item(), abs=1e-12)

    def test_the_argument_is_left_as_it_was(self):
        x = torch.randn(100)
        x[0], x[1] = 5, -5
        before, version = x.clone(), x._version
        for mode in ("dyadic", "minmax", "own", (-9, 9)):
            for over in ("values", "units", "samples"):
                h = ip.Histogram(range=mode, over=over)
                h.entropy(x)
                h.js_divergence(x, x)
                h.mutual_information(x, x)
                assert torch.equal(x, before)
                assert x._version == version

    def test_no_random_number_is_drawn(self):
        state = torch.random.get_rng_state()
        ip.Histogram().entropy(torch.arange(10))
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_arrays_that_torch_refuses_or_warns_about(self):
        x = np.arange(10.0)
        x.flags.writeable = False
        assert ip.Histogram().entropy(x) == ip.Histogram().entropy(x[::-1])


class TestBadInput:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite(self, bad):
        x = torch.zeros(4, 5)
        x[1, 2] = bad
        kind = "1 NaN and 0 infinite" if math.isnan(bad) else "0 NaN and 1 infinite"
        with pytest.raises(ValueError, match=rf"q: .*{kind} among 20 \(5.000%\)"):
            ip.Histogram().kl_divergence(torch.zeros(3), x)

    def test_empty(self):
        with pytest.raises(ValueError, match=r"x: .*empty tensor of shape \(0, 7\)"):
            ip.Histogram().entropy(torch.zeros(0, 7))

    @pytest.mark.parametrize("x", [["a"], np.array(["a"]), np.array([None]), None, [[1], [1, 2]]])
    def test_no_numbers(self, x):
        with pytest.raises(TypeError, match="x: expected a tensor or an array of real numbers"):
            ip.Histogram().entropy(x)

    def test_complex_numbers(self):
        with pytest.raises(
            TypeError, match=r"x: expected real numbers, got dtype torch\.complex64"
        ):
            ip.Histogram().entropy(torch.zeros(3, dtype=torch.complex64))

    def test_integers_that_floats_cannot_hold(self):
        ip.Histogram().entropy(torch.tensor([0, 2**53 - 1]))
        with pytest.raises(ValueError, match=r"below 2\*\*53"):
            ip.Histogram().entropy(torch.tensor([0, 2**53 + 1]))

    def test_outside_of_an_explicit_range(self):
        x = torch.tensor([-1.0, 0.5, 1.0, 3.0])
        with pytest.raises(
            ValueError, match=r"x: .*from -1.0 to 3.0, 50.000% of them outside.*clip"
        ):
            ip.Histogram(range=(0, 1)).entropy(x)
        clip = ip.Histogram(4, range=(0, 1), outside="clip")
        assert clip.count(x).values.tolist() == [1, 0, 1, 2]
        drop = ip.Histogram(4, range=(0, 1), outside="drop")
        assert drop.count(x).values.tolist() == [0, 0, 1, 1]
        with pytest.raises(ValueError, match=r"x: .*outside='drop' left none"):
            drop.entropy(x + 9)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"bins": 0}, ValueError, "bins: .*got 0"),
            ({"bins": -3}, ValueError, "bins: .*got -3"),
            ({"bins": 2.5}, TypeError, "bins: expected an integer, got 2.5"),
            ({"bins": 2**25}, ValueError, "bins: .*between 1 and 16,777,216"),
            ({"bins": 1}, ValueError, "bins: expected at least 2 with range='dyadic'"),
            ({"range": "auto"}, ValueError, "range: expected one of 'dyadic', 'minmax', 'own'"),
            ({"range": (1, 0)}, ValueError, "range: expected finite low < high"),
            ({"range": (0, math.inf)}, ValueError, "range: expected finite low < high"),
            ({"range": (0, 1, 2)}, ValueError, r"range: .*pair \(low, high\)"),
            ({"range": None}, ValueError, r"range: .*pair \(low, high\)"),
            ({"over": "layers"}, ValueError, "over: expected one of 'values'"),
            ({"pseudocount": -1}, ValueError, "pseudocount: expected a finite number >= 0"),
            ({"pseudocount": math.nan}, ValueError, "pseudocount: expected a finite number >= 0"),
            ({"pseudocount": "1"}, TypeError, "pseudocount: expected a number, got '1'"),
            ({"outside": "clip"}, ValueError, "outside: expected 'raise' with range='dyadic'"),
            ({"correction": "jackknife"}, ValueError, "correction: expected one of None, 'james"),
            (
                {"correction": "grassberger", "pseudocount": 1},
                ValueError,
                "pseudocount: expected 0 with correction='grassberger', got 1. .* choose one",
            ),
            (
                {"over": "samples", "pseudocount": 1},
                ValueError,
                r"over: 'samples' cannot have a pseudocount.*bins\*\*d symbols",
            ),
            (
                {"over": "samples", "correction": "james-stein"},
                ValueError,
                r"over: 'samples' cannot have correction='james-stein'.*bins\*\*d symbols",
            ),
            ({"range": (0, 1), "outside": "wrap"}, ValueError, "outside: expected one of"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            ip.Histogram(**settings)

    @pytest.mark.parametrize("mode", ["own", "minmax"])
    def test_ranges_that_cannot_stream(self, mode):
        h = ip.Histogram(range=mode)
        with pytest.raises(ValueError, match=f"range: '{mode}' needs all the values at once"):
            h.count(torch.zeros(3))
        with pytest.raises(ValueError, match="needs all the values at once"):
            h.entropy(ip.Histogram().count(torch.zeros(3)))

    @pytest.mark.parametrize("over", ["units", "samples"])
    def test_what_cannot_stream(self, over):
        assert ip.Histogram().streams
        h = ip.Histogram(over=over)
        assert not h.streams
        counts, x = ip.Histogram().count(torch.zeros(3)), torch.zeros(3, 1)
        message = f"over: '{over}' needs all the data at once"
        with pytest.raises(ValueError, match=message):
            h.count(x)
        with pytest.raises(ValueError, match=message):
            h.entropy(counts)
        with pytest.raises(ValueError, match=message):
            h.kl_divergence(x, counts)
        with pytest.raises(ValueError, match=f"over: kl_at_zero .*got '{over}'"):
            h.kl_at_zero(x, x)

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_counts_know_no_pairs(self, over):
        counts = ip.Histogram().count(torch.zeros(3))
        with pytest.raises(
            ValueError, match=r"y: .*counts, which do not know which values belong"
        ):
            ip.Histogram(over=over).mutual_information(torch.zeros(3), counts)

    @pytest.mark.parametrize("over", ["units", "samples"])
    def test_shapes_of_samples(self, over):
        h = ip.Histogram(over=over)
        for name in ("cross_entropy", "kl_divergence", "js_divergence", "uncovered"):
            with pytest.raises(ValueError, match=r"p, q: .*p has d=2, q has d=3"):
                getattr(h, name)(torch.zeros(4, 2), torch.zeros(4, 3))
        for alone in (torch.zeros(()), torch.zeros(1, 5)):
            with pytest.raises(ValueError, match="x: expected at least 2 samples"):
                h.entropy(alone)
        with pytest.raises(ValueError, match=r"x: .*1 NaN and 0 infinite"):
            h.entropy(torch.tensor([[1.0], [math.nan]]))

    def test_pairs_that_do_not_fit(self):
        x = torch.zeros(4, 6)
        for over in ("values", "units"):
            h = ip.Histogram(over=over)
            message = rf"x, y: expected the same shape, since {over} .*got \(4, 6\) and \(4, 5\)"
            with pytest.raises(ValueError, match=message):
                h.mutual_information(x, torch.zeros(4, 5))
        with pytest.raises(ValueError, match=r"x, y: .*x has 4, y has 5"):
            ip.Histogram(over="samples").mutual_information(x, torch.zeros(5, 6))

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_outside_of_an_explicit_range_in_every_way(self, over):
        x, y = torch.tensor([[0.5], [0.6]]), torch.tensor([[0.5], [3.0]])
        h = ip.Histogram(4, (0, 1), over)
        message = "y: .*from 0.5 to 3.0, 50.000% of them outside"
        with pytest.raises(ValueError, match=message):
            h.mutual_information(x, y)
        with pytest.raises(ValueError, match=message.replace("y", "q", 1)):
            h.kl_divergence(x, y)
        drop = ip.Histogram(4, (0, 1), over, outside="drop")
        with pytest.raises(ValueError, match=r"q: .*outside='drop' left none"):
            drop.kl_divergence(x, y + 9)

    def test_a_unit_that_overflows(self):
        x = torch.tensor([[0.0, -1.7e308], [1.0, 1.7e308]], dtype=torch.float64)
        assert ip.Histogram(over="units").entropy(x).item() == pytest.approx(2 * math.log(2))
        with pytest.raises(ValueError, match="overflows"):
            ip.Histogram(range="minmax", over="units").entropy(x)

    def test_counts_of_other_bins(self):
        x = torch.randn(100)
        counts = ip.Histogram(256).count(x)
        for h in (ip.Histogram(64), ip.Histogram(range=(-9, 9)), ip.Histogram(255)):
            with pytest.raises(ValueError, match=r"x: expected counts made by .* Count again"):
                h.entropy(counts)
        with pytest.raises(ValueError, match="q: expected counts made by"):
            ip.Histogram(64).kl_divergence(x, counts)
        with pytest.raises(ValueError, match="no common bins"):
            counts + ip.Histogram(64).count(x)
        same = ip.Histogram(256, pseudocount=1)
        assert same.entropy(counts) == same.entropy(x)

    def test_python_floats_keep_their_precision(self):
        assert ip.Histogram().entropy([1e8, 1e8 + 1]).item() == pytest.approx(math.log(2))
        assert ip.Histogram().entropy([1e300, 1.0]).item() == pytest.approx(math.log(2))

    @pytest.mark.parametrize("mode", ["minmax", "own", (0, 1e308)])
    def test_a_huge_span(self, mode):
        x = torch.linspace(0, 1e308, 257, dtype=torch.float64)
        h = ip.Histogram(256, range=mode)
        expected = np.histogram(x.numpy() / 2**900, 256)[0]
        assert h.entropy(x).item() == pytest.approx(scipy.stats.entropy(expected))

    def test_a_span_that_overflows(self):
        x = torch.tensor([-1.7e308, 1.7e308], dtype=torch.float64)
        assert ip.Histogram().entropy(x).item() == pytest.approx(math.log(2))
        with pytest.raises(ValueError, match="overflows"):
            ip.Histogram(range="minmax").entropy(x)
