"""The grid and the counts from one compiled step are those of the single steps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import infoprobe as ip
from infoprobe.estimators.histogram import compiled
from infoprobe.estimators.histogram.at_once import dyadic_counts
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.counts import GroupedCounts
from infoprobe.estimators.histogram.tabulation import counts_of, counts_of_blocks

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def _kernels(monkeypatch):
    monkeypatch.setattr(compiled, "_ENOUGH", 0)


def by_steps(function, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_loaded", lambda: None)
        return function(*arguments)


def binning(bins):
    return Binning(bins, "dyadic", "values", "raise")


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(
    st.lists(FLOATS, min_size=1, max_size=30),
    st.integers(2, 300),
    st.integers(-60, 60),
    st.integers(1, 5),
)
def test_any_values(given_values, bins, exponent, copies):
    scaled = torch.tensor(given_values, dtype=torch.float64) * 2.0**exponent
    near = scaled.to(torch.float32)
    x = torch.cat([near, near.nextafter(torch.tensor(0.0))] * copies)
    x = x[x.isfinite()]
    if not len(x):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_ENOUGH", 0)
        found = dyadic_counts(x, bins)
    expected = by_steps(counts_of, binning(bins), x, "x")
    if found is None:
        assert not expected.grid._exact_in_float32()
    else:
        assert found.grid == expected.grid
        assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 300.0, 1e6, 1e30])
@pytest.mark.parametrize("offset", [0.0, 3.0, -1e4])
@pytest.mark.parametrize("bins", [2, 3, 256, 1000, 1 << 14])
def test_scales_and_offsets(scale, offset, bins):
    generator = torch.Generator().manual_seed(0)
    x = ((torch.randn(9001, generator=generator) + offset) * scale).relu_()
    x[0] = -scale
    found = dyadic_counts(x, bins)
    expected = by_steps(counts_of, binning(bins), x, "x")
    assert (found is not None) == expected.grid._exact_in_float32()
    if found is not None:
        assert found.grid == expected.grid
        assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("blocks", [2, 5, 12, 13])
def test_blocks(blocks):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(13, 7, 41, generator=generator)
    found = dyadic_counts(x, 100, blocks)
    expected = by_steps(counts_of_blocks, binning(100), x, "x", blocks)
    assert isinstance(found, GroupedCounts)
    assert found.grid == expected.grid
    assert torch.equal(found.groups, expected.groups)
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize(
    "layout", ["channels_last", "transposed", "strided", "negative", "scalar"]
)
@pytest.mark.parametrize("blocks", [1, 3])
def test_memory_layouts(layout, blocks):
    x = torch.randn(6, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    same = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(0, 3),
        "strided": torch.stack([x, x + 9], -1)[..., 0],
        "negative": torch.complex(x, -x).conj().imag,
        "scalar": x[0, 0, 0, 0],
    }[layout]
    if layout == "scalar" and blocks > 1:
        return  # one block for each sample at most
    count = (counts_of, "x") if blocks == 1 else (counts_of_blocks, "x", blocks)
    fast = count[0](binning(50), same, *count[1:])
    slow = by_steps(count[0], binning(50), same, *count[1:])
    assert fast.grid == slow.grid
    assert torch.equal(fast.values, slow.values)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_told_step_by_step(bad):
    x = torch.tensor([1.0, bad, 2.0])
    assert dyadic_counts(x, 10) is None
    with pytest.raises(ValueError, match="expected finite values"):
        counts_of(binning(10), x, "x")


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(3, dtype=torch.int32),
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
        torch.zeros(0),
        torch.nn.Parameter(torch.zeros(3)),
        [0.0],
    ],
    ids=["float64", "int32", "meta", "sparse", "empty", "subclass", "list"],
)
def test_all_else_is_counted_step_by_step(x):
    assert dyadic_counts(x, 10) is None


def test_what_has_no_samples_or_no_values():
    assert dyadic_counts(torch.tensor(3.0), 8) is None
    with pytest.raises(TypeError, match="expected a tensor with values"):
        torch.func.vmap(lambda x: ip.entropy(x, ip.Histogram()))(torch.rand(3, 20, 2))


def test_outputs_of_a_single_number():
    class Total(torch.nn.Module):
        def forward(self, x):
            return x.sum()

    model = Total()
    with ip.probe(model, measures=ip.Entropy()) as probe:
        for x in torch.rand(4, 50, 6):
            model(x)
    (row,) = probe.report().rows
    assert row["value"] is not None
    assert row["n"] == 4
