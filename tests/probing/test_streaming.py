"""Batches, probes, files and processes add up to what one call would have measured."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import infoprobe as ip
from infoprobe.estimators.histogram.counts import Counts, count
from infoprobe.estimators.histogram.grids import DyadicGrid, UniformGrid

BLOCK = 1 << 17
H = ip.Histogram(64, pseudocount=1)
STREAMING = [ip.Entropy(H), ip.Divergence(H), ip.Divergence(H, "input")]
ROWS = [
    ip.Entropy(ip.Histogram(20, "own"), samples=12),
    ip.MutualInformation(ip.Histogram(4, over="samples"), samples=7, project=2),
]


def save_and_load(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def tensors_in(state):
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from tensors_in(value)


def equal_states(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return a == b


class Mixes(nn.Module):
    """Rounds each sample alike, whatever batch it comes in."""

    def forward(self, x):
        return x + x.roll(1, 1).abs() / 3


class Turns(nn.Module):
    """Skips its second layer where the batch is large, and its third where it is small."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = Mixes(), Mixes(), Mixes()

    def forward(self, x):
        x = self.first(x)
        x = self.second(x) if float(x.abs().max()) < 1e3 else x
        return self.third(x) if float(x.abs().max()) > 1e-3 else x


def model_of():
    return nn.Sequential(Mixes(), nn.Hardtanh(), Mixes())


def data(n=100, width=3, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def probed(model, batches, measures=None, **options):
    with ip.probe(model, measures=measures, **options) as probe:
        for batch in batches:
            model(batch)
    return probe


def values_of(report):
    """The rows by what they are of, whatever their order."""
    rows = [{key: x for key, x in row.items() if key != "order"} for row in report.rows]
    return sorted(rows, key=lambda row: (row["layer"], row["measure"], str(row["reference"])))


def textbook(x, grid):
    """Counts by numpy in float64, where floor(x / 2**e) is exact."""
    x = np.asarray(x.detach().double().flatten().tolist())
    if isinstance(grid, UniformGrid):
        return np.histogram(x, grid.size, (grid.low, grid.high))[0]
    if grid.exponent > 0:
        x = np.floor(x)
    places = np.floor(np.ldexp(x, -grid.exponent)).astype(np.int64) - grid.first
    return np.bincount(places, minlength=grid.size)


def grid_of(x, bins):
    x = x.double()
    return DyadicGrid.spanning(x.min().item(), x.max().item(), bins)


class TestCount:
    """Against numpy: all sizes around lanes and blocks, and bins that fit the lanes or do not."""

    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
    @pytest.mark.parametrize("bins", [2, 3, 255, 256, 4096, 8191, 8192, 8193, 20000, 40000])
    def test_sizes_and_bins(self, n, bins):
        x = torch.randn(n)
        for grid in (grid_of(x, bins), UniformGrid(-6.0, 6.0, bins)):
            counts = count(x, grid)
            assert counts.values.dtype == torch.int64
            assert counts.values.shape == (grid.size,)
            assert np.array_equal(counts.values.numpy(), textbook(x, grid))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("offset", [0.0, 1.0, -1.0, 1e3, -1e6, 2.0**24, 1e30])
    @pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-30, 1e30])
    def test_far_from_zero_and_of_any_size(self, dtype, offset, scale):
        for bins in (2, 300, 20000):
            x = (torch.randn(500, dtype=torch.float64) + offset).mul(scale).to(dtype)
            x = x[x.isfinite()]
            if len(x):
                grid = grid_of(x, bins)
                assert np.array_equal(count(x, grid).values.numpy(), textbook(x, grid))

    @pytest.mark.parametrize("exponent", [-1074, -1022, -149, -126, -60, 0, 60, 127, 1000])
    def test_extreme_exponents(self, exponent):
        for dtype, limits in ((torch.float64, (-1074, 1000)), (torch.float32, (-149, 127))):
            if limits[0] <= exponent <= limits[1]:
                x = (torch.randint(-9, 10, (200,)) / 8).double().mul(2.0**exponent).to(dtype)
                grid = grid_of(x, 50)
                assert np.array_equal(count(x, grid).values.numpy(), textbook(x, grid))

    def test_layouts(self):
        x = torch.randn(6, 8, 10, 12)
        layouts = [
            x.permute(3, 1, 0, 2),
            x.contiguous(memory_format=torch.channels_last),
            x[::2, 1:, :, ::3],
            x[:, :, :1].expand(6, 8, 50, 12),
            x.flip(1),
            torch.as_strided(x, (4, 5), (1, 2)),  # overlapping
            x.mT,
        ]
        for each in layouts:
            for bins in (16, 20000):
                grid = grid_of(each, bins)
                assert np.array_equal(count(each, grid).values.numpy(), textbook(each, grid))

    def test_the_data_are_left_alone(self):
        for dtype in (torch.float32, torch.float64):
            for scale in (1e-9, 1, 1e9):
                x = torch.randn(100, dtype=dtype) * scale
                before = x.clone()
                count(x, grid_of(x, 64))
                count(x, UniformGrid(float(x.min()), float(x.max()), 64))
                assert torch.equal(x, before)

    @given(st.integers(1, 2000), st.integers(2, 20000), st.integers(-30, 30), st.floats(-50, 50))
    @settings(max_examples=40, deadline=None)
    def test_anything(self, n, bins, exponent, offset):
        x = (torch.randn(n, generator=torch.Generator().manual_seed(n)) + offset) * 2.0**exponent
        grid = grid_of(x, bins)
        assert np.array_equal(count(x, grid).values.numpy(), textbook(x, grid))


