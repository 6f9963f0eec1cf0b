import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infoprobe.estimators import Gaussian
from tests.estimators.gaussian_cases import MEASURES, SHRINKAGES, arguments, mixture
from tests.estimators.samples import normal


class TestProperties:
    @given(st.data())
    @settings(max_examples=40)
    def test_maps_of_the_data(self, drawn):
        d, seed = drawn.draw(st.integers(1, 5)), drawn.draw(st.integers(0, 100))
        x = normal(30, d, seed=seed)
        q = 1.5 * normal(25, d, seed=seed + 1) + 0.5
        a = mixture(d, seed=seed + 2) * 10 ** drawn.draw(st.floats(-11, 11))
        offset = drawn.draw(st.floats(-1e3, 1e3)) * a.abs().max()
        order = torch.from_numpy(np.random.default_rng(seed).permutation(30))
        mapped, mapped_q = (x @ a + offset)[order], q @ a + offset
        volume = torch.linalg.slogdet(a)[1].item()
        g = Gaussian()
        expected = g.entropy(x).item() + volume
        assert g.entropy(mapped).item() == pytest.approx(expected, abs=1e-6)
        expected = g.cross_entropy(x, q).item() + volume
        assert g.cross_entropy(mapped, mapped_q).item() == pytest.approx(expected, abs=1e-6)
        expected = g.kl_divergence(x, q).item()
        assert g.kl_divergence(mapped, mapped_q).item() == pytest.approx(expected, abs=1e-6)
        y = torch.cat([x[:, :1], x.sum(1, keepdim=True)], 1) + normal(30, 2, seed=seed + 3)
        expected = g.mutual_information(x, y).item()
        information = g.mutual_information(mapped, -1e-7 * y[order] + 3).item()
        assert information == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_rotations_and_scalings_of_shrunk_fits(self, shrinkage):
        g = Gaussian(shrinkage)
        x = arguments("entropy")[0]
        rotation, _ = torch.linalg.qr(normal(3, 3, seed=9))
        expected = g.entropy(x).item()
        for scale in (1e-11, 1, 1e11):
            value = g.entropy(scale * (x @ rotation + 100)).item() - 3 * math.log(scale)
            assert value == pytest.approx(expected, abs=1e-8)

    @given(st.permutations(range(5)), st.sampled_from(SHRINKAGES))
    @settings(max_examples=30)
    def test_the_order_of_features_does_not_matter(self, order, shrinkage):
        g = Gaussian(shrinkage)
        x = normal(40, 5) @ mixture(5)
        y = x[:, :2] + normal(40, 2, seed=1)
        for measure, rest in (("entropy", ()), ("total_correlation", ())):
            expected = getattr(g, measure)(x, *rest).item()
            assert getattr(g, measure)(x[:, order], *rest).item() == pytest.approx(expected)
        expected = g.mutual_information(x, y).item()
        assert g.mutual_information(x[:, order], y).item() == pytest.approx(expected)

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_identities(self, shrinkage):
        g = Gaussian(shrinkage)
        p, q = arguments("kl_divergence")
        difference = (g.cross_entropy(p, q) - g.entropy(p)).item()
        assert g.kl_divergence(p, q).item() == pytest.approx(difference, abs=1e-9)
        x, y, z = arguments("conditional_mutual_information")
        symmetric = g.mutual_information(y, x).item()
        assert g.mutual_information(x, y).item() == pytest.approx(symmetric, abs=1e-9)
        symmetric = g.conditional_mutual_information(y, x, z).item()
        conditional = g.conditional_mutual_information(x, y, z).item()
        assert conditional == pytest.approx(symmetric, abs=1e-9)
        if shrinkage in (None, 0.0):
            # One covariance for all terms: I(X; Y, Z) = I(X; Z) + I(X; Y | Z).
            chain = g.mutual_information(x, z).item() + conditional
            whole = g.mutual_information(x, torch.cat([y, z], 1)).item()
            assert whole == pytest.approx(chain, abs=1e-9)
            # TC(X) = I(X1; X2) + I(X1, X2; X3)
            parts = g.mutual_information(x[:, :1], x[:, 1:2])
            parts += g.mutual_information(x[:, :2], x[:, 2:])
            assert g.total_correlation(x).item() == pytest.approx(parts.item(), abs=1e-9)

    def test_one_feature_has_no_total_correlation(self):
        assert Gaussian().total_correlation(normal(20)).item() == 0

    def test_a_distribution_does_not_diverge_from_itself_when_plugged_in(self):
        p, _ = arguments("kl_divergence")
        for shrinkage in (0, 0.3, "ledoit-wolf"):
            assert Gaussian(shrinkage).kl_divergence(p, p).item() == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_gradients_equal_finite_differences(self, measure, shrinkage):
        tensors = [x.requires_grad_() for x in arguments(measure, n=12, m=11)]
        assert torch.autograd.gradcheck(getattr(Gaussian(shrinkage), measure), tensors)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_types_and_devices(self, measure, dtype, device):
        tensors = [x.to(dtype) for x in arguments(measure)]
        copies = [x.clone() for x in tensors]
        for shrinkage in SHRINKAGES:
            method = getattr(Gaussian(shrinkage), measure)
            value = method(*(x.to(device) for x in tensors))
            assert value.dtype == torch.float64
            assert value.dim() == 0
            assert value.device.type == device
            assert not value.requires_grad
            expected = method(*(x.double() for x in tensors)).item()
            assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert all(torch.equal(x, copy) for x, copy in zip(tensors, copies, strict=True))

    @pytest.mark.parametrize("measure", MEASURES)
    def test_whatever_follows_the_first_axis_is_flattened(self, measure):
        tensors = [x[:, :1] for x in arguments(measure)]
        method = getattr(Gaussian(), measure)
        expected = method(*tensors).item()
        assert method(*(x.flatten() for x in tensors)).item() == expected
        assert method(*(x[:, :, None, None].numpy() for x in tensors)).item() == expected
        assert method(*(x.tolist() for x in tensors)).item() == expected

    @pytest.mark.parametrize("measure", MEASURES)
    def test_the_callers_settings_do_not_matter(self, measure):
        tensors = [x.float() for x in arguments(measure)]
        method = getattr(Gaussian(), measure)
        expected = method(*tensors).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert method(*tensors).item() == expected
        with torch.inference_mode():
            assert method(*tensors).item() == expected
        with torch.device("meta"):
            assert method(*tensors).item() == expected
        torch.set_default_dtype(torch.float64)
        try:
            assert method(*tensors).item() == expected
        finally:
            torch.set_default_dtype(torch.float32)


