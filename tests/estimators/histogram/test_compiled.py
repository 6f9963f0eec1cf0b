"""Compiled kernels and torch count alike, to the last count."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip
from infoprobe.estimators.histogram import compiled
from infoprobe.estimators.histogram.counts import count, count_groups
from infoprobe.estimators.histogram.grids import DyadicGrid, UniformGrid

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
NARROW_INTEGERS = [torch.uint8, torch.int8, torch.int16]


@pytest.fixture
def kernels(monkeypatch):
    """Kernels are used from the first value on."""
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "_ENOUGH", 0)
    monkeypatch.setattr(compiled, "FEWEST", 1)


def by_torch(function, *arguments):
    """What a function returns without numba."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_loaded", lambda: None)
        return function(*arguments)


def values(dtype, n=5000, seed=0):
    """Values with atoms, small and large ones, some of them on edges."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    x[::3] = (8 * x[::3]).round() / 8
    x[1::7] = 0
    x[2::11] *= 1e-3
    return (20 * x).to(dtype) if dtype in NARROW_INTEGERS else x.to(dtype)


def grids(x):
    low, high = float(x.double().min()), float(x.double().max())
    for bins in (2, 10, 256, 1000):
        yield DyadicGrid.spanning(low, high, bins)
        yield UniformGrid(low, high, bins)
        yield UniformGrid(low - 0.1, high + 0.25, bins)
        yield UniformGrid(low - 1e6, high, bins)
    yield DyadicGrid.spanning(low, 1e30, 256)
    yield DyadicGrid.spanning(low, 1.7e308, 256)
    yield UniformGrid(low, low, 7) if low == high else UniformGrid(low, high, 1)


@pytest.mark.parametrize("dtype", DTYPES + NARROW_INTEGERS, ids=str)
@pytest.mark.parametrize("n", [5000, 200_000])
def test_counts_are_equal(kernels, dtype, n):
    x = values(dtype, n)
    for grid in grids(x):
        fast, slow = count(x, grid), by_torch(count, x, grid)
        assert fast.values.dtype == slow.values.dtype == torch.int64
        assert torch.equal(fast.values, slow.values), grid


@pytest.mark.parametrize("dtype", DTYPES + NARROW_INTEGERS, ids=str)
@pytest.mark.parametrize("width", [(), (1,), (3,), (8, 5)], ids=str)
@pytest.mark.parametrize("labels", ["blocks", "random"])
def test_counts_of_groups_are_equal(kernels, dtype, width, labels, monkeypatch):
    n = 600
    monkeypatch.setattr(compiled, "_PART", 1000)
    x = values(dtype, n * int(np.prod(width))).view(n, *width)
    groups = torch.arange(n) * 5 // n
    if labels == "random":
        groups = groups[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    for grid in grids(x):
        fast, slow = count_groups(x, grid, groups, 6), by_torch(count_groups, x, grid, groups, 6)
        assert fast.groups.shape == (6, grid.size)
        assert torch.equal(fast.groups, slow.groups), grid
        assert torch.equal(fast.values, count(x, grid).values)


@given(
    st.integers(1, 300),
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e9),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_values_on_edges_and_beside_them_equal_numpy(bins, low, span, dtype):
    high = low + span
    edges = np.linspace(low, high, bins + 1)
    near = torch.from_numpy(edges).to(dtype)
    down, up = torch.tensor([-torch.inf, torch.inf], dtype=dtype).unbind()
    x = torch.cat([near, near.nextafter(down), near.nextafter(up)])
    x = x[(x.double() >= low) & (x.double() <= high)]
    if not len(x):
        return
    expected, _ = np.histogram(x.double().numpy(), bins, (low, high))
    grid = UniformGrid(low, high, bins)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_ENOUGH", 0)
        patch.setattr(compiled, "FEWEST", 1)
        assert count(x, grid).values.tolist() == expected.tolist()
    assert by_torch(count, x, grid).values.tolist() == expected.tolist()


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "strided", "negative"])
def test_memory_layout_does_not_matter(kernels, layout):
    x = values(torch.float32, 720).view(6, 5, 4, 6)
    same = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(0, 3),
        "strided": torch.stack([x, x + 9], -1)[..., 0],
        "negative": torch.complex(x, -x).conj().imag,
    }[layout]
    grid = UniformGrid(-9.0, 9.0, 50)
    assert torch.equal(count(same, grid).values, by_torch(count, same, grid).values)
    groups = torch.arange(len(same)) % 3
    fast, slow = (f(count_groups, same, grid, groups, 3) for f in (_plainly, by_torch))
    assert torch.equal(fast.groups, slow.groups)


def _plainly(function, *arguments):
    return function(*arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_extent_is_that_of_torch(kernels, dtype):
    for x in (values(dtype), -values(dtype).abs() - 1, -torch.zeros(5, dtype=dtype)):
        low, high = compiled.extent(x)
        assert (low, high) == (x.min().item(), x.max().item())
        assert str(low) != "-0.0"
    for bad in (torch.nan, -torch.nan, torch.inf, -torch.inf):
        x = values(dtype)
        x[1234] = bad
        assert compiled.extent(x) is None
        with pytest.raises(ValueError, match="finite"):
            ip.entropy(x)


def test_values_outside_the_grid_do_no_harm(kernels):
    # Another thread may write to the tensor between the search for its extremes and the counting.
    x = torch.tensor([0.5, torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 7.0])
    assert count(x, UniformGrid(0.0, 1.0, 4)).total == 7
    assert count(x.half(), UniformGrid(0.0, 1.0, 4)).total == 7


def test_without_numba(monkeypatch):
    monkeypatch.setattr(compiled, "_ENOUGH", 0)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "infoprobe.estimators.histogram.kernels", raising=False)
    monkeypatch.setattr(compiled, "_loaded", compiled._loaded.__wrapped__)
    monkeypatch.delattr("infoprobe.estimators.histogram.kernels", raising=False)
    x = values(torch.float32, 10_000)
    assert compiled.tally(x, UniformGrid(-9.0, 9.0, 5)) is None
    assert compiled.extent(x) is None
    assert ip.Histogram(5, (-9.0, 9.0)).count(x).total == 10_000


def test_kernels_are_loaded_only_for_many_values(monkeypatch):
    monkeypatch.setattr(compiled, "_ENOUGH", 20_000)
    monkeypatch.setattr(compiled, "_counted", 0)
    x, grid = torch.rand(10_000), UniformGrid(0.0, 1.0, 5)
    assert compiled.tally(x, grid) is None
    assert compiled.tally(x, grid) is None
    if compiled._loaded():
        assert torch.equal(compiled.tally(x, grid)[0], count(x, grid).values)