class TestSums:
    BATCHES = st.lists(
        st.tuples(st.integers(1, 30), st.floats(-1e4, 1e4), st.integers(-40, 40)),
        min_size=1,
        max_size=8,
    )

    @given(BATCHES, st.sampled_from([2, 5, 64, 256]), st.randoms())
    @settings(deadline=None)
    def test_dyadic_counts_grow_and_widen(self, batches, bins, random):
        h = ip.Histogram(bins)
        generator = torch.Generator().manual_seed(1)
        parts = [
            (torch.randn(n, dtype=torch.float64, generator=generator) + offset) * 2.0**exponent
            for n, offset, exponent in batches
        ]
        expected = h.count(torch.cat(parts))
        for _ in range(3):
            random.shuffle(parts)
            total = h.count(parts[0])
            for part in parts[1:]:
                if random.random() < 0.5:
                    total = Counts.from_state_dict(save_and_load(total.state_dict()))
                before = total.values.clone(), total.grid
                new = total + h.count(part)
                assert torch.equal(total.values, before[0])  # sums are new ones
                assert total.grid == before[1]
                total = new
            assert total.grid == expected.grid
            assert torch.equal(total.values, expected.values)

    @given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 64))
    def test_uniform_counts(self, sizes, bins):
        h = ip.Histogram(bins, (-1, 2), outside="clip")
        parts = [torch.randn(n) for n in sizes]
        total = sum((h.count(part) for part in parts[1:]), h.count(parts[0]))
        expected = h.count(torch.cat(parts))
        assert total.grid == expected.grid
        assert torch.equal(total.values, expected.values)
        again = Counts.from_state_dict(save_and_load(total.state_dict()))
        assert again.grid == total.grid
        assert torch.equal(again.values, total.values)

    def test_a_loaded_one_is_its_own(self):
        counts = ip.Histogram(8).count(torch.randn(50))
        state = counts.state_dict()
        again = Counts.from_state_dict(state)
        again.values.zero_()
        assert counts.total == 50


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

    @settings(max_examples=30, deadline=None)
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
        assert probed(model, batches).report().rows == at_once.report().rows

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
        bins = 64 * 8  # bytes of a histogram
        assert max(sizes) - min(sizes) < 3 * 3 * bins
        assert max(sizes) < 40_000


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
        assert row["findings"] == []

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


