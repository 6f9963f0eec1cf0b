import time

import pytest
import torch

from infoprobe.neighbors import count_within, nearest_neighbors, search
from infoprobe.neighbors.equal import Equals, fingerprints, occurrences, occurrences_in
from tests import textbook_neighbors as textbook


def crowded(n, d, seed=0):
    """Points of which many are equal, beside others that are not."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x[: n // 2] = torch.randint(0, 2, (n // 2, d), generator=generator).double()
    return x[torch.randperm(n, generator=generator)]


class TestEquals:
    def test_occurrences_and_ranks(self):
        marks = torch.tensor([5, 3, 5, 5, -1, 3])
        equal = Equals(marks)
        assert equal.times.tolist() == [3, 2, 3, 3, 1, 2]
        assert sorted(equal.ranks[marks == 5].tolist()) == [0, 1, 2]
        assert sorted(equal.order[equal.starts[0] :][:3].tolist()) == [0, 2, 3]
        assert occurrences_in(marks, torch.tensor([3, 4, 5])).tolist() == [2, 0, 3]

    def test_fingerprints_are_those_of_values(self):
        x = crowded(500, 70)
        expected = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
        assert torch.equal(occurrences(fingerprints(x)), expected[2][expected[1]])
        assert torch.equal(fingerprints(x.float()), fingerprints(x.float().double()))
        assert torch.equal(fingerprints(-torch.zeros(3, 2)), fingerprints(torch.zeros(3, 2)))
        # Neither the order of features nor their factor is lost.
        pair = torch.tensor([[2.0, 3.0], [3.0, 2.0], [0.0, 5.0]])
        assert len(fingerprints(pair).unique()) == 3
        columns = pair.split(1, 1)
        assert fingerprints(*columns)[0] != fingerprints(*columns[::-1])[0]


class TestCrowds:
    @pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
    @pytest.mark.parametrize("d", [1, 2, 9])
    @pytest.mark.parametrize("k", [1, 5])
    def test_neighbours_are_exact(self, k, d, metric):
        x, queries = crowded(300, d), crowded(90, d, seed=1)
        table = torch.from_numpy(textbook.own_distances([x.numpy()], metric))
        distances, indices = nearest_neighbors(x, k, metric=metric)
        torch.testing.assert_close(distances, table.topk(k, largest=False).values)
        torch.testing.assert_close(table.gather(1, indices), distances)
        assert all(len(row.unique()) == k for row in indices)
        table = torch.from_numpy(textbook.distances([x.numpy()], [queries.numpy()], metric))
        distances, indices = nearest_neighbors(x, k, queries, metric)
        torch.testing.assert_close(distances, table.topk(k, largest=False).values)
        torch.testing.assert_close(table.gather(1, indices), distances)

    @pytest.mark.parametrize("closed", [False, True])
    @pytest.mark.parametrize("factors", [1, 2])
    def test_counts_are_exact(self, factors, closed):
        spaces = [crowded(400, 2, seed=i) for i in range(factors)]
        radii = torch.linspace(0, 2, 400, dtype=torch.float64)
        table = textbook.own_distances([x.numpy() for x in spaces], "euclidean")
        expected = torch.from_numpy(textbook.counts(table, radii.numpy(), closed))
        counted = count_within(spaces, radii, "euclidean", closed=closed)
        assert torch.equal(counted, expected)
        rows = torch.tensor([399, 3, 50])
        some = count_within(spaces, radii, "euclidean", closed=closed, rows=rows)
        assert torch.equal(some, expected[rows])

    def test_gradients_pass(self):
        x = crowded(60, 2).requires_grad_()
        distances = search([x], 3, None, "euclidean").distances
        distances[distances > 0].sum().backward()
        assert x.grad.isfinite().all()
        assert x.grad.abs().max() > 0

    def test_they_take_no_longer(self):
        x = torch.zeros(40_000, 2)
        x[20_000:] = 1
        start = time.perf_counter()
        distances, _ = nearest_neighbors(x, 3)
        count_within([x], torch.full((40_000,), 0.5).double(), "euclidean")
        assert time.perf_counter() - start < 2
        assert not distances.any()
