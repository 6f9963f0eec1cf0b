import math
from collections import Counter

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from infoprobe.estimators.histogram import corrections
from infoprobe.estimators.histogram.tables import Table, joint_tally, tally
from tests import textbook

rows = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(sum)
EULER = 0.57721566490153286


def table(*counts, cells=None):
    """One row for each list of counts, padded."""
    width = max(map(len, counts))
    padded = [[*row, *[0] * (width - len(row))] for row in counts]
    cells = cells or [len(row) for row in counts]
    return Table(torch.tensor(padded), torch.tensor(cells, dtype=torch.float64).unsqueeze(1))


def of(function, counts):
    return function(table(counts)).item()


def sample(counts):
    return np.repeat(np.arange(len(counts)), counts)


# Slow versions, from the papers.


def miller_madow(counts):
    occupied = sum(n > 0 for n in counts)
    plug_in = textbook.entropy(textbook.probabilities(counts))
    return plug_in + (occupied - 1) / (2 * sum(counts))


def chao_shen(counts):
    total, single = sum(counts), sum(n == 1 for n in counts)
    if single == total:
        return math.inf
    adjusted = [(1 - single / total) * n / total for n in counts if n]
    return -sum(p * math.log(p) / (1 - (1 - p) ** total) for p in adjusted)


def grassberger(counts):
    total = sum(counts)
    return math.log(total) - sum(n * grassberger_g(n) for n in counts if n) / total


def grassberger_g(n):
    """By the recursion of the paper."""
    if n == 1:
        return -EULER - math.log(2)
    if n % 2:
        return grassberger_g(n - 1)
    return 2 - EULER - math.log(2) + sum(2 / k for k in range(3, n, 2))


def shrunk(counts):
    total, cells = sum(counts), len(counts)
    p = textbook.probabilities(counts)
    distance = sum((1 / cells - x) ** 2 for x in p)
    weight = 1.0
    if total > 1 and distance > 0:
        weight = min(1.0, (1 - sum(x * x for x in p)) / ((total - 1) * distance))
    return [weight / cells + (1 - weight) * x for x in p]


class TestEntropies:
    @given(rows)
    def test_they_equal_the_slow_versions(self, counts):
        assert of(corrections.miller_madow, counts) == pytest.approx(miller_madow(counts))
        assert of(corrections.chao_shen, counts) == pytest.approx(chao_shen(counts))
        assert of(corrections.grassberger, counts) == pytest.approx(grassberger(counts))

    @pytest.mark.parametrize("counts", [[4, 2, 3, 2, 4, 2, 1, 1], [1, 1, 1, 7], [5], [2, 30]])
    def test_they_equal_another_library(self, counts):
        # Its grassberger is the form of 1988, another estimator.
        infomeasure = pytest.importorskip("infomeasure")
        for name in ("miller_madow", "chao_shen"):
            expected = infomeasure.entropy(sample(counts), approach=name, base="e")
            value = of(corrections.OF_ENTROPY[name.replace("_", "-")], counts)
            assert value == pytest.approx(expected)

    @pytest.mark.parametrize("n", [1, 2, 3, 4, 17, 100, 12345])
    def test_grassberger_of_one_cell(self, n):
        psi = scipy.special.digamma
        g = psi(n) + (-1) ** n / 2 * (psi((n + 1) / 2) - psi(n / 2))
        assert of(corrections.grassberger, [n]) == pytest.approx(math.log(n) - g, abs=1e-12)

    def test_chao_shen_of_single_values_only(self):
        assert of(corrections.chao_shen, [1, 1, 1]) == math.inf
        assert of(corrections.chao_shen, [1]) == math.inf
        values = corrections.chao_shen(table([1, 1, 0], [3, 0, 1], [0, 4, 0])).tolist()
        assert values == [math.inf, pytest.approx(chao_shen([3, 1])), 0.0]

    @pytest.mark.parametrize("name", corrections.OF_ENTROPY)
    def test_with_many_data_they_are_the_plug_in_entropy(self, name):
        counts = [10**9, 3 * 10**9, 5 * 10**8 + 1]
        value = of(corrections.OF_ENTROPY[name], counts)
        assert value == pytest.approx(scipy.stats.entropy(counts), abs=1e-8)

    @given(st.lists(rows, min_size=2, max_size=5))
    def test_rows_do_not_see_each_other(self, counts):
        together = table(*counts)
        weight = corrections.james_stein(together)
        entropies = {name: f(together) for name, f in corrections.OF_ENTROPY.items()}
        plain = corrections.entropy(together, weight)
        for i, row in enumerate(counts):
            alone = table(row)
            assert weight[i].item() == pytest.approx(corrections.james_stein(alone).item())
            expected = corrections.entropy(alone, weight[i : i + 1]).item()
            assert plain[i].item() == pytest.approx(expected)
            for name, f in corrections.OF_ENTROPY.items():
                assert entropies[name][i].item() == pytest.approx(f(alone).item())