def checkpoint_options():
    return [
        ("counts", STREAMING, {}),
        ("rows", ROWS, {}),
        ("both, with little memory", [*STREAMING, *ROWS], {"memory": 200}),
        ("some values", STREAMING, {"values_per_batch": 20}),
    ]


class TestStateDict:
    @pytest.mark.parametrize(
        ("measures", "options"), [each[1:] for each in checkpoint_options()], ids=lambda x: ""
    )
    @pytest.mark.parametrize("after", [0, 1, 5, 10])
    def test_resuming_equals_going_on(self, measures, options, after):
        model, batches = model_of(), data().split(10)
        whole = probed(model, batches, measures, seed=3, **options)
        state = save_and_load(
            probed(model, batches[:after], measures, seed=3, **options).state_dict()
        )
        with ip.probe(model, measures=measures, seed=3, **options) as probe:
            model(data(50, seed=9))  # is forgotten
            probe.load_state_dict(state)
            for batch in batches[after:]:
                model(batch)
        assert probe.report().rows == whole.report().rows
        assert equal_states(probe.state_dict(), whole.state_dict())

    def test_layers_and_findings_come_back(self):
        model = Turns()
        batches = [data(10), data(10) * 1e6, torch.full((2, 3), math.nan), data(10) * 1e-6]
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
            for batch in batches[:2]:
                model(batch)
            with pytest.warns(RuntimeWarning):
                model(batches[2])
            model(batches[3])
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as again:
            again.load_state_dict(save_and_load(probe.state_dict()))
        assert again.report().rows == probe.report().rows
        assert any("calls left out: 1" in row["findings"][-1] for row in again.report().rows)

    def test_going_on_leaves_the_state_as_it_was(self):
        model, batches = model_of(), data().split(10)
        with ip.probe(model, measures=[*STREAMING, *ROWS]).track(every=4, passes=2) as probe:
            for batch in batches[:5]:
                model(batch)
            state = probe.state_dict()
            copy = save_and_load(state)
            for batch in batches[5:]:
                model(batch)
        assert equal_states(state, copy)

    def test_loading_leaves_the_state_as_it_was(self):
        model, batches = model_of(), data().split(10)
        state = probed(model, batches[:5], [*STREAMING, *ROWS]).state_dict()
        copy = save_and_load(state)
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
            probe.load_state_dict(state)
            for batch in batches[5:]:
                model(batch)
        assert equal_states(state, copy)

    def test_other_measures(self):
        model = model_of()
        state = probed(model, [data()], STREAMING).state_dict()
        for measures in (STREAMING[:2], STREAMING[::-1], ROWS, ip.Entropy()):
            with (
                ip.probe(model, measures=measures) as probe,
                pytest.raises(ValueError, match="state: expected the measures of this probe"),
            ):
                probe.load_state_dict(state)

    @pytest.mark.parametrize("state", [{}, None, [], {"weight": torch.ones(3)}])
    def test_no_state_at_all(self, state):
        model = model_of()
        with ip.probe(model, measures=STREAMING) as probe:
            model(data())
            before = probe.report().rows
            with pytest.raises(ValueError, match=r"state: expected what Probe\.state_dict"):
                probe.load_state_dict(state)
        assert probe.report().rows == before

    def test_the_projection_comes_with_the_rows(self):
        model, x = nn.Identity(), data(20, 30)
        measure = ip.Entropy(ip.Gaussian(), project=2)
        state = probed(model, [x], measure, seed=1).state_dict()
        with ip.probe(model, measures=measure, seed=2) as probe:
            probe.load_state_dict(state)
            model(x)
        assert probe.report().rows == probed(model, [x, x], measure, seed=1).report().rows

    def test_the_memory_of_the_probe_that_loads_holds(self):
        model, measure = nn.Identity(), ip.Entropy(ip.Gaussian())
        state = probed(model, [data(100)], measure).state_dict()
        with ip.probe(model, measures=measure, memory=120) as probe:
            probe.load_state_dict(state)
            model(data(100))
        assert probe.report().rows[0]["n"] <= 10

    def test_numpy_numbers_can_be_saved(self):
        model = model_of()
        options = {"values_per_batch": np.int64(20), "memory": np.int64(5000)}
        probe = probed(model, [data()], STREAMING, **options)
        save_and_load(probe.state_dict())

    def test_a_seed_of_numpy(self):
        probe = probed(model_of(), [data()], STREAMING, seed=np.int64(3))
        save_and_load(probe.state_dict())


