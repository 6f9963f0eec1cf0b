import math

import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.maps import jacobians
from tests.maps.textbook_maps import normal


def half_log_det(matrices):
    """The textbook's formula, good for well-conditioned matrices."""
    return torch.linalg.slogdet(matrices.mT @ matrices)[1] / 2


class Cube(torch.autograd.Function):
    """An operation without forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class Unchanged(torch.autograd.Function):
    """The identity, without forward mode: all that it is a part of needs reverse mode."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def decoder(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double()


DECODERS = {
    "tanh": lambda: decoder(nn.Linear(5, 20), nn.Tanh(), nn.Linear(20, 30)),
    "relu": lambda: decoder(nn.Linear(5, 20), nn.ReLU(inplace=True), nn.Linear(20, 30)),
    "conv": lambda: decoder(
        nn.Linear(5, 32),
        nn.Unflatten(1, (2, 4, 4)),
        nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1),
        nn.BatchNorm2d(3),
        nn.GELU(),
        nn.Conv2d(3, 1, 3, padding=1),
        nn.Sigmoid(),
    ).eval(),
    "attention": lambda: decoder(
        nn.Linear(5, 24),
        nn.Unflatten(1, (3, 8)),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ).eval(),
}


class TestJacobian:
    @pytest.mark.parametrize("name", DECODERS)
    @pytest.mark.parametrize("rows", [1, 7, 1000])
    def test_both_modes_agree_with_torch(self, name, rows):
        module, x = DECODERS[name](), normal(4, 5)

        def function(x):
            return module(x).flatten(1)

        expected = torch.stack(
            [torch.autograd.functional.jacobian(function, row[None])[0, :, 0] for row in x]
        )
        found = jacobians.jacobian(function, x, rows)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        found = jacobians.jacobian(lambda x: function(Unchanged.apply(x)), x, rows)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert not found.requires_grad

    def test_an_operation_without_forward_mode(self):
        x = normal(4, 3)
        found = jacobians.jacobian(Cube.apply, x, 10)
        torch.testing.assert_close(found, torch.diag_embed(3 * x**2))
        spectrum = ip.jacobian_spectrum(Cube.apply, x)
        torch.testing.assert_close(spectrum.log_volume, (3 * x**2).log().sum(1))

    def test_outputs_that_depend_on_nothing(self):
        found = ip.jacobian_spectrum(lambda x: torch.ones(len(x), 4), normal(6, 3))
        assert not found.rank.any()
        assert (found.log_volume == -math.inf).all()
        assert not jacobians.jacobian(
            lambda x: torch.ones_like(Unchanged.apply(x)), normal(6, 3), 10
        ).any()

    def test_no_grad_inside_does_not_matter(self):
        module, x = DECODERS["tanh"](), normal(4, 5)
        found = jacobians.jacobian(torch.no_grad()(module.forward), x, 10)
        torch.testing.assert_close(found, jacobians.jacobian(module, x, 10))

    @pytest.mark.parametrize("function", [lambda x: x.detach().tanh(), torch.round])
    def test_what_hides_from_autograd_is_told(self, function):
        with pytest.warns(UserWarning, match=r"from what autograd's Jacobians predict .* detach"):
            ip.jacobian_spectrum(lambda x: function(30 * x), normal(500, 2) / 30)

    def test_half_of_a_derivative_hidden(self):
        with pytest.warns(UserWarning, match="by 50%"):
            ip.jacobian_spectrum(lambda x: x + x.detach(), normal(50, 2))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("offset", [0, 100])
    def test_rounding_and_curvature_hide_nothing(self, dtype, offset):
        x = (normal(20, 5) + offset).to(dtype)
        for name in DECODERS:
            module = DECODERS[name]().to(dtype)
            ip.jacobian_spectrum(lambda x, module=module: module(x - offset) + offset, x)

    def test_domains_are_not_left(self):
        x = torch.rand(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

        def strict(x):
            assert (x > 0).all()
            return x.log()

        found = ip.jacobian_spectrum(strict, x).log_volume
        torch.testing.assert_close(found, -x.log().sum(1))
        assert ip.jacobian_spectrum(strict, x[:1]).log_volume == found[0]

    def test_memory_is_bounded(self):
        assert jacobians.slice_length(2, 2, 256) == 256
        assert jacobians.slice_length(64, 3072, 256) == 85
        assert jacobians.slice_length(3072, 3072, 256) == 1
        assert jacobians.slice_length(3072, 10**6, 256) == 1
        seen = []

        def function(x):
            seen.append(len(x))
            return x

        ip.jacobian_spectrum(function, normal(100, 3), batch_size=8)
        assert max(seen) <= 8


class TestSpectra:
    @pytest.mark.parametrize(("outputs", "d"), [(1, 1), (3, 3), (7, 3), (100, 64), (64, 64)])
    def test_linear_maps(self, outputs, d):
        a = normal(outputs, d)
        x = normal(3, d, seed=1)
        found = ip.jacobian_spectrum(lambda x: x @ a.T, x)
        expected = torch.from_numpy(np.linalg.svd(a.numpy(), compute_uv=False))
        torch.testing.assert_close(found.singular_values, expected.expand(3, d))
        assert (found.rank == d).all()
        torch.testing.assert_close(found.log_volume, half_log_det(a).expand(3))

    def test_a_circle(self):
        angles = normal(50, 1)
        for radius in (1e-6, 2.5, 1e6):
            found = ip.jacobian_spectrum(
                lambda t, r=radius: r * torch.cat([t.cos(), t.sin()], 1), angles
            )
            expected = torch.full((50,), math.log(radius)).double()
            torch.testing.assert_close(found.log_volume, expected)

    def test_a_sphere(self):
        # In polar and azimuthal angles, the surface element is r^2 sin(theta).
        angles = torch.tensor([0.1, 0.0]) + torch.tensor([2.8, 6.2]) * normal(50, 2).sigmoid()

        def embed(angles, r=3.0):
            theta, phi = angles.unbind(1)
            return r * torch.stack(
                [theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], 1
            )

        found = ip.jacobian_spectrum(embed, angles)
        expected = 2 * math.log(3) + angles[:, 0].sin().log()
        torch.testing.assert_close(found.log_volume, expected)
        # Projected from the pole: conformal, each direction stretched by 2 / (1 + |u|^2).
        u = normal(50, 5)

        def project(u):
            square = u.square().sum(1, keepdim=True)
            return torch.cat([2 * u, square - 1], 1) / (square + 1)

        found = ip.jacobian_spectrum(project, u)
        factor = 2 / (1 + u.square().sum(1, keepdim=True))
        torch.testing.assert_close(found.singular_values, factor.expand(50, 5))
        torch.testing.assert_close(found.log_volume, 5 * factor[:, 0].log())

    def test_ill_conditioned_maps(self):
        # J^T J has a condition number of 1e24, beyond float64.
        u, _ = torch.linalg.qr(normal(30, 10))
        v, _ = torch.linalg.qr(normal(10, 10, seed=1))
        scales = 10 ** torch.linspace(-6, 6, 10, dtype=torch.float64)
        a = u * scales @ v.T
        found = ip.jacobian_spectrum(lambda x: x @ a.T, normal(4, 10))
        torch.testing.assert_close(found.log_volume, torch.zeros(4).double(), atol=1e-3, rtol=0)
        assert abs(half_log_det(a)) > 1

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_collapsed_dimensions(self, dtype):
        for d, rank, seed in ((3, 2, 0), (20, 5, 1), (64, 63, 2), (64, 0, 3), (300, 299, 4)):
            a = (normal(400, rank, seed=seed) @ normal(rank, d, seed=seed + 9)).to(dtype)
            b = normal(d, d, seed=seed).to(dtype)
            found = ip.jacobian_spectrum(lambda x, a=a, b=b: (x @ b) @ a.T, normal(2, d).to(dtype))
            assert (found.rank == rank).all()
            assert (found.log_volume == -math.inf).all()
            assert found.singular_values.shape == (2, d)
            assert found.singular_values.dtype == torch.float64
            assert (found.singular_values.diff(dim=1) <= 0).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_well_conditioned_maps_are_not_taken_for_collapsed(self, dtype):
        for d in (2, 64, 500):
            a = (normal(d, d) / math.sqrt(d)).to(dtype)
            found = ip.jacobian_spectrum(lambda x, a=a: x @ a, normal(2, d).to(dtype))
            assert (found.rank == d).all()
            expected = torch.linalg.slogdet(a.double())[1].expand(2)
            torch.testing.assert_close(found.log_volume, expected, atol=1e-2, rtol=0)

    def test_rank_differs_between_samples(self):
        def function(z):
            return torch.stack([z[:, 0].relu(), z[:, 1], z[:, 1]], 1)

        z = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])
        found = ip.jacobian_spectrum(function, z)
        assert found.rank.tolist() == [2, 1]
        assert found.log_volume.tolist() == [pytest.approx(math.log(2) / 2), -math.inf]

    def test_fewer_outputs_than_inputs(self):
        a = normal(2, 5)
        found = ip.jacobian_spectrum(lambda x: x @ a.T, normal(3, 5))
        torch.testing.assert_close(found.singular_values[0, :2], torch.linalg.svdvals(a))
        assert not found.singular_values[:, 2:].any()
        assert (found.rank == 2).all()
        assert (found.log_volume == -math.inf).all()


