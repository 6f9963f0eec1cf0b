import itertools
import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import infoprobe as ip
from infoprobe.estimators import KNN
from infoprobe.neighbors import nearest, tiles
from infoprobe.neighbors import points as points_module
from tests.estimators.knn.cases import (
    COUNT_MEASURES,
    MEASURES,
    METRICS,
    SAMPLE_MEASURES,
    arguments,
    near,
)
from tests.estimators.samples import normal


class TestProperties:
    @given(
        st.sampled_from(MEASURES),
        st.sampled_from(METRICS),
        st.integers(0, 1000),
        st.floats(-11, 11),
        st.floats(-1000, 1000),
        st.booleans(),
    )
    @settings(max_examples=60)
    def test_maps_of_all_data(self, measure, metric, seed, magnitude, offset, mirrored):
        tensors = arguments(measure, n=40, seed=seed)
        scale = 10**magnitude
        moved = [(-scale if mirrored else scale) * (x + offset) for x in tensors]
        gain = 3 * math.log(scale) if measure in ("entropy", "cross_entropy") else 0
        method = getattr(KNN(3, metric), measure)
        assert method(*moved).item() == near(method(*tensors).item() + gain, abs=1e-7)

    @given(
        st.sampled_from(MEASURES),
        st.sampled_from([None, "gaussian", "copula"]),
        st.lists(st.floats(-7, 7), min_size=3, max_size=3),
        st.integers(0, 1000),
    )
    @settings(max_examples=40)
    def test_units_of_single_features(self, measure, calibration, magnitudes, seed):
        if calibration == "copula" and measure in ("cross_entropy", "kl_divergence"):
            calibration = None
        tensors = arguments(measure, n=40, seed=seed)
        scale = 10.0 ** torch.tensor(magnitudes, dtype=torch.float64)
        moved = [scale[: x.shape[1]] * x for x in tensors]
        gain = float(scale.log().sum()) if measure in ("entropy", "cross_entropy") else 0
        method = getattr(KNN(3, calibration=calibration, repeats=1), measure)
        assert method(*moved).item() == near(method(*tensors).item() + gain, abs=1e-7)

    @given(
        st.sampled_from([None, "copula"]),
        st.sampled_from(COUNT_MEASURES),
        st.sampled_from([1, 2]),
        st.integers(0, 1000),
    )
    @settings(max_examples=40)
    def test_information_under_increasing_maps_of_features(
        self, calibration, measure, variant, seed
    ):
        tensors = arguments(measure, n=40, seed=seed)
        method = getattr(KNN(3, calibration=calibration, variant=variant), measure)
        for bijection in (torch.exp, torch.sinh, torch.asinh, lambda x: x**3, lambda x: 1e140 * x):
            assert method(*map(bijection, tensors)).item() == near(method(*tensors))
        labels = torch.arange(40) % 3
        x = tensors[0]
        expected = KNN().mutual_information(x, labels)
        assert KNN().mutual_information(5 - 3 * x, labels).item() == near(expected)
        # In float32 as well.
        x = x.float()
        expected = KNN().mutual_information(x, labels)
        assert KNN().mutual_information(x * 1e-30, labels).item() == near(expected)

    @given(
        st.sampled_from(MEASURES),
        st.sampled_from(METRICS),
        st.sampled_from([None, "gaussian"]),
        st.integers(0, 1000),
    )
    @settings(max_examples=40)
    def test_the_order_of_rows_and_features(self, measure, metric, calibration, seed):
        tensors = arguments(measure, n=40, m=30, seed=seed)
        generator = np.random.default_rng(seed)
        rows = [torch.from_numpy(generator.permutation(len(x))) for x in tensors]
        if measure not in ("cross_entropy", "kl_divergence"):
            rows = rows[:1] * len(rows)
        method = getattr(KNN(3, metric), measure)
        expected = method(*tensors).item()
        assert method(*(x[i] for x, i in zip(tensors, rows, strict=True))).item() == near(expected)
        assert method(*(x.flip(1) for x in tensors)).item() == near(expected)
        if calibration:
            # The same covariance makes the same surrogates.
            method = getattr(KNN(3, metric, calibration), measure)
            shuffled = method(*(x[i] for x, i in zip(tensors, rows, strict=True)))
            assert shuffled.item() == near(method(*tensors))

    @given(st.sampled_from(METRICS), st.integers(0, 1000), st.sampled_from([1, 2]))
    @settings(max_examples=30)
    def test_information_is_symmetric(self, metric, seed, variant):
        x, y, z = arguments("conditional_mutual_information", n=40, seed=seed)
        for calibration in (None, "copula"):
            estimator = KNN(3, metric, calibration, variant=variant)
            swapped = estimator.mutual_information(y, x).item()
            tolerance = 1e-9 if calibration is None else 0.5
            expected = estimator.mutual_information(x, y).item()
            assert swapped == pytest.approx(expected, abs=tolerance)
        estimator = KNN(3, metric)
        swapped = estimator.conditional_mutual_information(y, x, z).item()
        assert swapped == near(estimator.conditional_mutual_information(x, y, z))

    @pytest.mark.parametrize("variant", [1, 2])
    def test_total_correlation_of_two_is_information(self, variant):
        x = arguments("total_correlation", d=2)[0]
        for metric in METRICS:
            estimator = KNN(3, metric, variant=variant)
            expected = estimator.mutual_information(*x.split(1, 1))
            assert estimator.total_correlation(x).item() == near(expected)

    def test_the_chain_rule_holds_within_errors(self):
        x, y, z = arguments("conditional_mutual_information", n=3000, d=2)
        estimator = KNN(5)
        whole = estimator.mutual_information(x, torch.cat([y, z], 1)).item()
        parts = estimator.mutual_information(x, z)
        parts += estimator.conditional_mutual_information(x, y, z)
        assert whole == pytest.approx(parts.item(), abs=0.1)
        # TC(X1, X2, X3) = I(X1; X2) + I(X1, X2; X3)
        three = arguments("total_correlation", n=3000)[0]
        parts = estimator.mutual_information(three[:, :1], three[:, 1:2])
        parts += estimator.mutual_information(three[:, :2], three[:, 2:])
        value = estimator.total_correlation(three).item()
        assert value == pytest.approx(parts.item(), abs=0.1)

    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_cross_entropy_is_the_sum_of_entropy_and_divergence(self, calibration):
        p, q = arguments("cross_entropy")
        for metric in METRICS:
            estimator = KNN(3, metric, calibration)
            parts = (estimator.entropy(p) + estimator.kl_divergence(p, q)).item()
            # Surrogates of p are the same for each, as they are drawn first.
            assert estimator.cross_entropy(p, q).item() == near(parts)

    @pytest.mark.parametrize("variant", [1, 2])
    @pytest.mark.parametrize(
        "bijection",
        [torch.exp, torch.sinh, lambda x: x**3, lambda x: -7 * x - 3, torch.special.ndtr],
    )
    def test_information_under_bijections(self, bijection, variant):
        x = normal(3000, 1)
        y = x + 0.5 * normal(3000, 1, seed=1)
        expected = math.log(5) / 2
        estimator = KNN(5, variant=variant)
        assert estimator.mutual_information(bijection(x), y).item() == pytest.approx(
            expected, abs=0.07
        )

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_threads_and_blocks_change_nothing(self, measure, calibration):
        tensors = arguments(measure, n=200, m=150, d=9)
        method = getattr(KNN(calibration=calibration, repeats=1), measure)
        expected = method(*tensors)
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert method(*tensors).item() == near(expected)
        finally:
            torch.set_num_threads(threads)
        with (
            mock.patch.object(tiles, "_shape_of_tiles", return_value=(64, 128)),
            mock.patch.object(points_module, "BLOCK", 1000),
        ):
            assert method(*tensors).item() == near(expected)
        for tree in (False, True):
            with (
                mock.patch.object(nearest, "_tree_searches_faster", return_value=tree),
                mock.patch.object(nearest, "_tree_counts_faster", return_value=tree),
                mock.patch.object(tiles, "_SYMMETRIC_DIMENSIONS", 1),
            ):
                assert method(*tensors).item() == near(expected)

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_types_and_devices(self, measure, dtype, device):
        # Steps of bfloat16 leave some ties.
        tensors = [x.to(dtype) for x in arguments(measure)]
        copies = [x.clone() for x in tensors]
        method = getattr(KNN(10), measure)
        value = method(*(x.to(device) for x in tensors))
        assert value.dtype == torch.float64
        assert value.dim() == 0
        assert value.device.type == device
        assert value.item() == near(method(*(x.double() for x in tensors)))
        assert all(torch.equal(x, copy) for x, copy in zip(tensors, copies, strict=True))

    @pytest.mark.parametrize("measure", MEASURES[1:-1])
    def test_types_may_differ(self, measure):
        tensors = arguments(measure, d=9)
        method = getattr(KNN(), measure)
        for narrow in itertools.product([False, True], repeat=len(tensors)):
            mixed = [x.float() if small else x for x, small in zip(tensors, narrow, strict=True)]
            assert method(*mixed).item() == near(method(*(x.double() for x in mixed)))

    def test_types_that_differ_far_from_the_origin(self):
        p = (1e4 + 0.005 * normal(1000, 8)).float()
        q = 1e4 + 0.005 * normal(2000, 8, seed=1)
        for a, b in ((p, q), (q, p)):
            expected = KNN().kl_divergence(a.double(), b.double())
            assert KNN().kl_divergence(a, b).item() == near(expected)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_whatever_follows_the_first_axis_is_flattened(self, measure):
        tensors = arguments(measure)
        method = getattr(KNN(), measure)
        expected = method(*tensors).item()
        assert method(*(x[:, None, :, None].numpy() for x in tensors)).item() == expected
        assert method(*(x.tolist() for x in tensors)).item() == expected

    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_the_callers_settings_do_not_matter(self, measure, calibration):
        tensors = [x.float() for x in arguments(measure, d=9)]
        method = getattr(KNN(calibration=calibration), measure)
        expected = method(*tensors).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert method(*tensors).item() == expected
        with torch.inference_mode():
            assert method(*tensors).item() == expected
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            assert method(*tensors).item() == expected
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("measure", ["entropy", "kl_divergence", "mutual_information"])
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_the_default_dtype_does_not_matter(self, measure, calibration):
        tensors = [x.float() for x in arguments(measure, d=9)]
        method = getattr(KNN(calibration=calibration), measure)
        expected = method(*tensors).item()
        torch.set_default_dtype(torch.float64)
        try:
            assert method(*tensors).item() == expected
        finally:
            torch.set_default_dtype(torch.float32)

    @pytest.mark.parametrize("measure", ["entropy", "kl_divergence", "mutual_information"])
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    def test_the_default_device_does_not_matter(self, measure, calibration):
        for d in (2, 9):
            tensors = arguments(measure, d=d)
            method = getattr(KNN(calibration=calibration), measure)
            expected = method(*tensors).item()
            # Of a device without memory, any tensor made on it is found out.
            with torch.device("meta"):
                assert method(*tensors).item() == expected

    def test_by_functions_in_any_unit(self):
        x, y, z = arguments("conditional_mutual_information")
        bits = ip.entropy(x, KNN(), base=2).item()
        assert bits == near(KNN().entropy(x) / math.log(2))
        value = ip.conditional_mutual_information(x, y, z, KNN()).item()
        assert value == near(KNN().conditional_mutual_information(x, y, z))


