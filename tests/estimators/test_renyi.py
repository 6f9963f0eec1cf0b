import math

import mpmath  # comes with torch
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infoprobe.estimators.renyi import MatrixRenyi
from tests.estimators.renyi_cases import (
    ALPHAS,
    BANDWIDTHS,
    alphas,
    bandwidths,
    close,
    usable,
    variables,
)
from tests.estimators.samples import normal
from tests.textbook_renyi import textbook_entropy, textbook_kernel, textbook_width


class TestClosedForms:
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_samples_that_coincide_have_no_entropy(self, alpha):
        x = torch.full((20, 3), 1.7)
        assert MatrixRenyi(alpha, 0.5).entropy(x).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_samples_far_apart_have_the_most(self, alpha):
        x = torch.arange(20) * 100
        assert MatrixRenyi(alpha, 1).entropy(x).item() == close(math.log(20))

    @pytest.mark.parametrize("alpha", [0.1, *ALPHAS, 1000])
    @pytest.mark.parametrize("k", [0.01, 0.5, 0.9])
    def test_two_samples(self, alpha, k):
        # Two points at the distance d have the eigenvalues (1 +- k) / 2 with k = exp(-d^2 / 2).
        x = torch.tensor([0.0, math.sqrt(-2 * math.log(k))], dtype=torch.float64)
        large, small = (1 + k) / 2, (1 - k) / 2
        if alpha == 1:
            expected = -large * math.log(large) - small * math.log(small)
        else:
            log_trace = alpha * math.log(large) + math.log1p((small / large) ** alpha)
            expected = log_trace / (1 - alpha)
        assert MatrixRenyi(alpha, 1).entropy(x).item() == close(expected)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_clusters_far_apart_are_a_discrete_variable(self, alpha):
        p = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
        x = torch.tensor([0.0] * 1 + [100.0] * 2 + [200.0] * 7)
        expected = -(p * p.log()).sum() if alpha == 1 else (p**alpha).sum().log() / (1 - alpha)
        assert MatrixRenyi(alpha, 1).entropy(x).item() == close(expected, abs=1e-6)

    def test_orders_near_1_and_2_approach_them(self):
        x = normal(30, 2)
        for alpha in (1, 2):
            expected = MatrixRenyi(alpha).entropy(x).item()
            for step in (1e-6, 1e-9, 1e-12, 2.0**-52):
                for order in (alpha - step, alpha + step):
                    value = MatrixRenyi(order).entropy(x).item()
                    assert value == pytest.approx(expected, abs=2 * step + 1e-13)

    def test_it_falls_with_the_order(self):
        values = [MatrixRenyi(alpha).entropy(normal(30, 2)).item() for alpha in ALPHAS]
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] > 1

    def test_a_product_of_kernels_is_the_kernel_of_the_joint_vector(self):
        x, y, z = normal(25, 2), normal(25, 3, seed=1), normal(25, seed=2)
        r = MatrixRenyi(bandwidth=1.3)
        joint = r.entropy(torch.cat([x, y, z[:, None]], 1))
        assert r.joint_entropy(x, y, z).item() == close(joint)
        assert r.joint_entropy(x).item() == r.entropy(x).item()

    def test_information_of_a_variable_with_itself_is_no_entropy(self):
        # A∘A is the kernel matrix at a width that is smaller by sqrt(2).
        x = normal(25, 2)
        narrow = MatrixRenyi(bandwidth=0.8 / math.sqrt(2)).entropy(x)
        r = MatrixRenyi(bandwidth=0.8)
        expected = 2 * r.entropy(x) - narrow
        assert r.mutual_information(x, x).item() == close(expected)
        assert expected < r.entropy(x) - 0.1

    def test_a_constant_tells_nothing(self):
        x, y, constant = normal(25, 2), normal(25, seed=1), torch.ones(25)
        r = MatrixRenyi(bandwidth=0.8)
        assert r.joint_entropy(x, constant).item() == close(r.entropy(x))
        assert r.mutual_information(x, constant).item() == pytest.approx(0, abs=1e-12)
        information = r.mutual_information(x, y)
        assert r.conditional_mutual_information(x, y, constant).item() == close(information)

    @pytest.mark.parametrize("bandwidth", BANDWIDTHS)
    def test_conditional_information_closes_the_chain(self, bandwidth):
        # I(X; Z) + I(X; Y | Z) = I(X; Y, Z)
        x, y, z = normal(25, 2), normal(25, seed=1), normal(25, 4, seed=2)
        r = MatrixRenyi(bandwidth=bandwidth)
        joint = r.entropy(x) + r.joint_entropy(y, z) - r.joint_entropy(x, y, z)
        chain = r.mutual_information(x, z) + r.conditional_mutual_information(x, y, z)
        assert chain.item() == close(joint)

    @pytest.mark.parametrize("bandwidth", BANDWIDTHS)
    def test_total_correlation_sums_up_information(self, bandwidth):
        # TC(X1, X2, X3) = I(X1; X2) + I(X1, X2; X3)
        x = normal(25, 3)
        a, b, c = x.unbind(1)
        r = MatrixRenyi(bandwidth=bandwidth)
        last = r.joint_entropy(a, b) + r.entropy(c) - r.joint_entropy(a, b, c)
        expected = r.mutual_information(a, b) + last
        assert r.total_correlation(x).item() == close(expected)
        assert r.total_correlation(x.reshape(25, 3, 1)).item() == close(expected)
        assert r.total_correlation(a).item() == 0.0

    def test_clusters_have_the_information_of_a_table(self):
        # One sample in each of (0, 1) and (1, 0), and two in (1, 1).
        x, y = torch.tensor([0, 1, 1, 1]) * 100, torch.tensor([1, 0, 1, 1]) * 100
        shannon = math.log(4) - 0.75 * math.log(3) + math.log(2) / 2 - 0.75 * math.log(3)
        assert MatrixRenyi(1, 1).mutual_information(x, y).item() == close(shannon)
        # Below 0: Rényi entropies of orders other than 1 are not subadditive.
        collisions = 2 * -math.log(10 / 16) + math.log(6 / 16)
        assert collisions < -0.04
        assert MatrixRenyi(2, 1).mutual_information(x, y).item() == close(collisions)

    def test_independence_is_rarely_zero(self):
        x, y = normal(2, 500, 2)
        assert MatrixRenyi().mutual_information(x, y).item() == pytest.approx(0.04, abs=0.015)
        tapia = MatrixRenyi(bandwidth="tapia").mutual_information(x, y).item()
        assert tapia == pytest.approx(1.0, abs=0.06)