class TestMerge:
    @pytest.mark.parametrize("seed", range(3))
    def test_counts_of_two_equal_those_of_one(self, seed):
        model = Turns()
        batches = [data(10, seed=i) * 10.0 ** (3 * i - 9) for i in range(7)]
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        first, second = [batches[i] for i in order[:3]], [batches[i] for i in order[3:]]
        a, b = probed(model, first, STREAMING), probed(model, second, STREAMING)
        of_b = save_and_load(b.state_dict())
        a.merge(b)
        assert a.report().rows == probed(model, first + second, STREAMING).report().rows
        assert equal_states(b.state_dict(), of_b)
        assert a.counts("first").total == 7 * 30

    def test_the_order_of_rows(self):
        model = Turns()
        a = probed(model, [data(10) * 1e6], STREAMING)  # without the second
        b = probed(model, [data(10)], STREAMING)
        with pytest.warns(UserWarning, match="gave no output: second"):
            assert [row["layer"] for row in a.report().rows[::3]] == ["first", "third"]
        a.merge(b)
        rows = a.report().rows
        assert [row["layer"] for row in rows[::3]] == ["first", "third", "second"]
        assert [row["order"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3

    def test_rows_are_as_many_as_one_probe_keeps(self):
        model = model_of()
        a = probed(model, [data(30)], ROWS, seed=1)
        b = probed(model, [data(50, seed=1)], ROWS, seed=1)
        a.merge(b)
        assert [row["n"] for row in a.report().rows] == [12, 7] * 3
        assert "from 12 of 80 samples" in a.report().rows[0]["findings"][-1]
        whole = [ip.Entropy(ip.Histogram(20, "own"))]
        a, b = probed(model, [data(30)], whole), probed(model, [data(50, seed=1)], whole)
        a.merge(b)
        expected = probed(model, [data(30), data(50, seed=1)], whole)
        assert [row["value"] for row in a.report().rows] == [
            row["value"] for row in expected.report().rows
        ]

    def test_going_on_after_a_merge(self):
        model = model_of()
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as a:
            model(data(30))
            b = ip.probe(model, measures=[*STREAMING, *ROWS])
            with a.pause():
                model(data(20, seed=1))
            b.remove()
            a.merge(b)
            model(data(25, seed=2))
        expected = probed(model, [data(30), data(20, seed=1), data(25, seed=2)], STREAMING)
        assert [row["value"] for row in a.report().rows if repr(H) == row["estimator"]] == [
            row["value"] for row in expected.report().rows
        ]
        assert {row["n"] for row in a.report().rows} == {75, 12, 7}

    def test_what_was_left_out_adds_up(self):
        model, bad = model_of(), torch.full((5, 3), math.inf)
        passes = [data(10), bad], [bad, bad, data(10, seed=1)]
        with pytest.warns(RuntimeWarning) as caught:
            a, b = (probed(model, batches, ip.Entropy(H)) for batches in passes)
        assert len(caught) == 2  # the Hardtanh makes them finite
        a.merge(b)
        rows = a.report().rows
        assert [row["n"] for row in rows] == [20, 35, 35]
        assert rows[0]["findings"][-1].startswith("calls left out: 3; in pass 2, output")
        assert rows[2]["findings"] == []

    def test_what_cannot_be_merged(self):
        model = model_of()
        a, b = probed(model, [data()], STREAMING), probed(model, [data()], ROWS)
        with pytest.raises(ValueError, match="other: expected a probe with the measures"):
            a.merge(b)
        with pytest.raises(TypeError, match="other: expected a Probe, got Report"):
            a.merge(b.report())
        other = probed(model, [data()], ROWS, seed=1)
        with pytest.raises(ValueError, match=r"projected with seed=0, got seed=1"):
            b.merge(other)

    def test_rows_of_another_shape_are_left_out(self):
        model = nn.Sequential(Mixes())
        measures = [ip.Entropy(H), ip.Entropy(ip.Histogram(20, "own"))]
        a, b = probed(model, [data(20, 3)], measures), probed(model, [data(20, 4)], measures)
        before = a.report().rows
        a.merge(b)
        counts, rows = a.report().rows
        assert (
            counts["value"]
            == H.entropy(torch.cat([model(data(20, w)).flatten() for w in (3, 4)])).item()
        )
        assert rows["value"] == before[1]["value"]
        assert any("expected rows of shape (3,), got (4,)" in found for found in rows["findings"])

    def test_a_probe_and_itself(self):
        model = model_of()
        a = probed(model, [data(20)], ip.Entropy(ip.Histogram(20, "own"), samples=10))
        try:
            a.merge(a)
        except ValueError:
            return  # as good
        assert a.report().rows[0]["n"] == 10

    def test_other_seeds_choose_other_samples(self):
        model, given_ = nn.Identity(), []

        class Spy:
            def entropy(self, x):
                given_.append(x)
                return 0.0

        measure = ip.Entropy(Spy(), samples=20)
        x = torch.arange(1000.0)[:, None]
        a = probed(model, [x], measure, seed=1)
        b = probed(model, [x + 1000], measure, seed=2)
        a.merge(b)
        a.report()
        (rows,) = given_
        assert len((rows % 1000).unique()) > 15


# With other processes. Each runs this file: all scenarios, one after the other.


class OnOneRank(nn.Module):
    """Calls its second layer only for batches whose first value is negative."""

    def __init__(self):
        super().__init__()
        self.first, self.sometimes = Mixes(), Mixes()

    def forward(self, x):
        y = self.first(x)
        return self.sometimes(y) if float(x[0, 0]) < 0 else y


class Keeps:
    """An estimator that remembers the rows it was given; the same in all processes."""

    def __init__(self):
        self.given = []

    def __repr__(self):
        return "Keeps()"

    def mutual_information(self, x, y):
        assert torch.equal(x, y)
        self.given.append(y)
        return float(y.sum())


def share_of(part, rank, world):
    """This rank's batches of a part of the data."""
    batches = data(240, seed=part).split(10)
    each = len(batches) // world
    return batches[rank * each : (rank + 1) * each]


def negative_on_the_last(rank, world):
    x = data(30, seed=rank)
    x[:, 0] = x[:, 0].abs() * (-1 if rank == world - 1 else 1)
    return x


def counts_scenario(rank, world, folder):
    with ip.probe(model := model_of(), measures=STREAMING) as probe:
        for part in range(3):
            for batch in share_of(part, rank, world):
                model(batch)
            before = save_and_load(probe.state_dict())
            probe.sync()
            assert equal_states(before, probe.state_dict())
            rows = probe.report().rows
            probe.sync()
            assert probe.report().rows == rows
            assert probe.counts("0").total == 720 * (part + 1)
            probe.report().save(folder / f"counts-{part}-{rank}.json")
        for batch in share_of(3, rank, world):
            model(batch)
        # The others' passes are those of the last sync.
        assert probe.report().rows[0]["n"] == 3 * 240 + 240 // world
        probe.reset()
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []


def layers_scenario(rank, world, folder):
    with ip.probe(model := OnOneRank(), measures=STREAMING) as probe:
        model(negative_on_the_last(rank, world))
        probe.sync()
    probe.report().save(folder / f"layers-{rank}.json")


def nothing_scenario(rank, world, folder):
    with ip.probe(model := model_of(), measures=STREAMING) as probe:
        if rank == 0:
            model(data(50))
        probe.sync()
    probe.report().save(folder / f"nothing-{rank}.json")


def rows_scenario(rank, world, folder):
    keeps = Keeps()
    with ip.probe(model := nn.Identity(), measures=ip.MutualInformation(keeps, samples=40)) as p:
        for batch in torch.arange(1000.0 * rank, 1000.0 * rank + 500)[:, None].split(50):
            model(batch)
        p.sync()
        first = p.report().rows
        p.sync()
        assert p.report().rows == first
    torch.save(keeps.given[0], folder / f"rows-{rank}.pt")
    p.report().save(folder / f"rows-{rank}.json")


def few_rows_scenario(rank, world, folder):
    measures = [
        ip.Entropy(ip.Histogram(20, "own", pseudocount=1)),
        ip.MutualInformation(ip.Histogram(3, over="samples"), "target"),
    ]
    with ip.probe(model := model_of(), measures=measures) as probe:
        for batch in share_of(0, rank, world):
            probe.target((batch[:, 0] > 0).long())
            model(batch)
        probe.sync()
    probe.report().save(folder / f"few-rows-{rank}.json")


def steps_scenario(rank, world, folder):
    with ip.probe(model := nn.Identity(), measures=ip.Entropy(H)).track(5, passes=3) as probe:
        for i in range(7):
            model(data(10, seed=10 * i + rank))
        probe.sync()
        probe.report().save(folder / f"steps-{rank}.json")
        for i in range(7, 9):
            model(data(10, seed=10 * i + rank))
        probe.report().save(folder / f"later-steps-{rank}.json")


def shapes_scenario(rank, world, folder):
    with ip.probe(model := nn.Identity(), measures=[ip.Entropy(H), ROWS[0]]) as probe:
        model(data(20, 3 + rank))
        probe.sync()
    try:
        probe.report().save(folder / f"shapes-{rank}.json")
    except ValueError as error:
        (folder / f"shapes-{rank}.txt").write_text(str(error))


def trained(rank, measured):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = ip.probe(model, measures=[*STREAMING, *ROWS]) if measured else None
    for step in range(4):
        loss = model(data(20, seed=2 * step + rank)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if probe is not None and step % 2:
            probe.sync()
    return model.state_dict(), probe


def training_scenario(rank, world, folder):
    weights, probe = trained(rank, True)
    unprobed, _ = trained(rank, False)
    assert equal_states(dict(weights), dict(unprobed))
    torch.save(probe.state_dict(), folder / f"training-{rank}.pt")
    probe.report().save(folder / f"training-{rank}.json")


def work(rank, world, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    try:
        for name, scenario in list(globals().items()):
            if name.endswith("_scenario"):
                scenario(rank, world, folder)
    finally:
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4], ids=["2 processes", "4 processes"])
def ranks(request, tmp_path_factory):
    """How many processes there were, and where they have left their reports."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    if not torch.distributed.is_available():
        pytest.skip("needs torch.distributed")
    here = str(Path(ip.__file__).parents[1])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(world), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [worker.communicate(timeout=60)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * world, "\n".join(said)
    return world, folder


def reports(ranks, name):
    world, folder = ranks
    return [ip.Report.load(folder / f"{name}-{rank}.json").rows for rank in range(world)]


class TestSync:
    def test_counts_are_those_of_one_process(self, ranks):
        model, batches = model_of(), []
        for part in range(3):
            batches.append(data(240, seed=part))
            expected = probed(model, batches, STREAMING).report().rows
            assert all(rows == expected for rows in reports(ranks, f"counts-{part}"))

    def test_a_layer_that_one_process_calls(self, ranks):
        world, _ = ranks
        batches = [negative_on_the_last(rank, world) for rank in range(world)]
        expected = probed(OnOneRank(), batches, STREAMING).report().rows
        assert {row["n"] for row in expected} == {30 * world, 30}
        assert all(rows == expected for rows in reports(ranks, "layers"))

    def test_a_process_without_data(self, ranks):
        expected = probed(model_of(), [data(50)], STREAMING).report().rows
        assert all(rows == expected for rows in reports(ranks, "nothing"))

    def test_rows_come_from_all_processes(self, ranks):
        world, folder = ranks
        kept = [torch.load(folder / f"rows-{rank}.pt").squeeze(1) for rank in range(world)]
        assert all(torch.equal(rows, kept[0]) for rows in kept)
        assert len(kept[0].unique()) == 40
        assert bool((kept[0] % 1000 < 500).all())
        of_rank = torch.bincount((kept[0] / 1000).long(), minlength=world)
        assert int(of_rank.min()) >= 2
        rows = reports(ranks, "rows")
        assert all(row == rows[0] for row in rows)
        ((row,), *_) = rows
        assert row["n"] == 40
        assert f"from 40 of {500 * world:,} samples, drawn at random" in row["findings"][0]

    def test_processes_choose_for_themselves(self, ranks):
        _, folder = ranks
        kept = torch.load(folder / "rows-0.pt").squeeze(1)
        assert len((kept % 1000).unique()) > 30

    def test_few_rows_are_all_there(self, ranks):
        x = data(240, seed=0)
        estimators = ip.Histogram(20, "own", pseudocount=1), ip.Histogram(3, over="samples")
        y, expected = x, []
        for layer in model_of():
            y = layer(y)
            expected.append(float(estimators[0].entropy(y)))
            expected.append(float(estimators[1].mutual_information((x[:, 0] > 0).long(), y)))
        for rows in reports(ranks, "few-rows"):
            assert [row["value"] for row in rows] == pytest.approx(expected, abs=1e-12)
            assert {row["n"] for row in rows} == {240}

    def test_windows_that_are_over_are_of_each_process(self, ranks):
        for rank, rows in enumerate(reports(ranks, "steps")):
            x = torch.cat([data(10, seed=10 * i + rank) for i in range(3)])
            assert (rows[0]["step"], rows[0]["n"]) == (0, 30)
            assert rows[0]["value"] == H.entropy(x).item()

    def test_windows_that_are_open(self, ranks):
        for rows in reports(ranks, "steps"):
            assert [row["step"] for row in rows] == [0, 5]

    def test_windows_after_a_sync(self, ranks):
        for rank, rows in enumerate(reports(ranks, "later-steps")):
            assert [row["step"] for row in rows] == [0, 5]
            x = torch.cat([data(10, seed=10 * i + rank) for i in range(5, 8)])
            assert rows[1]["value"] == H.entropy(x).item()

    def test_shapes_that_differ(self, ranks):
        world, _ = ranks
        for counts, rows in reports(ranks, "shapes"):
            assert counts["n"] == 20 * world
            assert any("expected rows of shape" in found for found in rows["findings"])

    def test_data_parallel_training(self, ranks):
        world, folder = ranks
        states = [torch.load(folder / f"training-{rank}.pt") for rank in range(world)]
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        probes = []
        for state in states:
            with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
                probe.load_state_dict(state)
            probes.append(probe)
        for other in probes[1:]:
            probes[0].merge(other)
        expected = probes[0].report().rows
        assert {row["layer"] for row in expected} == {"0", "1", "2", "3"}
        assert {row["n"] for row in expected} == {4 * 20 * world, 12, 7}
        assert all(rows == expected for rows in reports(ranks, "training"))

    def test_without_other_processes(self):
        probe = probed(model_of(), [data()], STREAMING)
        with pytest.raises(RuntimeError, match=r"expected an initialised torch\.distributed"):
            probe.sync()


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
