import math

import numpy as np
import pytest
import torch

import infoprobe as ip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestDequantize:
    @pytest.mark.parametrize("levels", [2, 3, 17, 255, 256, 1000, 65536])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_values_stay_in_their_cells(self, levels, dtype):
        images = torch.arange(levels).repeat(200_000 // levels + 1)
        y = ip.dequantize(images, levels, generator=generator(), dtype=dtype)
        assert y.dtype == dtype
        assert ((y >= 0) & (y < 1)).all()
        assert torch.equal((y.double() * levels).floor().long(), images)

    @pytest.mark.parametrize("levels", [3, 17, 49, 256, 1000, 65535])
    @pytest.mark.parametrize("u", [0.0, 1e-17, 1 - 2**-24, 1 - 2**-53])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_ends_of_every_cell(self, monkeypatch, levels, u, dtype):
        """Of u = 1 - 2**-53, single precision makes 1."""
        monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, u).double())
        images = torch.arange(levels)
        y = ip.dequantize(images, levels, dtype=dtype)
        assert torch.equal((y.double() * levels).floor().long(), images)
        assert y.max() < 1

    def test_uniform_in_each_cell(self):
        images = torch.randint(0, 256, (200_000,), dtype=torch.uint8, generator=generator())
        y = ip.dequantize(images, generator=generator(1)).double()
        u = y * 256 - images
        assert u.mean() == pytest.approx(1 / 2, abs=4 / math.sqrt(12 * len(u)))
        assert u.var() == pytest.approx(1 / 12, abs=0.001)
        grid = torch.linspace(0, 1, 101, dtype=torch.float64)
        reached = torch.searchsorted(u.sort().values, grid).double() / len(u)
        assert (reached - grid).abs().max() < 2 / math.sqrt(len(u))  # Kolmogorov-Smirnov

    def test_entropy(self):
        """h(Y) = H(X) - d ln L, here with d = 1 and densities known by their cells."""
        images = torch.randint(0, 4, (1000, 50), generator=generator()) ** 2
        levels = ip.Histogram(16, (0, 1))
        y = ip.dequantize(images, 16, generator=generator())
        discrete = ip.entropy(images, ip.Histogram(16, (-0.5, 15.5)))
        assert float(levels.entropy(y)) == float(discrete)
        differential = ip.KNN().entropy(y.flatten()[:20_000, None])
        assert float(differential) == pytest.approx(float(discrete) - math.log(16), abs=0.02)

    def test_generators(self):
        images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        y = ip.dequantize(images, generator=generator())
        assert y.shape == images.shape
        before = torch.get_rng_state()
        assert torch.equal(y, ip.dequantize(images, generator=generator()))
        assert torch.equal(before, torch.get_rng_state())
        assert not torch.equal(y, ip.dequantize(images, generator=generator(1)))
        torch.manual_seed(5)
        y = ip.dequantize(images)
        assert not torch.equal(y, ip.dequantize(images))
        torch.manual_seed(5)
        assert torch.equal(y, ip.dequantize(images))

    def test_more_values_than_a_block(self, monkeypatch):
        monkeypatch.setattr("infoprobe.maps.dequantize._BLOCK", 100)
        images = torch.randint(0, 256, (5, 7, 11), generator=generator()).transpose(0, 2)
        y = ip.dequantize(images, generator=generator(1), dtype=torch.float64)
        assert torch.equal((y * 256).long(), images)
        assert len((y * 256 - images).unique()) == images.numel()  # each has noise of its own
        images[10, 3, 2] = 256
        with pytest.raises(ValueError, match="got 0 to 256"):
            ip.dequantize(images)

    def test_on_a_device(self, device):
        images = torch.arange(256, dtype=torch.uint8, device=device)
        y = ip.dequantize(images, generator=generator())
        assert y.device == images.device
        assert torch.equal(y.cpu(), ip.dequantize(images.cpu(), generator=generator()))

    @pytest.mark.parametrize(
        "images",
        [
            [[0, 3], [255, 7]],
            np.array([0, 3, 255], np.uint8),
            torch.tensor([0, 255]).int(),
            torch.tensor([0, 255], dtype=torch.uint16),
        ],
    )
    def test_integers_of_any_kind(self, images):
        x = torch.as_tensor(images).long()
        assert torch.equal((ip.dequantize(images).double() * 256).long(), x)

    @pytest.mark.parametrize(
        ("images", "settings", "error", "message"),
        [
            (torch.rand(3), {}, TypeError, r"images: .* got torch.float32"),
            (torch.ones(3, dtype=torch.bool), {}, TypeError, "got torch.bool"),
            (torch.tensor([-1, 3]), {}, ValueError, "from 0 to levels - 1 = 255, got -1 to 3"),
            (torch.tensor([0, 256]), {}, ValueError, "got 0 to 256"),
            (torch.tensor([0, 32]), {"levels": 32}, ValueError, "levels - 1 = 31, got 0 to 32"),
            (torch.tensor([], dtype=torch.uint8), {}, ValueError, "at least one value"),
            (torch.tensor([0]), {"levels": 1}, ValueError, "levels: .* between 2 and 65,536"),
            (torch.tensor([0]), {"levels": 256.0}, TypeError, "levels: expected an integer"),
            (torch.tensor([0]), {"dtype": torch.bfloat16}, TypeError, "dtype: .* torch.float64"),
            ("abc", {}, TypeError, "images: expected a tensor"),
        ],
    )
    def test_errors(self, images, settings, error, message):
        with pytest.raises(error, match=message):
            ip.dequantize(images, **settings)