class TestKernelWidth:
    def test_median(self):
        # Distances of pairs: 1, 2, 3, 4, 6, 7; the lower one of the middle two.
        x = torch.tensor([0.0, 1.0, 3.0, 7.0])
        assert MatrixRenyi().kernel_width(x).item() == 3.0
        # 1, 2, 3: the middle one.
        assert MatrixRenyi().kernel_width(x[:3]).item() == 2.0

    def test_rules(self):
        x = 3 * normal(50, 2, 4)
        scott = MatrixRenyi(bandwidth="scott", gamma=5).kernel_width(x).item()
        assert scott == pytest.approx(5 * 50 ** (-1 / 12))
        tapia = MatrixRenyi(bandwidth="tapia").kernel_width(x).item()
        assert tapia == pytest.approx(math.sqrt(8) * 50 ** (-1 / 12))
        assert MatrixRenyi(bandwidth=0.3).kernel_width(x).item() == 0.3

    @pytest.mark.parametrize("bandwidth", ["median", "scott"])
    def test_it_is_the_one_that_is_used(self, bandwidth):
        x = normal(30, 2)
        r = MatrixRenyi(bandwidth=bandwidth)
        same = MatrixRenyi(bandwidth=r.kernel_width(x).item())
        assert r.entropy(x).item() == close(same.entropy(x))

    def test_tapia_standardises_what_varies(self):
        x = normal(11, 2) * torch.tensor([1e-9, 1e9]) + 0.1
        r = MatrixRenyi(bandwidth="tapia")
        width = r.kernel_width(x).item()
        expected = MatrixRenyi(bandwidth=width).entropy((x - x.mean(0)) / x.std(0, correction=0))
        assert r.entropy(x).item() == close(expected, abs=1e-6)
        # Constant features count in d alone, also where rounding keeps their mean from them.
        constants = torch.tensor([0.1, 0.3, 1 / 3, 0.7, 3.14159], dtype=torch.float64)
        padded = torch.cat([x, constants.expand(11, 5)], 1)
        assert (padded != padded.mean(0))[:, 2:].any()
        assert r.kernel_width(padded).item() == pytest.approx(math.sqrt(7) * 11 ** (-1 / 11))
        ratio = r.kernel_width(padded).item() / r.kernel_width(x).item()
        scaled = MatrixRenyi(bandwidth="tapia", gamma=ratio)
        assert r.entropy(padded).item() == close(scaled.entropy(x))


