"""Counts of one call, and their sums, compared with numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import infoprobe as ip
from infoprobe.estimators.histogram.counts import Counts, count
from infoprobe.estimators.histogram.grids import DyadicGrid, UniformGrid
from tests.probing.helpers import save_and_load

BLOCK = 1 << 17


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
    @settings(max_examples=40)
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
