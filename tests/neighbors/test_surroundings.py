import functools
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from infoprobe.neighbors import count_within, nearest_neighbors, search, tiles
from infoprobe.neighbors import points as points_module
from tests import textbook_neighbors as textbook
from tests.neighbors.helpers import (
    METRICS,
    check_neighbors,
    data,
    engine,
    known,
    own_table,
)


class TestSurroundings:
    """Global settings of torch, which the caller may have changed, do not matter."""

    @pytest.fixture(params=[5, 40, 130])
    def x(self, request):
        return torch.cat(known("far", (2, request.param - 2), "euclidean", 300)[0], 1)

    def agrees(self, x):
        widths = (2, x.shape[1] - 2)
        for metric in METRICS:
            factors, table = known("far", widths, metric, 300)
            check_neighbors(search(factors, 3, None, metric), table, 3)
            radii = torch.from_numpy(np.sort(table, 1)[:, 5])
            assert count_within(factors, radii, metric).tolist() == [5] * 300
        expected = textbook.nearest(self.table(x.shape[1]), 3)
        np.testing.assert_allclose(nearest_neighbors(x, 3).distances, expected, rtol=1e-12)

    @staticmethod
    @functools.cache
    def table(d):
        return own_table(
            [torch.cat(known("far", (2, d - 2), "euclidean", 300)[0], 1)], "euclidean"
        )

    @pytest.mark.parametrize("precision", ["medium", "high", "highest"])
    def test_the_precision_of_products_does_not_matter(self, x, precision):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            expected = self.precisions()
            self.agrees(x)
            assert self.precisions() == expected
            with (
                mock.patch.object(tiles._Tiles, "ranks", side_effect=MemoryError),
                pytest.raises(MemoryError),
            ):
                nearest_neighbors(data("normal", 50, 20), 3)
            assert self.precisions() == expected
        finally:
            torch.set_float32_matmul_precision(before)

    @staticmethod
    def precisions():
        backends = (
            getattr(b, "matmul", None) for b in (torch.backends.mkldnn, torch.backends.cuda)
        )
        newer = (getattr(matmul, "fp32_precision", None) for matmul in backends)
        return torch.get_float32_matmul_precision(), *newer

    def test_the_newer_setting_of_that_precision_may_be_used(self, x):
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("needs torch 2.9")
        try:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            self.agrees(x)
            assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        finally:
            torch.backends.cuda.matmul.fp32_precision = "ieee"
            torch.set_float32_matmul_precision("highest")

    def test_a_precision_that_backends_inherit_is_still_inherited(self):
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("needs torch 2.9")
        matmul = torch.backends.mkldnn.matmul
        try:
            matmul.fp32_precision = "none"
            torch.backends.fp32_precision = "bf16"
            assert matmul.fp32_precision == "bf16"
            nearest_neighbors(data("normal", 100, 9), 3)
            assert matmul.fp32_precision == "bf16"
            torch.backends.fp32_precision = "ieee"
            assert matmul.fp32_precision == "ieee"
        finally:
            torch.backends.fp32_precision = "none"
            torch.set_float32_matmul_precision("highest")

    def test_autocast_does_not_matter(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            self.agrees(x)
            assert torch.is_autocast_enabled("cpu")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_default_dtype_does_not_matter(self, x, dtype):
        torch.set_default_dtype(dtype)
        try:
            self.agrees(x)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_the_default_device_does_not_matter(self, x):
        # The meta device has no memory, so a tensor that is made on it by mistake is noticed.
        with torch.device("meta"):
            found = nearest_neighbors(x, 3)
            radii = found.distances[:, -1]
            counted = count_within([x], radii, "euclidean", closed=True)
            line = count_within([x[:, :1]], radii, "euclidean")
        check_neighbors(found, self.table(x.shape[1]), 3)
        assert counted.device == line.device == x.device
        assert counted.tolist() == [3] * len(x)

    def test_no_gradients_wanted(self, x):
        expected = nearest_neighbors(x, 3)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = nearest_neighbors(x.clone().requires_grad_(), 3)
                assert not found.distances.requires_grad
                torch.testing.assert_close(found.distances, expected.distances)
                self.agrees(x)
        with torch.inference_mode():
            made = x.clone()
        check_neighbors(nearest_neighbors(made, 3), self.table(x.shape[1]), 3)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads_and_blocks_do_not_matter(self, x, threads):
        before = torch.get_num_threads()
        expected = nearest_neighbors(x, 3)
        torch.set_num_threads(threads)
        try:
            for block in (1, 1000, 10**6):
                with mock.patch.object(points_module, "BLOCK", block):
                    found = nearest_neighbors(x, 3)
                assert torch.equal(found.indices, expected.indices)
                torch.testing.assert_close(found.distances, expected.distances, rtol=1e-14, atol=0)
        finally:
            torch.set_num_threads(before)

    def test_no_tensor_is_as_large_as_all_pairs(self):
        n = 6000
        for d in (8, 128):
            x = data("normal", n, d).float()
            with Largest() as largest:
                radii = nearest_neighbors(x, 3).distances[:, -1]
                nearest_neighbors(x, 3, x[:3000] + 1)
                count_within([x[:, :2], x[:, 2:]], radii, "euclidean")
            # A tile has some hundred rows.
            assert n * tiles._ROWS_OF_THREAD <= largest.size <= 1.05 * 2048 * n

    def test_undecided_rows_come_a_few_at_a_time(self):
        # Ranks decide nothing within a cluster, and each cluster has 750 points.
        n = 3000
        x = data("clusters", n, 8)
        with Largest() as largest, engine("tiles"):
            found = nearest_neighbors(x, 3)
        with engine("tree"):
            expected = nearest_neighbors(x, 3)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-12, atol=0)
        assert largest.size <= 1.05 * 512 * n


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is made in this context."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                # A view counts with all the memory that it is a part of.
                self.size = max(self.size, tensor.untyped_storage().nbytes() // 4)
        return out
