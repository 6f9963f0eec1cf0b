"""Counts that stay on a device are those that the CPU finds: here both are found on the CPU."""

import functools
import math
import operator

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.histogram.unread import UnreadCounts

DTYPES = [
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    *(torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool),
]
SCALES = [0.0, 1e-310, 1e-38, 1e-3, 1.0, 77.0, 1e5, 1e30, 1e300]


def read(counts):
    return counts.counts(*counts.tensors)


def assert_same(found, expected):
    assert found.grid == expected.grid
    assert torch.equal(found.values, expected.values)


def random_values(generator, dtype):
    """Values of a random scale and place, in some shape."""
    shape = [int(n) for n in torch.randint(1, 9, (3,), generator=generator)]
    scale, place = (
        SCALES[int(torch.randint(len(SCALES), (), generator=generator))] for _ in range(2)
    )
    if not dtype.is_floating_point:
        scale, place = min(scale, 1e5), min(place, 1e5)
    elif dtype is torch.float16:
        scale, place = min(scale, 77.0), min(place, 77.0)
    elif dtype is not torch.float64:
        scale, place = min(scale, 1e30), min(place, 1e30)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * scale + place
    if torch.rand((), generator=generator) < 0.3:
        x = x.clamp(min=0)
    if not dtype.is_floating_point and dtype is not torch.bool:
        info = torch.iinfo(dtype)
        x = x.clamp(max(info.min, -1e15), min(info.max, 1e15))
    return x.to(dtype)


@pytest.mark.parametrize("bins", [2, 3, 256, 1000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dyadic_counts_are_equal_however_they_are_split(dtype, bins):
    h = ip.Histogram(bins=bins)
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        parts = [random_values(generator, dtype) for _ in range(3)]
        unread = [h.count_unread([x], 1).blocks[0] for x in parts]
        for x, found in zip(parts, unread, strict=True):
            assert_same(read(found), h.count(x))
        order = torch.randperm(3, generator=generator).tolist()
        total = functools.reduce(operator.add, [unread[i] for i in order])
        assert_same(read(total), functools.reduce(operator.add, map(h.count, parts)))
        together = h.count_unread(parts, 1).blocks[0]
        assert_same(read(together), read(total))


@pytest.mark.parametrize("blocks", [2, 5])
def test_blocks_are_counted_apart(blocks):
    h, x = ip.Histogram(), torch.randn(23, 4, 3)
    found = h.count_unread([x], blocks).blocks
    expected = h.count_blocks(x, blocks)
    for block, part in zip(found, expected.parts, strict=True):
        assert_same(read(block), part)


@pytest.mark.parametrize("outside", ["clip", "drop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.1, 0.7), (-3.0, 1e6)])
def test_counts_in_a_range(outside, dtype, low, high):
    h = ip.Histogram(bins=77, range=(low, high), outside=outside)
    edges = torch.linspace(low, high, 78, dtype=torch.float64)
    x = torch.cat([edges, torch.randn(500, dtype=torch.float64) * high]).to(dtype)
    assert_same(read(h.count_unread([x], 1).blocks[0]), h.count(x))


def test_extreme_values():
    h, most = ip.Histogram(bins=2), torch.finfo(torch.float64).max
    for values in ([-most, most], [-5e-324, most], [5e-324, 0.0], [most, most], [-most, 1.0]):
        x = torch.tensor(values, dtype=torch.float64)
        assert_same(read(h.count_unread([x], 1).blocks[0]), h.count(x))


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([1.0, math.nan]),
        torch.tensor([1.0, math.inf]),
        torch.tensor([-math.inf, 2.0]),
        torch.tensor([2**53, 0]),
        torch.tensor([2**63 - 1, -(2**62)]),
    ],
)
@pytest.mark.parametrize("range", ["dyadic", (-9.0, 9.0)])
def test_what_is_refused_counts_for_nothing(x, range):
    h = ip.Histogram(range=range)
    good = torch.randn(50).clamp(-8, 8)
    for values, refused in ((x, True), (good, False)):
        assert bool(h.count_unread([values], 1).refused) is refused
    counts = [h.count_unread([values], 1).blocks[0] for values in (x, good, x)]
    assert_same(read(functools.reduce(operator.add, counts)), h.count(good))
    with pytest.raises(ValueError, match="expected") as raised:
        h.count(x)
    if x.dtype == torch.int64 and range != "dyadic":
        return  # such integers lie outside of the range as well, which is said of them
    low, high = (float(v) for v in h.count_unread([x], 1).ends)
    said = str(raised.value).partition(": ")[2]
    assert h.why_refused(low, high).partition(" got ")[0] == said.partition(" got ")[0]


def test_nothing_was_counted():
    refused = ip.Histogram().count_unread([torch.tensor([math.nan])], 1).blocks[0]
    assert isinstance(refused, UnreadCounts)
    assert read(refused) is None
    assert read(refused + refused) is None
