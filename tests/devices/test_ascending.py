"""Values in ascending order, which NumPy or torch sorts."""

import pytest
import torch

from infoprobe.devices import ascending


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("dim", [0, 1])
def test_it_is_what_torch_sorts(dtype, dim):
    x = (4 * torch.randn(30, 7)).to(dtype)
    for given in (x, x.T, x[::2], x[:, :0]):
        found = ascending(given, dim)
        assert found.dtype == dtype
        assert torch.equal(found, given.sort(dim).values)


def test_gradients_go_to_where_the_values_were():
    x = torch.randn(9, 2, requires_grad=True)
    (ascending(x, 0) * torch.arange(9.0).unsqueeze(1)).sum().backward()
    assert torch.equal(x.grad, x.argsort(0).argsort(0).float())
    with torch.no_grad():
        assert torch.equal(ascending(x, 0), x.sort(0).values)