class TestShrinkage:
    @given(rows)
    def test_james_stein_equals_the_slow_version(self, counts):
        one = table(counts)
        weight = corrections.james_stein(one)
        p = corrections.probabilities(one, weight)[0]
        assert p.tolist() == pytest.approx(shrunk(counts))
        assert corrections.entropy(one, weight).item() == pytest.approx(
            textbook.entropy(shrunk(counts))
        )

    @pytest.mark.parametrize("counts", [[4, 2, 3, 2, 4, 2, 1, 1], [1, 1, 1, 9], [5], [2, 30]])
    def test_james_stein_equals_another_library(self, counts):
        # Its alphabet is what it observes, so every cell must be occupied.
        infomeasure = pytest.importorskip("infomeasure")
        one = table(counts)
        value = corrections.entropy(one, corrections.james_stein(one)).item()
        expected = infomeasure.entropy(sample(counts), approach="shrink", base="e")
        assert value == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("counts", "weight"),
        [
            ([9, 1], 0.0625),
            ([3, 1], 1.0),  # just 1 before it is capped
            ([5, 4], 1.0),  # capped
            ([4, 4], 1.0),  # nowhere to go
            ([1, 0], 1.0),  # nothing known
            ([7, 0], 0.0),
            ([7], 1.0),
        ],
    )
    def test_james_stein_by_hand(self, counts, weight):
        assert of(corrections.james_stein, counts) == pytest.approx(weight)

    @given(rows, st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    def test_a_pseudo_count_is_a_weight(self, counts, pseudocount):
        one = table(counts)
        weight = corrections.pseudocount(one, pseudocount)
        expected = textbook.probabilities(counts, pseudocount)
        assert corrections.probabilities(one, weight)[0].tolist() == pytest.approx(expected)
        assert corrections.entropy(one, weight).item() == pytest.approx(textbook.entropy(expected))

    @given(rows, st.floats(0, 1))
    def test_empty_cells_need_not_be_listed(self, counts, weight):
        whole, weight = table(counts), torch.full((1, 1), weight, dtype=torch.float64)
        listed = table([n for n in counts if n], cells=[len(counts)])
        assert corrections.entropy(listed, weight).item() == pytest.approx(
            corrections.entropy(whole, weight).item()
        )
        assert of(corrections.james_stein, counts) == pytest.approx(
            corrections.james_stein(listed).item()
        )

    def test_padding_has_no_probability(self):
        two = table([1, 2, 3], [5])
        p = corrections.probabilities(two, corrections.pseudocount(two, 1))
        assert p.tolist() == [pytest.approx([2 / 9, 3 / 9, 4 / 9]), [1.0, 0.0, 0.0]]


class TestBias:
    """Means over 2,000 samples of 40 from 32 symbols; a standard error is below 0.005."""

    def tables(self, p):
        p = torch.as_tensor(p).expand(2000, -1)
        drawn = torch.multinomial(p, 40, replacement=True).T
        return tally([drawn], torch.full((2000, 1), 32, dtype=torch.float64))

    @pytest.mark.parametrize("name", corrections.OF_ENTROPY)
    @pytest.mark.parametrize("decay", [1.0, 0.9])
    def test_each_reduces_it(self, name, decay):
        p = decay ** np.arange(32)
        tables = self.tables(p)
        truth = scipy.stats.entropy(p)
        plug_in = corrections.entropy(tables, torch.zeros(2000, 1, dtype=torch.float64))
        bias = plug_in.mean().item() - truth
        assert bias < -0.2
        corrected = corrections.OF_ENTROPY[name](tables).mean().item() - truth
        assert abs(corrected) < abs(bias) / 2

    def test_james_stein_reduces_it_most_where_all_is_uniform(self):
        tables = self.tables(np.ones(32))
        shrunk = corrections.entropy(tables, corrections.james_stein(tables)).mean().item()
        assert shrunk == pytest.approx(math.log(32), abs=0.1)


places = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(-1, 4), min_size=n, max_size=n), max_size=20)
)


class TestTallies:
    @given(places.filter(len), st.integers(1, 30))
    def test_counts(self, columns, block):
        x = torch.tensor(columns, dtype=torch.int32).T
        cells = torch.full((x.shape[1], 1), 5, dtype=torch.float64)
        expected = [[Counter(column)[i] for i in range(5)] for column in columns]
        assert tally(x.split(block), cells).counts.tolist() == expected

    @given(places.filter(len), st.integers(1, 30), st.randoms())
    def test_pairs(self, columns, block, random):
        others = [random.sample(column, len(column)) for column in columns]
        x, y = (torch.tensor(z, dtype=torch.int32).T for z in (columns, others))
        x_cells = torch.full((len(columns), 1), 5, dtype=torch.float64)
        y_cells = x_cells + torch.arange(len(columns)).unsqueeze(1) % 3
        blocks = list(zip(x.split(block), y.split(block), strict=True))
        dense = joint_tally(blocks, x_cells, y_cells, dense=True)
        listed = joint_tally([(x, y)], x_cells, y_cells, dense=False)
        for i, (a, b) in enumerate(zip(columns, others, strict=True)):
            both = [(s, t) for s, t in zip(a, b, strict=True) if s >= 0 and t >= 0]
            width = int(y_cells[i])
            pairs = [Counter(both)[s, t] for s in range(5) for t in range(width)]
            of_x = [Counter(s for s, _ in both)[s] for s in range(5)]
            of_y = [Counter(t for _, t in both)[t] for t in range(width)]
            for tables in (dense, listed):
                assert tables[0].counts[i].tolist() == of_x
                assert tables[1].counts[i].tolist()[:width] == of_y
                assert tables[2].cells[i].item() == 5 * width
            assert dense[2].counts[i].tolist()[: 5 * width] == pairs
            found = listed[2].counts[i]
            assert found[found > 0].tolist() == [n for n in pairs if n]

    def test_on_a_device(self, device):
        x, y = torch.randint(-1, 6, (2, 50, 3))
        cells = torch.full((3, 1), 6, dtype=torch.float64)
        for dense in (True, False):
            expected = joint_tally([(x, y)], cells, cells, dense)
            there = (z.to(device) for z in (x, y))
            found = joint_tally([tuple(there)], cells.to(device), cells.to(device), dense)
            for a, b in zip(expected, found, strict=True):
                assert b.counts.device.type == device
                assert torch.equal(a.counts, b.counts.cpu())