class TestDecoders:
    @pytest.mark.parametrize("name", DECODERS)
    def test_classical_ones(self, name):
        module, z = DECODERS[name](), normal(6, 5)
        found = ip.jacobian_spectrum(module, z)
        matrices = torch.stack(
            [
                torch.autograd.functional.jacobian(lambda z: module(z[None]).flatten(), row)
                for row in z
            ]
        )
        torch.testing.assert_close(found.log_volume, half_log_det(matrices))
        assert (found.rank == 5).all()

    def test_an_invertible_one_with_a_code_of_64(self):
        torch.manual_seed(0)
        model = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 64)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn_like(parameter)
        z = torch.randn(2, 64)
        found = ip.jacobian_spectrum(model.decode, z)
        assert (found.rank == 64).all()

        def pad(z):
            return nn.functional.pad(z, (0, 720)).view(-1, 1, 28, 28)

        written = ip.jacobian_spectrum(lambda z: model.inn(pad(z), rev=True)[0], z)
        torch.testing.assert_close(written.log_volume, found.log_volume)
        row = torch.autograd.functional.jacobian(
            lambda z: model.decode(z[None]).flatten(), z[0], strategy="reverse-mode"
        )
        expected = half_log_det(row.double())
        torch.testing.assert_close(found.log_volume[0], expected, atol=1e-3, rtol=0)
        change = ip.entropy_change(model.decode, z)
        assert change.value.item() == pytest.approx(found.log_volume.mean().item())

    def test_a_collapsed_code_dimension(self):
        module = DECODERS["tanh"]()
        module[0].weight.data[:, 3] = 0
        found = ip.jacobian_spectrum(module, normal(6, 5))
        assert (found.rank == 4).all()
        with pytest.warns(UserWarning, match=r"infinite for 6 of 6 samples \(100.0%\)"):
            change = ip.entropy_change(module, normal(6, 5))
        assert change.value == -math.inf
        assert change.stderr.isnan()

    def test_the_way_back_of_a_bijection(self):
        exp = torch.distributions.ExpTransform()
        x = normal(6, 3)
        forward, back = ip.jacobian_spectrum(exp, x), ip.jacobian_spectrum(exp, x.exp(), rev=True)
        torch.testing.assert_close(back.log_volume, -forward.log_volume)
        torch.testing.assert_close(back.singular_values, 1 / forward.singular_values.flip(1))
        assert (back.singular_values.diff(dim=1) <= 0).all()


def test_samples_of_a_single_number():
    x = normal(60, 1).flatten()
    assert ip.jacobian_spectrum(lambda v: 3 * v, x).singular_values.tolist() == [[3.0]] * 60
    change = ip.entropy_change(lambda v: 3 * v, x)
    assert change.value.item() == pytest.approx(math.log(3))
    checked = ip.check_invertible(torch.distributions.ExpTransform(), x)
    assert "is invertible, and its log-determinants are correct" in checked.verdict
    assert ip.entropy_change(torch.distributions.ExpTransform(), x).value.item() == pytest.approx(
        x.double().mean().item()
    )
