import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infoprobe.estimators.renyi import MatrixRenyi
from tests.estimators.renyi_cases import BANDWIDTHS, close
from tests.estimators.samples import normal


class TestGradients:
    @pytest.mark.parametrize("alpha", [0.6, 1, 1.01, 2, 3])
    @pytest.mark.parametrize("bandwidth", BANDWIDTHS)
    def test_entropy(self, alpha, bandwidth):
        x = normal(8, 3).requires_grad_()
        assert torch.autograd.gradcheck(MatrixRenyi(alpha, bandwidth).entropy, x)

    def test_other_measures(self):
        x, y, z = (normal(8, 2, seed=seed).requires_grad_() for seed in range(3))
        r = MatrixRenyi()
        assert torch.autograd.gradcheck(r.joint_entropy, (x, y, z))
        assert torch.autograd.gradcheck(r.mutual_information, (x, y))
        assert torch.autograd.gradcheck(r.conditional_mutual_information, (x, y, z))
        assert torch.autograd.gradcheck(r.total_correlation, x)
        assert torch.autograd.gradcheck(r.kernel_width, x)

    @pytest.mark.parametrize("alpha", [0.75, 1, 1.01, 2, 3])
    @pytest.mark.parametrize("bandwidth", BANDWIDTHS)
    def test_samples_that_coincide(self, alpha, bandwidth):
        x = normal(5, 2, seed=1)
        x = torch.cat([x, x[:2], x[:1]])
        # A single pair has the median distance, or there would be no derivative.
        assert (torch.pdist(x) == MatrixRenyi().kernel_width(x)).sum() == 1
        x.requires_grad_()
        r = MatrixRenyi(alpha, bandwidth)
        assert torch.autograd.gradcheck(r.entropy, x, atol=1e-4 if alpha < 1 else 1e-5)
        assert torch.autograd.grad(r.entropy(x), x)[0].norm() > 0.01

    @pytest.mark.parametrize("alpha", [0.5, 1, 1.01, 2, 3])
    def test_eigenvalues_that_coincide(self, alpha):
        # The corners of a square: A is circulant, and two of its eigenvalues are equal.
        x = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0]], dtype=torch.float64)
        spectrum = torch.linalg.eigvalsh(torch.exp(-(torch.cdist(x, x) ** 2) / 2))
        assert spectrum[1].item() == pytest.approx(spectrum[2].item(), abs=1e-14)
        x.requires_grad_()
        assert torch.autograd.gradcheck(MatrixRenyi(alpha, 1).entropy, x)

    @pytest.mark.parametrize("alpha", [0.3, 0.5, 1, 1.01, 2])
    def test_it_is_finite_when_all_samples_coincide(self, alpha):
        x = torch.ones(20, 3, requires_grad=True)
        MatrixRenyi(alpha, 1).entropy(x).backward()
        assert torch.equal(x.grad, torch.zeros_like(x))

    def test_constant_features_stay_so(self):
        x = normal(8, 3)
        x[:, 1] = 0.1
        x.requires_grad_()
        MatrixRenyi(bandwidth="tapia").entropy(x).backward()
        assert (x.grad[:, 1] == 0).all()
        assert (x.grad[:, [0, 2]] != 0).all()
        assert x.grad.isfinite().all()

    def test_there_is_no_second_one(self):
        x = normal(8, 3).requires_grad_()
        (gradient,) = torch.autograd.grad(MatrixRenyi().entropy(x), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()

    def test_as_a_loss(self):
        # Maximal information brings the two variables together.
        x, y = normal(40, 1), normal(40, 1, seed=1).requires_grad_()
        r = MatrixRenyi(bandwidth="tapia", gamma=2.0)
        optimizer = torch.optim.Adam([y], 0.1)
        before = r.mutual_information(x, y).item()
        for _ in range(15):
            optimizer.zero_grad()
            (-r.mutual_information(x, y)).backward()
            optimizer.step()
        assert r.mutual_information(x, y).item() > before + 0.2


class TestGuestManners:
    @pytest.mark.parametrize("alpha", [1.01, 2])
    def test_result(self, device, alpha):
        x = torch.randn(10, 3, device=device, requires_grad=True)
        y = x.detach().cpu().numpy()
        r = MatrixRenyi(alpha)
        values = [
            r.entropy(x),
            r.joint_entropy(x, y),
            r.mutual_information(x, y),
            r.conditional_mutual_information(x, y, y),
            r.total_correlation(x),
            r.kernel_width(x),
        ]
        for value in values:
            assert value.shape == ()
            assert value.dtype == torch.float64
            assert value.device == x.device
            value.backward()
        assert x.grad.dtype == torch.float32
        assert x.grad.isfinite().all()

    def test_devices_agree(self, device):
        x, y = normal(2, 100, 3)
        for bandwidth in BANDWIDTHS:
            r = MatrixRenyi(bandwidth=bandwidth)
            expected = r.mutual_information(x, y)
            value = r.mutual_information(x.to(device), y.to(device))
            assert value.item() == close(expected)

    @given(hnp.arrays(np.int8, st.integers(2, 12), unique=True))
    @settings(max_examples=30)
    def test_the_same_integers_in_another_type(self, x):
        expected = MatrixRenyi().entropy(x)
        for dtype in (torch.int16, torch.int64, torch.bfloat16, torch.float32, torch.float64):
            assert MatrixRenyi().entropy(torch.tensor(x).to(dtype)) == expected

    def test_integers_beyond_float32(self):
        x = torch.tensor([2**40, 2**40 + 1, 2**40 + 3])
        assert MatrixRenyi().entropy(x) == MatrixRenyi().entropy([0, 1, 3])

    def test_trailing_axes_are_flattened(self):
        x = normal(10, 2, 3, 4)
        assert MatrixRenyi().entropy(x) == MatrixRenyi().entropy(x.reshape(10, 24))
        assert MatrixRenyi().entropy(x[:, 0, 0, 0]) == MatrixRenyi().entropy(x[:, 0, 0, :1])

    def test_the_argument_is_left_as_it_was(self):
        x = normal(10, 2)
        before, version = x.clone(), x._version
        for bandwidth in BANDWIDTHS:
            MatrixRenyi(bandwidth=bandwidth).total_correlation(x)
        assert torch.equal(x, before)
        assert x._version == version

    def test_no_random_number_is_drawn(self):
        x = normal(10, 2)
        state = torch.random.get_rng_state()
        MatrixRenyi().mutual_information(x, x)
        assert torch.equal(torch.random.get_rng_state(), state)


class TestBadInput:
    def test_names_in_messages(self):
        x, bad = torch.arange(3.0), torch.tensor([0, 1, math.nan])
        r = MatrixRenyi()
        with pytest.raises(ValueError, match=r"^x: expected finite values, got 1 NaN"):
            r.entropy(bad)
        with pytest.raises(ValueError, match=r"^y: expected finite values, got 1 NaN"):
            r.mutual_information(x, bad)
        with pytest.raises(ValueError, match=r"^z: expected finite values, got 1 NaN"):
            r.conditional_mutual_information(x, x, bad)
        with pytest.raises(ValueError, match=r"^xs\[1\]: expected finite values, got 1 NaN"):
            r.joint_entropy(x, bad)
        with pytest.raises(TypeError, match=r"^x: expected a tensor or an array of real numbers"):
            r.kernel_width("no")

    def test_numbers_of_samples(self):
        r = MatrixRenyi()
        with pytest.raises(ValueError, match=r"x, y: expected as many samples.* x has 5, y has 6"):
            r.mutual_information(torch.rand(5), torch.rand(6))
        with pytest.raises(ValueError, match="x: expected at least 2 samples"):
            r.entropy(torch.rand(1, 9))
        with pytest.raises(TypeError, match="xs: expected at least one variable, got none"):
            r.joint_entropy()

    def test_too_many_ties_for_a_median(self):
        x = torch.tensor([0.0, 0.0, 0.0, 5.0])
        message = r"x: .*'median', but 3 of 6 pairs are equal.* Pass a number as the bandwidth"
        with pytest.raises(ValueError, match=message):
            MatrixRenyi().entropy(x)
        with pytest.raises(ValueError, match=r"x\[:, 1\]: .* 3 of 6 pairs are equal"):
            MatrixRenyi().total_correlation(torch.stack([torch.arange(4), x], 1))
        assert MatrixRenyi().kernel_width(torch.tensor([0.0, 0.0, 5.0, 5.0])).item() == 5.0

    def test_ties_are_found_far_from_zero(self):
        row = normal(1, 50) + 1e6
        with pytest.raises(ValueError, match="6 of 6 pairs are equal"):
            MatrixRenyi().entropy(row.expand(4, 50))

    def test_nothing_to_standardise(self):
        with pytest.raises(ValueError, match=r"x: .*all 7 samples are equal\. Pass a number"):
            MatrixRenyi(bandwidth="tapia").entropy(torch.full((7, 2), 0.1))

    @pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-160, 1e155, 1e200, 1e300])
    def test_standardised_features_have_no_scale(self, scale):
        estimator, x = MatrixRenyi(alpha=0.5, bandwidth="tapia"), normal(20, 2)
        scales = torch.tensor([scale, 1.0], dtype=torch.float64)
        assert estimator.entropy(x * scales) == pytest.approx(float(estimator.entropy(x)))

    @pytest.mark.parametrize(
        ("bandwidth", "scale"),
        [
            ("median", 1e200),
            (1.0, 1e200),
            ("median", 1e-162),
            ("median", 1e-200),
        ],
    )
    def test_squares_that_float64_does_not_hold(self, bandwidth, scale):
        with pytest.raises(ValueError, match=r"x: .*fit into float64, got .*Rescale"):
            MatrixRenyi(bandwidth=bandwidth).entropy(normal(5, 2) * scale)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"alpha": 0}, ValueError, "alpha: expected a positive number, got 0"),
            ({"alpha": -1}, ValueError, "alpha: expected a finite number"),
            ({"alpha": math.inf}, ValueError, "alpha: expected a finite number"),
            ({"alpha": "1"}, TypeError, "alpha: expected a number, got '1'"),
            ({"bandwidth": 0.0}, ValueError, "bandwidth: expected a positive number, got 0.0"),
            ({"bandwidth": -2}, ValueError, "bandwidth: expected a finite number"),
            ({"bandwidth": None}, TypeError, "bandwidth: expected a number, got None"),
            (
                {"bandwidth": "silverman"},
                ValueError,
                "bandwidth: expected one of 'median', 'scott', 'tapia', got 'silverman'",
            ),
            (
                {"bandwidth": "tapia", "gamma": 0},
                ValueError,
                "gamma: expected a positive number, got 0",
            ),
            ({"gamma": 5}, ValueError, "gamma: expected 1 with bandwidth='median'.* got 5"),
            ({"bandwidth": 2.0, "gamma": 5}, ValueError, "gamma: expected 1 with bandwidth=2.0"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            MatrixRenyi(**settings)
