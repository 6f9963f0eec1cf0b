import math

import mpmath  # comes with torch
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infoprobe.estimators.renyi import MatrixRenyi

ALPHAS = [0.5, 0.9, 1, 1.01, 1.5, 2, 3, 50]
BANDWIDTHS = ["median", "scott", "tapia", 0.7]

alphas = st.sampled_from(ALPHAS)
bandwidths = st.sampled_from(BANDWIDTHS)


def variables(count, d=3):
    """As many variables with equally many samples, ties among them included."""
    # Eighths are exact, so that equal distances stay equal.
    elements = st.integers(-40, 40).map(lambda i: i / 8)
    return st.integers(3, 12).flatmap(
        lambda n: st.tuples(
            *[
                st.integers(1, d).flatmap(
                    lambda width: hnp.arrays(np.float64, (n, width), elements=elements)
                )
                for _ in range(count)
            ]
        )
    )


def usable(*xs):
    """Whether all kernel widths are positive, and all features vary."""
    median = all(textbook_width(x, "median") > 0 for x in xs)
    return median and all((x != x[0]).any() for x in xs)


def textbook_distance(a, b):
    return math.sqrt(sum((float(u) - float(v)) ** 2 for u, v in zip(a, b, strict=True)))


def textbook_width(x, bandwidth, gamma=1.0):
    n, d = x.shape
    if bandwidth == "median":
        pairs = sorted(textbook_distance(x[i], x[j]) for i in range(n) for j in range(i))
        return pairs[(len(pairs) - 1) // 2]
    if bandwidth == "scott":
        return gamma * n ** (-1 / (4 + d))
    if bandwidth == "tapia":
        return gamma * math.sqrt(d) * n ** (-1 / (4 + d))
    return bandwidth


def textbook_kernel(x, bandwidth, gamma=1.0):
    n = len(x)
    width = textbook_width(x, bandwidth, gamma)
    if bandwidth == "tapia":
        spread = x.std(0)
        x = np.stack([c / s if s > 0 else 0 * c for c, s in zip(x.T, spread, strict=True)], 1)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            kernel[i, j] = math.exp(-(textbook_distance(x[i], x[j]) ** 2) / (2 * width**2))
    return kernel


def textbook_entropy(alpha, *kernels):
    product = np.ones_like(kernels[0])
    for kernel in kernels:
        product = product * kernel
    eigenvalues = np.linalg.eigvalsh(product / np.trace(product))
    eigenvalues = eigenvalues[eigenvalues > 1e-15]
    if alpha == 1:
        return -sum(v * math.log(v) for v in eigenvalues)
    return math.log(sum(v**alpha for v in eigenvalues)) / (1 - alpha)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def close(value, abs=1e-12):
    return pytest.approx(float(value), abs=abs, rel=1e-9)


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

    @pytest.mark.parametrize(
        ("bandwidth", "scale"), [("median", 1e200), (1.0, 1e200), ("tapia", 1e-200)]
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
