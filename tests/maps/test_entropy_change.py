import math

import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.maps.textbook_maps import Pair, log_det, mixture, normal, perturbed, real_nvp


class TestClosedForms:
    @pytest.mark.parametrize("d", [1, 2, 5, 20, 100])
    def test_gaussians_through_affine_maps(self, d):
        a, x = mixture(d), normal(50, d, seed=1)
        change = ip.entropy_change(lambda x: x @ a + 3, x)
        assert change.value.item() == pytest.approx(log_det(a), abs=1e-12 * d)
        assert change.stderr.item() == pytest.approx(0, abs=1e-12 * d)
        assert change.n == 50
        # h = d/2 ln 2 pi e + ln |det a| of a Gaussian.
        estimate = ip.Gaussian().entropy(normal(20_000, d) @ a)
        exact = d / 2 * math.log(2 * math.pi * math.e) + change.value
        assert estimate.item() == pytest.approx(exact.item(), abs=5 * math.sqrt(d / 4e4))

    @pytest.mark.parametrize(("d", "outputs"), [(1, 1), (1, 3), (3, 7), (64, 200)])
    def test_injective_linear_maps(self, d, outputs):
        a = normal(outputs, d)
        change = ip.entropy_change(lambda x: x @ a.T, normal(3, d))
        assert change.value.item() == pytest.approx(log_det(a.T @ a) / 2)

    def test_elementwise_maps(self):
        # E ln (d/dx e^x) = E x, and of tanh: E ln (1 - tanh^2 x).
        x = normal(1000, 3) + 1
        change = ip.entropy_change(torch.exp, x)
        total = x.sum(1)
        assert change.value.item() == pytest.approx(total.mean().item())
        assert change.stderr.item() == pytest.approx((total.std() / math.sqrt(1000)).item())
        change = ip.entropy_change(nn.Tanh(), x)
        expected = torch.log1p(-x.tanh().square()).sum(1).mean()
        assert change.value.item() == pytest.approx(expected.item())

    def test_a_circle(self):
        angles = 3 * normal(100, 1)
        change = ip.entropy_change(lambda t: 5 * torch.cat([t.cos(), t.sin()], 1), angles)
        assert change.value.item() == pytest.approx(math.log(5))

    def test_forward_and_inverse_add_up_to_nothing(self):
        inn, x = real_nvp(6), normal(200, 6)
        z = inn(x)[0].detach()
        forward, inverse = ip.entropy_change(inn, x), ip.entropy_change(inn, z, rev=True)
        assert abs(forward.value) > 0.1
        assert forward.value.item() == pytest.approx(-inverse.value.item())
        assert forward.stderr.item() == pytest.approx(inverse.stderr.item())

    def test_changes_add_up_along_a_composition(self):
        first, second, x = real_nvp(6), real_nvp(6, seed=1), normal(100, 6)
        y = first(x)[0].detach()
        total = ip.entropy_change(lambda x: second(first(x)[0])[0], x).value
        parts = ip.entropy_change(first, x).value + ip.entropy_change(second, y).value
        assert total.item() == pytest.approx(parts.item())

    @pytest.mark.parametrize("seed", [0, 1])
    def test_nearest_neighbours_agree(self, seed):
        inn = real_nvp(2, seed=seed)
        x = normal(20_000, 2, seed=seed)
        with torch.no_grad():
            y = inn(x)[0]
        exact = math.log(2 * math.pi * math.e) + ip.entropy_change(inn, x).value.item()
        assert ip.KNN().entropy(y).item() == pytest.approx(exact, abs=0.03)

    def test_mutual_information_does_not_change(self):
        inn, x = real_nvp(2, blocks=2), normal(8000, 2)
        y = x + 0.5 * normal(8000, 2, seed=1)
        with torch.no_grad():
            z = inn(y)[0]
        before, after = (ip.KNN().mutual_information(x, v).item() for v in (y, z))
        assert before == pytest.approx(math.log(5), abs=0.05)
        assert after == pytest.approx(before, abs=0.05)

    def test_the_mnist_network_against_its_jacobian(self):
        torch.manual_seed(0)
        inn = perturbed(ip.models.mnist_inn(), 0.02)
        x = torch.rand(1, 1, 28, 28)
        reported = ip.entropy_change(inn, x).value.item()
        assert abs(reported) > 5
        # Written as a function, it reports nothing.
        exact = ip.entropy_change(lambda x: inn(x, jac=False)[0], x)
        assert exact.value.item() == pytest.approx(reported, abs=1e-3)
        assert exact.stderr.isnan()

    @pytest.mark.parametrize("kind", [float, int, np.float64, torch.tensor])
    def test_every_form_of_a_log_determinant(self, kind):
        for form in (lambda v: kind(2.0), lambda v: v, lambda v: v[:1], lambda v: v[0]):
            module = Pair(math.e, form, lambda v: -2)
            change = ip.entropy_change(module, normal(9, 2))
            assert change.value.item() == pytest.approx(2)
            assert change.value.dtype == torch.float64

    def test_the_user_s_own_batches(self):
        inn, x = real_nvp(6), normal(100, 6)
        whole = ip.entropy_change(inn, x)
        for rows in (1, 7, 1000):
            parts = ip.entropy_change(inn, x, batch_size=rows)
            assert parts.value.item() == pytest.approx(whole.value.item(), abs=1e-12)
            assert parts.stderr.item() == pytest.approx(whole.stderr.item(), abs=1e-12)


class TestLimits:
    def test_fewer_outputs_than_inputs(self):
        with pytest.raises(ValueError, match=r"got 5 numbers in and 2 out, .*mutual_information"):
            ip.entropy_change(nn.Linear(5, 2), normal(4, 5).float())

    def test_too_many_inputs(self):
        with pytest.raises(ValueError, match=r"^x: expected at most 3,072.* d=3,073.* adds up"):
            ip.entropy_change(lambda x: 2 * x, normal(2, 3073))
        with pytest.raises(ValueError, match=r"^x: expected at most 3,072"):
            ip.jacobian_spectrum(lambda x: 2 * x, normal(2, 1, 3073))

    def test_log_determinants_that_are_no_numbers(self):
        module = Pair(2.0, lambda v: torch.where(torch.arange(len(v)) == 5, math.nan, v))
        with pytest.raises(ValueError, match=r"that are numbers, got NaN for 1 of 20 samples"):
            ip.entropy_change(module, normal(20, 3))

    def test_partly_singular(self):
        x = torch.tensor([[1.0, 2.0], [-1.0, 2.0], [3.0, 1.0], [2.0, 2.0]])
        with pytest.warns(UserWarning, match=r"infinite for 1 of 4 samples \(25.0%\)"):
            change = ip.entropy_change(nn.ReLU(), x)
        assert change.value == -math.inf
        assert change.stderr.isnan()
        assert change.n == 4
