"""Where deterministic algorithms are demanded, CUDA refuses to add up floating-point values."""

import pytest
import torch

from infoprobe import devices
from tests.devices.pretended import Device, register, there


@pytest.mark.parametrize("demanded", [False, True])
def test_sums_up_to_each_place(demanded, monkeypatch):
    used = []
    plain = torch.Tensor.cumsum

    def cumsum(x, dim):
        used.append(x.device.type)
        return plain(x, dim)

    register()
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = plain(x, 1)
    monkeypatch.setattr(torch.Tensor, "cumsum", cumsum)
    torch.use_deterministic_algorithms(demanded)
    try:
        with Device():
            found = devices.cumsum(there(x), 1)
            assert found.device.type == "pretended"
            assert torch.equal(found.cpu(), expected)
    finally:
        torch.use_deterministic_algorithms(False)
    assert used == ["cpu" if demanded else "pretended"]