class TestPrecision:
    def test_an_offset_far_beyond_the_spread(self):
        centred = 0.01 * normal(900, 784)
        shifted = (centred + 100).float()
        expected = Gaussian().entropy(centred).item()
        assert Gaussian().entropy(shifted).item() == pytest.approx(expected, abs=1e-3 * 784)
        shifted = centred + 100
        assert Gaussian().entropy(shifted).item() == pytest.approx(expected, abs=1e-8 * 784)

    def test_determinants_beyond_the_range_of_floats(self):
        x = normal(900, 784)
        for scale in (1e-11, 1e11):
            value = Gaussian().entropy(x * scale).item() - 784 * math.log(scale)
            assert value == pytest.approx(Gaussian().entropy(x).item(), rel=1e-9)

    def test_features_of_very_different_scales(self):
        x, y = arguments("mutual_information")
        scales = 10 ** torch.linspace(-30, 30, 3, dtype=torch.float64)
        expected = Gaussian().mutual_information(x, y).item()
        assert Gaussian().mutual_information(x * scales, y).item() == pytest.approx(expected)

    def test_nearly_redundant_features_are_not_refused(self):
        x = normal(500, 3)
        y = x + 1e-6 * normal(500, 3, seed=1)
        information = Gaussian().mutual_information(x, y).item()
        assert information == pytest.approx(3 * math.log(1e6), abs=0.3)

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_beyond_the_range_of_squares_it_says_so(self, scale):
        with pytest.raises(ValueError, match=r"(?i)rescale"):
            Gaussian().entropy(normal(20, 3) * scale)

    @pytest.mark.parametrize("scale", [1e-155, 1e-162])
    def test_so_it_does_of_a_single_feature(self, scale):
        scales = torch.tensor([1.0, scale, 1.0], dtype=torch.float64)
        with pytest.raises(ValueError, match=r"^x: .*fit into float64.* Rescale"):
            Gaussian().entropy(normal(20, 3) * scales)