class TestGradients:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("calibration", [None, "gaussian"])
    @pytest.mark.parametrize("measure", SAMPLE_MEASURES)
    def test_they_equal_finite_differences(self, measure, calibration, metric):
        tensors = [x.requires_grad_() for x in arguments(measure, n=9, m=8, d=2)]
        method = getattr(KNN(2, metric, calibration, repeats=2), measure)
        assert torch.autograd.gradcheck(method, tensors)

    @pytest.mark.parametrize("engine", ["tree", "tiles"])
    def test_a_loss_of_information(self, engine):
        x, y = (v.requires_grad_() for v in arguments("mutual_information", n=10, d=2))

        def loss(x, y):
            knn = KNN(2)
            return knn.entropy(x) + knn.entropy(y) - knn.entropy(torch.cat([x, y], 1))

        with mock.patch.object(nearest, "_tree_searches_faster", return_value=engine == "tree"):
            assert torch.autograd.gradcheck(loss, (x, y))

    def test_half_precision(self):
        x = normal(100, 9).half().requires_grad_()
        KNN().entropy(x).backward()
        assert x.grad.dtype == torch.float16
        assert x.grad.isfinite().all()
        assert x.grad.abs().max() > 0.001

    @pytest.mark.parametrize("calibration", [None, "gaussian", "copula"])
    @pytest.mark.parametrize("measure", COUNT_MEASURES)
    def test_counts_have_none(self, measure, calibration):
        tensors = [x.requires_grad_() for x in arguments(measure)]
        assert not getattr(KNN(calibration=calibration), measure)(*tensors).requires_grad

    def test_labels_have_none(self):
        x = normal(50, 2).requires_grad_()
        assert not KNN().mutual_information(x, torch.arange(50) % 2).requires_grad

    def test_ranks_have_none(self):
        assert not KNN(calibration="copula").entropy(normal(50, 2).requires_grad_()).requires_grad