class TestAgainstTheTextbook:
    @given(variables(3), alphas, st.sampled_from(["median", "scott", "tapia", 0.7]))
    @settings(max_examples=50)
    def test_all_measures(self, xyz, alpha, bandwidth):
        assume(usable(*xyz))
        x, y, z = xyz
        a, b, c = (textbook_kernel(v, bandwidth) for v in xyz)

        def s(*kernels):
            return textbook_entropy(alpha, *kernels)

        tolerance = 1e-6 if alpha < 1 else 1e-10
        r = MatrixRenyi(alpha, bandwidth)
        expected = textbook_width(x, bandwidth)
        assert r.kernel_width(x).item() == close(expected)
        assert r.entropy(x).item() == close(s(a), tolerance)
        assert r.joint_entropy(x, y, z).item() == close(s(a, b, c), tolerance)
        mutual = s(a) + s(b) - s(a, b)
        assert r.mutual_information(x, y).item() == close(mutual, tolerance)
        conditional = s(a, c) + s(b, c) - s(c) - s(a, b, c)
        assert r.conditional_mutual_information(x, y, z).item() == close(conditional, tolerance)
        columns = [x[:, j : j + 1] for j in range(x.shape[1])]
        assume(usable(*columns))
        kernels = [textbook_kernel(column, bandwidth) for column in columns]
        total = sum(map(s, kernels)) - s(*kernels)
        assert r.total_correlation(x).item() == close(total, tolerance)

    @pytest.mark.parametrize("bandwidth", ["scott", "tapia"])
    def test_gamma(self, bandwidth):
        x = normal(30, 2).numpy()
        expected = textbook_entropy(1.01, textbook_kernel(x, bandwidth, gamma=2.5))
        value = MatrixRenyi(bandwidth=bandwidth, gamma=2.5).entropy(x)
        assert value.item() == close(expected, 1e-10)


class TestProperties:
    @given(variables(2), alphas, bandwidths)
    def test_bounds(self, xy, alpha, bandwidth):
        assume(usable(*xy))
        x, y = xy
        r = MatrixRenyi(alpha, bandwidth)
        joint = r.joint_entropy(x, y).item()
        tolerance = 1e-6 if alpha < 1 else 1e-10
        assert -tolerance <= r.entropy(x).item() <= joint + tolerance
        assert joint <= math.log(len(x)) + tolerance

    @given(variables(3), bandwidths)
    @settings(max_examples=50)
    def test_von_neumann_information_is_not_negative(self, xyz, bandwidth):
        assume(usable(*xyz))
        x, y, z = xyz
        r = MatrixRenyi(1, bandwidth)
        assert r.mutual_information(x, y).item() >= -1e-10
        assert r.conditional_mutual_information(x, y, z).item() >= -1e-10

    @given(variables(3), alphas, bandwidths, st.randoms(use_true_random=False))
    @settings(max_examples=50)
    def test_order_does_not_matter(self, xyz, alpha, bandwidth, random):
        assume(usable(*xyz))
        x, y, z = xyz
        r = MatrixRenyi(alpha, bandwidth)
        tolerance = 1e-6 if alpha < 1 else 1e-10
        expected = r.conditional_mutual_information(x, y, z)
        assert r.conditional_mutual_information(y, x, z).item() == close(expected, tolerance)
        assert r.mutual_information(y, x).item() == close(r.mutual_information(x, y), tolerance)
        rows = list(range(len(x)))
        random.shuffle(rows)
        shuffled = r.conditional_mutual_information(x[rows], y[rows], z[rows])
        assert shuffled.item() == close(expected, tolerance)

    @given(variables(1), alphas, bandwidths, st.integers(-1000, 1000))
    def test_translation(self, xs, alpha, bandwidth, offset):
        assume(usable(*xs))
        (x,) = xs
        r = MatrixRenyi(alpha, bandwidth)
        assert r.entropy(x + offset).item() == close(r.entropy(x), 1e-6 if alpha < 1 else 1e-10)

    @given(variables(1), alphas, st.sampled_from(["scott", 0.7]), st.integers(0, 99))
    def test_rotation(self, xs, alpha, bandwidth, seed):
        (x,) = xs
        rotation = torch.linalg.qr(normal(x.shape[1], x.shape[1], seed=seed)).Q.numpy()
        r = MatrixRenyi(alpha, bandwidth)
        tolerance = 1e-6 if alpha < 1 else 1e-10
        assert r.entropy(x @ rotation).item() == close(r.entropy(x), tolerance)

    def test_rotation_keeps_the_median(self):
        x = normal(30, 4)
        rotated = x @ torch.linalg.qr(normal(4, 4, seed=1)).Q
        assert MatrixRenyi().entropy(rotated).item() == close(MatrixRenyi().entropy(x))

    @given(variables(1), alphas, st.integers(-20, 20))
    def test_scaling(self, xs, alpha, exponent):
        assume(usable(*xs))
        (x,) = xs
        scaled = x * 2.0**exponent
        tolerance = 1e-6 if alpha < 1 else 1e-10
        for bandwidth in ("median", "tapia"):
            r = MatrixRenyi(alpha, bandwidth)
            assert r.entropy(scaled).item() == close(r.entropy(x), tolerance)
        tapia, factors = MatrixRenyi(alpha, "tapia"), 2.0 ** np.arange(x.shape[1])
        assert tapia.entropy(x * factors).item() == close(tapia.entropy(x), tolerance)
        width = MatrixRenyi(alpha, 0.7 * 2.0**exponent)
        assert width.entropy(scaled).item() == close(MatrixRenyi(alpha, 0.7).entropy(x), tolerance)