class TestErrors:
    def test_samples_must_outnumber_features(self):
        for n, d in ((2, 2), (5, 5), (5, 6), (4, 100)):
            x = normal(n, d)
            message = rf"^x: expected more samples than features, got n={n} and d={d}\."
            for measure in ("entropy", "total_correlation"):
                with pytest.raises(ValueError, match=message + " .*shrinkage='ledoit-wolf'"):
                    getattr(Gaussian(), measure)(x)
        x = normal(6, 3)
        assert Gaussian().entropy(x[:4]).isfinite()
        with pytest.raises(ValueError, match=r"^x, y: expected more samples .* n=6 and d=6"):
            Gaussian().mutual_information(x, x + 1)
        with pytest.raises(ValueError, match=r"^x, y, z: expected more samples"):
            Gaussian().conditional_mutual_information(x, *normal(6, 3, seed=1).split([2, 1], 1))

    def test_cross_entropies_need_a_few_more(self):
        p, q = normal(9, 4), normal(7, 4, seed=1)
        assert Gaussian().cross_entropy(p, q).isfinite()
        assert Gaussian().cross_entropy(p[:2], q).isfinite()
        for m in (2, 4, 5, 6):
            for measure in ("cross_entropy", "kl_divergence"):
                with pytest.raises(ValueError, match=rf"^q: expected at least d \+ 3 = 7 .* {m}"):
                    getattr(Gaussian(), measure)(p, q[:m])
        with pytest.raises(ValueError, match=r"^p: expected more samples than features"):
            Gaussian().kl_divergence(p[:4], q)

    def test_redundant_features(self):
        x = normal(60, 4)
        probabilities = torch.softmax(x, 1)
        for redundant in (
            torch.cat([x, x[:, :1]], 1),
            torch.cat([x, x @ normal(4, 2, seed=1)], 1),
            torch.cat([x, 1e-9 * x[:, :1] + 1e-9 * x[:, 1:2]], 1),
            probabilities,
        ):
            for dtype in (torch.float32, torch.float64):
                for measure in ("entropy", "total_correlation"):
                    with pytest.raises(ValueError, match=r"linear combination .* minus infinity"):
                        getattr(Gaussian(), measure)(redundant.to(dtype))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_redundant_features_on_two_sides(self, dtype):
        x = normal(60, 4).to(dtype)
        probabilities = torch.softmax(x, 1)
        pairs = [
            (x, x),
            (x, 3.3 * x[:, :1]),
            (x, x @ normal(4, 2, seed=1).to(dtype)),
            (probabilities[:, :2], probabilities[:, 2:]),
        ]
        for pair in pairs:
            with pytest.raises(ValueError, match=r"^x, y: .* linear combination .* infinite"):
                Gaussian().mutual_information(*pair)
        xyz = probabilities.split([1, 1, 2], 1)
        with pytest.raises(ValueError, match=r"^x, y, z: .* linear combination"):
            Gaussian().conditional_mutual_information(*xyz)

    def test_redundant_features_of_different_types(self):
        # What float32 rounds off 1 - p is 1e-6 of its spread.
        p = 0.5 + 0.01 * normal(60, 1)
        for pair in ((p, (1 - p).float()), (p.float(), 1 - p)):
            with pytest.raises(ValueError, match=r"^x, y: .* linear combination"):
                Gaussian().mutual_information(*pair)

    def test_constant_features(self):
        x = normal(20, 3)
        x[:, 1] = 0.1
        other = normal(20, 3, seed=1)
        for measure, tensors, name in (
            ("entropy", [x], "x"),
            ("total_correlation", [x], "x"),
            ("kl_divergence", [x, other], "p"),
            ("kl_divergence", [other, x], "q"),
            ("cross_entropy", [other, x], "q"),
            ("mutual_information", [x, other], "x, y"),
            ("conditional_mutual_information", [other, other[:, :1] ** 2, x], "x, y, z"),
        ):
            with pytest.raises(ValueError, match=rf"^{name}: .*got 1 constant of"):
                getattr(Gaussian(), measure)(*tensors)
        # A constant has no covariance to plug in either.
        with pytest.raises(ValueError, match=r"^x: "):
            Gaussian(0).entropy(x)
        with pytest.raises(ValueError, match=r"^x: "):
            Gaussian("ledoit-wolf").entropy(torch.ones(20, 3))
        assert Gaussian("ledoit-wolf").entropy(x).isfinite()

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_bad_samples(self, measure, shrinkage):
        tensors = arguments(measure)
        method = getattr(Gaussian(shrinkage), measure)
        names = "pq" if measure in ("cross_entropy", "kl_divergence") else "xyz"
        for i, x in enumerate(tensors):
            for bad in (math.nan, math.inf, -math.inf):
                broken = x.clone()
                broken[3, 0] = bad
                with pytest.raises(ValueError, match=rf"^{names[i]}: expected finite values"):
                    method(*tensors[:i], broken, *tensors[i + 1 :])
            for dtype in (torch.int64, torch.uint8, torch.bool):
                with pytest.raises(TypeError, match=rf"^{names[i]}: .*{dtype}.*Histogram"):
                    method(*tensors[:i], x.to(dtype), *tensors[i + 1 :])
            with pytest.raises(ValueError, match=rf"^{names[i]}: expected at least 2 samples"):
                method(*tensors[:i], x[:1], *tensors[i + 1 :])
            with pytest.raises(TypeError, match=rf"^{names[i]}: "):
                method(*tensors[:i], "abc", *tensors[i + 1 :])

    @pytest.mark.parametrize("shrinkage", SHRINKAGES)
    def test_samples_that_do_not_fit_together(self, shrinkage):
        g = Gaussian(shrinkage)
        for measure in ("cross_entropy", "kl_divergence"):
            with pytest.raises(ValueError, match="p has d=3, q has d=2"):
                getattr(g, measure)(normal(20, 3), normal(20, 2))
        with pytest.raises(ValueError, match="x has 20, y has 19"):
            g.mutual_information(normal(20, 3), normal(19, 2))
        with pytest.raises(ValueError, match="x has 20, y has 20, z has 21"):
            g.conditional_mutual_information(normal(20, 3), normal(20, 2), normal(21, 1))

    def test_shrinkage(self):
        for bad in ("oas", "Ledoit-Wolf", -0.1, 1.1, math.nan, math.inf):
            with pytest.raises(ValueError, match=r"^shrinkage: expected"):
                Gaussian(bad)
        for bad in (True, [0.1], torch.tensor([0.1, 0.2])):
            with pytest.raises(TypeError, match=r"^shrinkage: expected"):
                Gaussian(bad)
        assert Gaussian(np.float64(0.5)) == Gaussian(0.5)

    def test_it_is_frozen(self):
        with pytest.raises(AttributeError):
            Gaussian().shrinkage = 0.5
        assert not hasattr(Gaussian(), "js_divergence")