class TestPrecision:
    def test_an_offset_far_beyond_the_spread(self):
        centred = 0.01 * normal(400, 784)
        p = (centred + 100).float()
        q = 0.01 * normal(400, 784, seed=1)
        for measure, others in (("entropy", []), ("cross_entropy", [q]), ("kl_divergence", [q])):
            for metric in METRICS:
                method = getattr(KNN(3, metric), measure)
                expected = method(centred, *others).item()
                shifted = method(p, *((x + 100).float() for x in others)).item()
                assert shifted == pytest.approx(expected, abs=1e-3 * 784)
                exact = method(centred + 100, *(x + 100 for x in others)).item()
                assert exact == pytest.approx(expected, abs=1e-7 * 784)

    def test_an_offset_far_beyond_the_spread_with_calibration(self):
        centred = 0.01 * normal(900, 784)
        estimator = KNN(calibration="gaussian", repeats=1)
        expected = estimator.entropy(centred).item()
        shifted = estimator.entropy((centred + 100).float()).item()
        assert shifted == pytest.approx(expected, abs=1e-3 * 784)
        # In float32, single features have ties there, of which a copula has none.
        with pytest.raises(ValueError, match="in one of its features"):
            KNN(calibration="copula").entropy((centred + 100).float())

    @pytest.mark.parametrize("offset", [0, 100])
    def test_many_samples_of_one_dimension(self, offset):
        # Neighbours are at 1e-5; squares in float32 resolve 1e-4 of the spread.
        x = normal(100_000) + offset
        expected = math.log(2 * math.pi * math.e) / 2
        assert KNN().entropy(x).item() == pytest.approx(expected, abs=0.012)
        y = x + normal(100_000, seed=1)
        information = KNN().mutual_information(x, y).item()
        assert information == pytest.approx(math.log(2) / 2, abs=0.02)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_data_at_1e_11(self, measure):
        # Where others add noise of 1e-10 or 1e-8, it would be the result.
        tensors = arguments(measure, n=500)
        gain = 3 * math.log(1e-11) if measure in ("entropy", "cross_entropy") else 0
        for metric in METRICS:
            method = getattr(KNN(3, metric), measure)
            value = method(*(1e-11 * x for x in tensors)).item()
            assert value == near(method(*tensors).item() + gain)
            # Around 1, float64 keeps five digits of them.
            value = method(*(1 + 1e-11 * x for x in tensors)).item()
            assert value == pytest.approx(method(*tensors).item() + gain, abs=0.01)

    @pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
    @pytest.mark.parametrize("d", [1, 2, 8])
    def test_beyond_the_range_of_squares_entropies_are_right_or_refused(self, d, scale):
        x = normal(60, d)
        expected = KNN().entropy(x).item() + d * math.log(scale)
        try:
            value = KNN().entropy(x * scale).item()
        except ValueError as error:
            assert "Rescale" in str(error)  # noqa: PT017
        else:
            assert value == near(expected)
