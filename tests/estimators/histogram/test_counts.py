import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infoprobe.estimators.histogram.counts import Counts, count, share
from infoprobe.estimators.histogram.grids import DyadicGrid, UniformGrid
from tests import textbook

FINITE32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
FINITE64 = st.floats(allow_nan=False, allow_infinity=False, width=64)
BINS = st.integers(2, 70)


def samples(elements=FINITE64, dtype=np.float64):
    return hnp.arrays(dtype, st.integers(1, 40), elements=elements)


def dyadic(x, bins):
    x = torch.tensor(x)
    return count(x, DyadicGrid.spanning(x.min().item(), x.max().item(), bins))


def assert_equal(a: Counts, b: Counts):
    assert a.grid == b.grid
    assert torch.equal(a.values, b.values)


@given(samples(), BINS)
def test_dyadic_counts_are_exact_in_float64(x, bins):
    (expected,) = textbook.dyadic_counts(x.tolist(), bins=bins)
    assert dyadic(x, bins).values.tolist() == expected


@given(samples(FINITE32, np.float32), BINS)
def test_dyadic_counts_are_exact_in_float32(x, bins):
    (expected,) = textbook.dyadic_counts(x.tolist(), bins=bins)
    assert dyadic(x, bins).values.tolist() == expected


@given(samples(FINITE32, np.float32), samples(FINITE64), BINS)
def test_a_float32_tensor_on_a_grid_shared_with_float64(x, y, bins):
    both = [*x.tolist(), *y.tolist()]
    grid = DyadicGrid.spanning(min(both), max(both), bins)
    expected = textbook.dyadic_counts(x.tolist(), y.tolist(), bins=bins)
    assert count(torch.tensor(x), grid).values.tolist() == expected[0]
    assert count(torch.tensor(y), grid).values.tolist() == expected[1]


@given(st.lists(samples(), min_size=1, max_size=6), BINS, st.randoms())
def test_batches_in_any_order_equal_one_call(batches, bins, random):
    at_once = dyadic(np.concatenate(batches), bins)
    parts = [dyadic(batch, bins) for batch in batches]
    random.shuffle(parts)
    while len(parts) > 1:  # merged pair by pair, as ranks of a cluster would
        a, b = parts.pop(), parts.pop(random.randrange(len(parts)))
        parts.insert(random.randrange(len(parts) + 1), a + b)
    assert_equal(parts[0], at_once)


@given(samples(), samples(), BINS)
def test_sharing_after_the_fact_equals_a_joint_grid(x, y, bins):
    a, b = share(dyadic(x, bins), dyadic(y, bins))
    both = np.concatenate([x, y])
    grid = DyadicGrid.spanning(both.min(), both.max(), bins)
    assert_equal(a, count(torch.tensor(x), grid))
    assert_equal(b, count(torch.tensor(y), grid))


@given(samples(), BINS)
def test_edges_enclose_the_data(x, bins):
    grid = dyadic(x, bins).grid
    assert 1 <= grid.size <= bins
    edges = grid.edges()
    assert len(edges) == grid.size + 1
    assert edges[0] <= x.min()
    assert x.max() < edges[-1]


def test_the_finest_level_holds_zeros_only():
    zeros = dyadic(np.zeros(5), 8)
    assert zeros.grid.exponent == -1022
    assert_equal(
        zeros + dyadic(np.array([0.25, 1.0]), 8), dyadic(np.array([0] * 5 + [0.25, 1]), 8)
    )


def test_zero_is_an_edge():
    counts = dyadic(np.array([-1e-300, 0.0, 1.0, 2.0]), 4)
    edges = counts.grid.edges().tolist()
    assert 0.0 in edges
    assert counts.values[edges.index(0.0) - 1] == 1


@given(
    samples(st.floats(-1e6, 1e6)),
    st.integers(1, 70),
)
def test_uniform_counts_equal_numpy(x, bins):
    low, high = x.min(), x.max()
    try:
        expected, edges = np.histogram(x, bins)
    except ValueError:  # numpy refuses bins narrower than the spacing of floats
        return
    counts = count(torch.tensor(x), UniformGrid(float(low), float(high), bins))
    if low == high:  # numpy means the middle too, but may miss it by rounding
        expected = np.bincount([bins // 2] * len(x), minlength=bins)
    else:
        assert counts.grid.edges().tolist() == edges.tolist()
    assert counts.values.tolist() == expected.tolist()


@given(st.integers(1, 70), st.integers(2, 300))
def test_values_on_uniform_edges_equal_numpy(bins, levels):
    x = np.arange(levels) / (levels - 1)
    expected, _ = np.histogram(x, bins)
    counts = count(torch.tensor(x), UniformGrid(0.0, 1.0, bins))
    assert counts.values.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "layout", ["contiguous", "channels_last", "transposed", "strided", "0-dim"]
)
def test_memory_layout_does_not_matter(layout, device):
    x = torch.randn(6, 5, 4, 3, device=device)
    same = {
        "contiguous": x,
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(0, 2),
        "strided": torch.stack([x, x + 9], -1)[..., 0],
        "0-dim": x[0, 0, 0, 0],
    }[layout]
    grid = DyadicGrid.spanning(-8, 8, 64)
    counts = count(same, grid)
    assert counts.total == same.numel()
    assert_equal(counts, count(same.contiguous(), grid))


def test_more_values_than_a_block_and_than_float32_can_count():
    # Beyond 2**24 a float32 counter stands still.
    x = torch.zeros(2**24 + 3)
    x[-1] = 1
    counts = count(x, DyadicGrid.spanning(0, 1, 2))
    assert counts.values.dtype == torch.int64
    assert counts.values.tolist() == [2**24 + 2, 1]


def test_different_uniform_grids_cannot_be_shared():
    a = count(torch.zeros(3), UniformGrid(0, 1, 4))
    b = count(torch.zeros(3), UniformGrid(0, 2, 4))
    with pytest.raises(ValueError, match="no common bins"):
        share(a, b)