class TestAccuracy:
    @pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9, 1, 1.01, 2, 5])
    def test_against_arithmetic_of_50_digits(self, alpha):
        # A third of the eigenvalues lie below the rounding of float64, the least at 1e-29.
        n = 20
        with mpmath.workdps(50):
            kernel = mpmath.matrix(n, n)
            for i in range(n):
                for j in range(n):
                    kernel[i, j] = mpmath.exp(-(mpmath.mpf(i - j) ** 2) / 128) / n
            eigenvalues = mpmath.eigsy(kernel, eigvals_only=True)
            if alpha == 1:
                expected = -sum(v * mpmath.log(v) for v in eigenvalues)
            else:
                expected = mpmath.log(sum(v**alpha for v in eigenvalues)) / (1 - alpha)
        value = MatrixRenyi(alpha, 8).entropy(torch.arange(n)).item()
        assert value == pytest.approx(float(expected), abs=1e-14 + n * 10 ** (-16 * alpha))

    def test_order_2_needs_no_eigenvalues(self, monkeypatch):
        x = normal(10, 2)
        monkeypatch.delattr(torch.linalg, "eigvalsh")
        assert MatrixRenyi(2).entropy(x) > 0
        with pytest.raises(AttributeError, match="eigvalsh"):
            MatrixRenyi(3).entropy(x)

    @pytest.mark.parametrize("bandwidth", BANDWIDTHS)
    def test_an_offset_costs_no_digits(self, bandwidth):
        # Values in float32 far from 0: their differences are exact in float64.
        x = (normal(100, 20) + 1000).float()
        r = MatrixRenyi(bandwidth=bandwidth)
        assert r.entropy(x).item() == close(r.entropy(x.double() - 1000))
        near = normal(100, 20).requires_grad_()
        far = (near.detach() + 1e6).requires_grad_()
        values = [r.entropy(near), r.entropy(far)]
        assert values[1].item() == pytest.approx(values[0].item(), abs=1e-8)
        for value in values:
            value.backward()
        assert torch.allclose(far.grad, near.grad, rtol=1e-6, atol=1e-9)

    def test_close_pairs_are_told_apart(self):
        # Within each pair, the distance is 1e-8 of that between the pairs.
        x = torch.tensor([0, 1e-8, 1, 1 + 1e-8], dtype=torch.float64)
        two = MatrixRenyi(bandwidth=1).entropy([0.0, 1.0]).item() + math.log(2)
        assert MatrixRenyi(bandwidth=1e-8).entropy(x).item() == pytest.approx(two, abs=1e-6)

    def test_extreme_widths(self):
        x = normal(10, 2).requires_grad_()
        narrow, wide = (MatrixRenyi(bandwidth=width).entropy(x) for width in (1e-200, 1e200))
        assert narrow.item() == close(math.log(10))
        assert wide.item() == close(0)
        narrow.backward()
        assert torch.equal(x.grad, torch.zeros_like(x))

    @pytest.mark.parametrize("scale", [1e-100, 1e100])
    def test_extreme_scales(self, scale):
        x = normal(10, 2)
        for bandwidth in ("median", "tapia"):
            r = MatrixRenyi(bandwidth=bandwidth)
            assert r.entropy(x * scale).item() == close(r.entropy(x))
