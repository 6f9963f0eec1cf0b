import math

import torch

from infoprobe.estimators.knn.scaling import spreads
from tests import textbook_neighbors as textbook
from tests.estimators.knn.cases import near
from tests.estimators.samples import normal


class TestSpreads:
    def test_they_are_the_geometric_mean_of_steps(self):
        for n in (2, 3, 10, 101):
            x = normal(n, 3)
            expected = torch.from_numpy(textbook.spreads(x.numpy()))
            torch.testing.assert_close(spreads(x), expected)
            torch.testing.assert_close(spreads(-1e-100 * x), 1e-100 * expected)
            torch.testing.assert_close(spreads(x + 7), expected)

    def test_neither_outliers_nor_gaps_count_for_much(self):
        x = normal(1000, 1)
        far = torch.cat([x, x.new_full((5, 1), 1e9)])
        assert (spreads(far) / spreads(x)).log().item() < 1
        clusters = torch.cat([x[:500], x[500:] + 100])
        assert (spreads(clusters) / spreads(x)).log().item() < math.log(2) + 0.3

    def test_atoms_are_left_aside(self):
        x = normal(200, 1).relu()
        assert 0 < spreads(x).item() < spreads(normal(200, 1)).item() * 2
        assert spreads(torch.ones(9, 1)).item() == 0
        assert spreads(torch.eye(100)).unique().item() == near(1)

    def test_gradients(self):
        x = normal(12, 2).requires_grad_()
        assert torch.autograd.gradcheck(spreads, x)
