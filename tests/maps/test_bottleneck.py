import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import infoprobe as ip


class Linear(nn.Module):
    """z = A x with the interface of a FrEIA graph."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def forward(self, x, rev=False, jac=True):
        matrix = torch.linalg.inv(self.matrix) if rev else self.matrix
        return (x.flatten(1) @ matrix.T).view_as(x), None


def autoencoder(matrix, size, shape=None):
    padding = ip.models.ZeroPadding(size, shape or (len(matrix),))
    return SimpleNamespace(inn=Linear(matrix), bottleneck=padding)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


D, SIZE = 6, 2
MATRIX = normal(D, D, seed=7)


class TestBottleneckAccount:
    def test_closed_forms(self):
        """Of z = A x with white x, whose covariance is A A^T."""
        n = 40_000
        model = autoencoder(MATRIX, SIZE, (1, 2, 3))
        account = ip.bottleneck_account(model, normal(n, 1, 2, 3))
        covariance = MATRIX @ MATRIX.T
        conditional = torch.linalg.inv(torch.linalg.inv(covariance)[SIZE:, SIZE:])
        m = D - SIZE
        entropy = (m * math.log(2 * math.pi * math.e) + conditional.logdet().item()) / 2
        # The sum over coordinates of the logarithms' variances, about 2 / n each, over 4.
        tolerance = 4 * math.sqrt(m / 2 / n)
        assert account.entropy_bound == pytest.approx(entropy, abs=tolerance)
        assert (account.bound_from, account.note) == ("covariance", "")
        energy = covariance[SIZE:, SIZE:].trace().item()
        assert account.energy == pytest.approx(energy, rel=0.03)
        assert account.energy_share == pytest.approx(energy / covariance.trace().item(), rel=0.03)
        # The reconstruction misses A^-1 (0, r), of which each pixel is Gaussian.
        back = torch.linalg.inv(MATRIX)[:, SIZE:]
        variances = (back @ covariance[SIZE:, SIZE:] @ back.T).diagonal()
        assert account.mse == pytest.approx(variances.mean().item(), rel=0.03)
        l1 = (variances.sqrt() * math.sqrt(2 / math.pi)).mean().item()
        assert account.l1 == pytest.approx(l1, rel=0.03)
        assert account.inversion_l1 < 1e-12
        assert account.inversion_mse < 1e-24
        assert (account.n, account.kept, account.dropped) == (n, SIZE, m)

    def test_resolution(self):
        """Of independent coordinates the loss at a resolution is that of their cells."""
        scales = torch.tensor([5.0, 5.0, 1.0, 2.0], dtype=torch.float64)
        x = normal(20_000, 4)
        account = ip.bottleneck_account(autoencoder(scales.diag(), 2), x)
        z = x * scales
        cells = ip.Histogram(400, (-20, 20), over="units")  # each 0.1 wide
        assert account.lost_at(0.1) == pytest.approx(cells.entropy(z[:, 2:]).item(), abs=0.05)
        assert account.lost_at(0.05) - account.lost_at(0.1) == pytest.approx(2 * math.log(2))
        with pytest.raises(ValueError, match="resolution: expected a positive number, got 0"):
            account.lost_at(0)

    def test_a_bound(self):
        """Of a uniform coordinate of width 1, h = 0, and a Gaussian has more."""
        x = torch.rand(20_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        account = ip.bottleneck_account(autoencoder(torch.eye(2).double(), 1), x)
        gap = math.log(2 * math.pi * math.e / 12) / 2
        assert account.entropy_bound == pytest.approx(gap, abs=0.02)

    def test_few_samples(self):
        x = normal(D, D)
        account = ip.bottleneck_account(autoencoder(MATRIX, SIZE), x)
        m = D - SIZE
        energy = (x @ MATRIX.T)[:, SIZE:].square().sum(1).mean().item()
        assert account.energy == pytest.approx(energy)
        expected = m / 2 * math.log(2 * math.pi * math.e * energy / m)
        assert account.entropy_bound == pytest.approx(expected)
        assert account.bound_from == "energy"
        assert "needs more samples than the 6 coordinates of the latent, got 6" in account.note
        assert "independent coordinates" in repr(account)
        assert account.note in repr(account)

    def test_the_bound_from_the_energy_is_the_weaker_one(self):
        model, x = autoencoder(MATRIX, SIZE), normal(5000, D)
        tight = ip.bottleneck_account(model, x).entropy_bound
        m = D - SIZE
        energy = ip.bottleneck_account(model, x).energy
        assert tight < m / 2 * math.log(2 * math.pi * math.e * energy / m)

    def test_constant_coordinates(self):
        x = normal(100, 4)
        x[:, 3] = 0.5
        account = ip.bottleneck_account(autoencoder(torch.eye(4).double(), 1), x)
        assert account.bound_from == "energy"
        assert "1 constant of 4" in account.note or "linear combination" in account.note
        x[:, 1:] = 0
        account = ip.bottleneck_account(autoencoder(torch.eye(4).double(), 1), x)
        assert (account.energy, account.entropy_bound) == (0, -math.inf)

    def test_keeping_everything(self):
        account = ip.bottleneck_account(autoencoder(MATRIX, D), normal(100, D))
        assert (account.dropped, account.energy, account.entropy_bound) == (0, 0, 0)
        assert account.l1 == account.inversion_l1 < 1e-12

    def test_the_reference_model(self):
        model = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), bottleneck=20)
        for parameter in model.parameters():
            if parameter.requires_grad:  # not the wavelets
                nn.init.normal_(parameter, std=0.02)
        images, _ = ip.datasets.load("mnist5k", split="test")
        x = ip.dequantize(images[:64], generator=torch.Generator().manual_seed(0))
        before = x.clone()
        account = ip.bottleneck_account(model, x, batch_size=20)
        assert torch.equal(x, before)
        with torch.no_grad():
            reconstruction, latent = model(x, return_latent=True)
        error = (reconstruction - x).double()
        assert account.l1 == pytest.approx(error.abs().mean().item(), rel=1e-5)
        assert account.mse == pytest.approx(error.square().mean().item(), rel=1e-5)
        dropped = latent.flatten(1)[:, 20:].square().sum(1).mean().item()
        assert account.energy == pytest.approx(dropped, rel=1e-5)
        assert 0 < account.inversion_l1 < 1e-6
        assert (account.kept, account.dropped, account.bound_from) == (20, 764, "energy")
        assert "keeps 20 of 784" in repr(account)

    def test_batches_do_not_matter(self):
        model, x = autoencoder(MATRIX, SIZE), normal(50, D)
        one, other = (
            asdict(ip.bottleneck_account(model, x, batch_size=size)) for size in (7, 256)
        )
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, abs=1e-12), name

    def test_on_a_device(self, device):
        account = ip.bottleneck_account(
            autoencoder(MATRIX.to(device), SIZE), normal(50, D).to(device)
        )
        assert isinstance(account.energy, float)

    @pytest.mark.parametrize(
        ("model", "x", "error", "message"),
        [
            (nn.Linear(2, 2), normal(5, 2), TypeError, "model: .* got Linear"),
            (SimpleNamespace(inn=len), normal(5, 2), TypeError, "code.z. and rest.z."),
            (None, torch.ones(5, D).int(), TypeError, "x: expected floating-point"),
            (None, normal(1, D), ValueError, "x: expected at least 2 samples"),
            (None, normal(5, D) / 0, ValueError, "x: expected finite"),
        ],
    )
    def test_errors(self, model, x, error, message):
        with pytest.raises(error, match=message):
            ip.bottleneck_account(model or autoencoder(MATRIX, SIZE), x)

    def test_latents_that_are_not_finite(self):
        with pytest.raises(ValueError, match="latents: expected finite"):
            ip.bottleneck_account(autoencoder(MATRIX * 1e200, 2), normal(5, D) * 1e200)
