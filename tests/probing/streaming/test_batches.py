"""Batches add up to what one call would have measured."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip
from tests.probing.helpers import but_errors, probed, tensors_in
from tests.probing.streaming.helpers import ROWS, STREAMING, Turns, data, model_of


def values_of(report):
    """The rows by what they are of, whatever their order."""
    rows = [{key: x for key, x in row.items() if key != "order"} for row in but_errors(report)]
    return sorted(rows, key=lambda row: (row["layer"], row["measure"], str(row["reference"])))


class TestBatches:
    def test_very_different_passes_in_any_order(self):
        model = Turns()
        scales = [1.0, 1e-8, 1e8, 5.0, -1e4, 1e-8, 2e20, 0.1]
        batches = [data(10, seed=i) * scale + scale for i, scale in enumerate(scales)]
        expected = values_of(probed(model, batches, STREAMING).report())
        counted = {row["layer"]: row["n"] for row in expected}
        assert counted["first"] == 80
        assert 0 < counted["second"] < 80
        assert 0 < counted["third"] < 80
        for seed in range(4):
            order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
            again = probed(model, [batches[i] for i in order], STREAMING)
            assert values_of(again.report()) == expected
        small = [part for batch in batches for part in batch.split(3)]
        # Which layers are skipped depends on the batch: of those that never are, all is equal.
        again = values_of(probed(model, small, STREAMING).report())
        assert [row for row in again if row["layer"] == "first"] == [
            row for row in expected if row["layer"] == "first"
        ]

    @settings(max_examples=30)
    @given(
        st.lists(
            st.tuples(st.integers(1, 20), st.integers(-30, 30), st.floats(-1e3, 1e3)),
            min_size=1,
            max_size=6,
        ),
        st.randoms(),
    )
    def test_one_call_equals_many(self, parts, random):
        model = model_of()
        batches = [
            (data(n, seed=i) + offset) * 2.0**exponent
            for i, (n, exponent, offset) in enumerate(parts)
        ]
        at_once = probed(model, [torch.cat(batches)])
        random.shuffle(batches)
        assert but_errors(probed(model, batches).report()) == but_errors(at_once.report())

    def test_memory_is_constant(self):
        model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
        measures = [*STREAMING, *ROWS, ip.Entropy(ip.KNN(), samples=50)]
        sizes = []
        with ip.probe(model, measures=measures) as probe, torch.no_grad():
            for i in range(1000):
                model(torch.randn(4, 5) * (1 + i))
                if i % 100 == 99:
                    state = probe.state_dict()
                    sizes.append(sum(x.numel() * x.element_size() for x in tensors_in(state)))
        bins = 64 * 8 * 32  # bytes of the histograms of all groups
        assert max(sizes) - min(sizes) < 3 * 3 * bins
        assert max(sizes) < 40_000 + 3 * 3 * bins


class TestValuesPerBatch:
    H = ip.Histogram(32, (-1, 32), outside="clip")

    @staticmethod
    def counted(x, values, seed, passes=1, histogram=H):
        model = nn.Identity()
        probe = probed(
            model, [x] * passes, ip.Entropy(histogram), values_per_batch=values, seed=seed
        )
        return probe.counts("(model)").values, probe.report().rows[0]

    @pytest.mark.parametrize("shape", [(37,), (101, 3), (96, 4), (10, 3, 8, 5), (2, 4096)])
    @pytest.mark.parametrize("layout", ["dense", "transposed", "strided"])
    def test_every_value_is_equally_likely(self, shape, layout):
        n = math.prod(shape)
        x = torch.arange(n, dtype=torch.float32).reshape(shape)
        if layout == "transposed":
            x = x.transpose(0, -1)
        elif layout == "strided":
            x = torch.stack([x, x], -1)[..., 0]
        h = ip.Histogram(n, (-0.5, n - 0.5))
        values, passes = n // 5, 150
        counts, row = self.counted(x, values, 3, passes, h)
        mean = counts.double() / passes
        share = float(mean.mean())
        # About as many as were asked for, in whole chunks of up to 64 neighbours.
        assert abs(share * n - values) <= 64
        # Each value is drawn at most twice a pass, and on average as often as any other.
        assert float((mean - share).abs().max()) < 6 * (share / passes) ** 0.5
        assert row["n"] == len(x) * passes
        assert f"from {int(counts.sum()):,} of {n * passes:,} values, drawn" in row["findings"][0]

    def test_many_seeds_average_to_all(self):
        torch.manual_seed(0)
        x = torch.randn(30, 33).mul(5).add(10)
        total = torch.zeros(32, dtype=torch.float64)
        for seed in range(300):
            total += self.counted(x, 100, seed)[0]
        expected = self.H.count(x).values.double() * 300 * 100 / x.numel()
        assert float(total.sum()) == pytest.approx(300 * 100, rel=0.02)
        assert bool(((total - expected).abs() < 5 * (expected + 1).sqrt()).all())

    @pytest.mark.parametrize("n", [1, 7, 63, 64, 100])
    def test_small_tensors_are_counted_in_full(self, n):
        x = torch.randn(n)
        counts, row = self.counted(x, 100, 0)
        assert torch.equal(counts, self.H.count(x).values)
        assert not any("drawn" in finding for finding in row["findings"])

    @pytest.mark.parametrize("n", [65, 127, 128, 1000, 1001, 6400])
    @pytest.mark.parametrize("values", [1, 50, 64, 65])
    def test_how_many_are_counted(self, n, values):
        counts, _ = self.counted(torch.randn(n), values, 0)
        chunk = min(64, n & -n)
        assert int(counts.sum()) % chunk == 0
        assert abs(int(counts.sum()) - values) <= max(chunk - 1, 1)

    def test_seeds_and_generators(self):
        x = torch.randn(1000)
        torch.manual_seed(8)
        before = torch.get_rng_state()
        counts = [self.counted(x, 100, seed, 3)[0] for seed in (1, 1, 2)]
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(counts[0], counts[1])
        assert not torch.equal(counts[0], counts[2])

    def test_passes_draw_anew(self):
        x = torch.arange(1000.0)
        h = ip.Histogram(1000, (-0.5, 999.5))
        counts, _ = self.counted(x, 100, 0, 20, h)
        assert int((counts > 0).sum()) > 500
