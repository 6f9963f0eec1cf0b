import pytest
import torch

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.moments import GroupedMoments, SecondMoments

WIDTHS = [1, 2, 5, 127, 128, 129, 300]


def scatter(x):
    x = x.double().flatten(1)
    return (x - x.mean(0)).T @ (x - x.mean(0))


def data(n, d, seed=0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) + offset
    return x * torch.rand(d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("n", [1, 2, 40, 2500])
def test_the_moments_of_a_batch(n, d):
    x = data(n, d)
    moments = SecondMoments.of(x)
    torch.testing.assert_close(moments.mean, x.mean(0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(moments.scatter, scatter(x), rtol=1e-11, atol=1e-11)
    assert int(moments.n) == n


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e8])
@pytest.mark.parametrize("seed", range(3))
def test_batches_add_up_in_any_order(offset, seed):
    x = data(600, 130, seed, offset)
    generator = torch.Generator().manual_seed(seed)
    cuts = torch.randint(1, 600, (7,), generator=generator).unique()
    batches = [part for part in torch.tensor_split(x, cuts) if len(part)]
    whole = SecondMoments.of(x)
    for order in (range(len(batches)), torch.randperm(len(batches), generator=generator)):
        total = None
        for i in order:
            part = SecondMoments.of(batches[i])
            total = part if total is None else total + part
        # The data themselves are rounded to 1e-16 of the offset.
        near = 1e-10 + 1e-13 * offset
        torch.testing.assert_close(total.scatter, whole.scatter, rtol=1e-10, atol=near)
        torch.testing.assert_close(total.mean, whole.mean, rtol=1e-13, atol=1e-13)
        assert int(total.n) == 600


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_products_are_those_of_float64(dtype):
    x = data(3000, 20, offset=30.0).to(dtype)
    torch.testing.assert_close(SecondMoments.of(x).scatter, scatter(x), rtol=1e-11, atol=1e-9)


def test_data_that_do_not_vary_have_no_scatter():
    moments = SecondMoments.of(torch.full((5000, 3), 0.1))
    assert float(moments.scatter.abs().max()) < 1e-20


def test_all_but_one_group():
    parts = [SecondMoments.of(data(10 + i, 4, i)) for i in range(4)]
    groups = GroupedMoments(parts)
    for i, without in enumerate(groups.without):
        rest = torch.cat([data(10 + j, 4, j) for j in range(4) if j != i])
        torch.testing.assert_close(without.scatter, scatter(rest))
    assert GroupedMoments(parts[:1]).without == []
    assert len(groups) == 46
    assert groups.shares.tolist() == pytest.approx([10 / 46, 11 / 46, 12 / 46, 13 / 46])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite(bad):
    x = data(2000, 5)
    x[1500, 3] = bad
    with pytest.raises(ArgumentValueError, match="finite"):
        SecondMoments.of(x)


def test_values_beyond_float64():
    with pytest.raises(ArgumentValueError, match="Rescale"):
        SecondMoments.of(torch.full((10, 2), 1.5e308, dtype=torch.float64))


def test_other_widths_do_not_add_up():
    with pytest.raises(ArgumentValueError, match="5 values as before, got 4"):
        SecondMoments.of(data(9, 5)) + SecondMoments.of(data(9, 4))


def test_states():
    moments = SecondMoments.of(data(9, 4))
    again = SecondMoments.from_state_dict(moments.state_dict())
    assert torch.equal(again.scatter, moments.scatter)
    assert again.eps == moments.eps


@pytest.mark.parametrize(
    "damage",
    [
        {"n": torch.tensor(-1.0, dtype=torch.float64)},
        {"n": torch.tensor(3)},
        {"mean": torch.zeros(3, dtype=torch.float64)},
        {"panels": torch.full((10,), torch.nan, dtype=torch.float64)},
        {"eps": 0.0},
    ],
)
def test_damaged_states(damage):
    state = SecondMoments.of(data(9, 4)).state_dict()
    with pytest.raises(ArgumentValueError, match="damaged"):
        SecondMoments.from_state_dict(state | damage)
