import pytest
import torch

from infoprobe.neighbors import nearest_neighbors, search
from tests.neighbors.helpers import (
    ENGINES,
    METRICS,
    data,
    engine,
)


class TestGradients:
    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_they_equal_finite_differences(self, metric, kind):
        x = data("normal", 8, 3).requires_grad_()
        queries = data("normal", 3, 3, seed=1).requires_grad_()
        with engine(kind, block=20):

            def own(x):
                return nearest_neighbors(x, 3, metric=metric).distances

            def other(x, queries):
                return nearest_neighbors(x, 3, queries, metric).distances

            def product(x, y):
                return search([x, y], 2, None, metric).distances

            y = data("normal", 8, 2, seed=2).requires_grad_()

            assert torch.autograd.gradcheck(own, x)
            assert torch.autograd.gradcheck(other, (x, queries))
            assert torch.autograd.gradcheck(other, (x.detach(), queries))
            assert torch.autograd.gradcheck(product, (x, y))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_they_have_the_type_of_the_points(self, dtype):
        x = data("normal", 50, 9).to(dtype).requires_grad_()
        found = nearest_neighbors(x, 2)
        assert found.distances.requires_grad
        assert not found.indices.requires_grad
        found.distances.sum().backward()
        assert x.grad.dtype == dtype
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 1

    @pytest.mark.parametrize("metric", METRICS)
    def test_points_that_coincide_have_finite_ones(self, metric):
        x = data("duplicates", 50, 3).requires_grad_()
        nearest_neighbors(x, 3, metric=metric).distances.sum().backward()
        assert x.grad.isfinite().all()

    @pytest.mark.parametrize("kind", ENGINES)
    def test_values_are_the_same_without(self, kind):
        x = data("normal", 200, 5)
        with engine(kind, height=64, width=64):
            expected = nearest_neighbors(x, 3)
            found = nearest_neighbors(x.clone().requires_grad_(), 3)
        assert torch.equal(found.indices, expected.indices)
        torch.testing.assert_close(
            found.distances.detach(), expected.distances, rtol=1e-14, atol=0
        )
