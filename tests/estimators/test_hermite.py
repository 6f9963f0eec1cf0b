import itertools
import math

import pytest
import torch

from infoprobe.estimators.hermite import mean_of, moments
from tests.estimators.samples import normal


def whitened(x):
    z = x - x.mean(0)
    return torch.linalg.solve_triangular(
        torch.linalg.cholesky(z.T @ z / len(z)), z.T, upper=False
    ).T


def squared_moments(x, order):
    """The squared means of all products of Hermite polynomials, from other pairs of samples."""
    z = whitened(x)
    polynomials = [torch.ones_like(z), z, z**2 - 1, z**3 - 3 * z, z**4 - 6 * z**2 + 3]
    d, total = z.shape[1], 0.0
    for powers in itertools.product(range(order + 1), repeat=d):
        if sum(powers) != order:
            continue
        values = torch.ones(len(z), dtype=z.dtype)
        for i, power in enumerate(powers):
            values = values * polynomials[power][:, i]
        own = values.square().sum()
        scale = math.prod(math.factorial(power) for power in powers)
        total += float((values.sum().square() - own) / (len(z) * (len(z) - 1))) / scale
    return total / 2


class TestMoments:
    @pytest.mark.parametrize("d", [1, 2, 3])
    def test_the_kernel_is_the_sum_over_all_polynomials(self, d):
        x = normal(50, d).exp()
        found = moments(x)
        expected = [squared_moments(x, order) for order in (3, 4)]
        assert found.nats.tolist() == pytest.approx(expected, rel=1e-9)

    def test_gaussian_data_have_none(self):
        found = [moments(normal(300, d, seed=seed)) for d in (1, 4) for seed in range(20)]
        assert not any(each.significant for each in found)
        spread = torch.stack([each.nats / each.chance for each in found]).std(0)
        assert ((spread > 0.6) & (spread < 1.4)).all()

    def test_curved_data_do(self):
        x = normal(2000, 4)
        x[:, 1] += x[:, 0] ** 2
        assert moments(x).significant > 0.1
        assert moments(x).beyond(moments(x)) == 0
        x[:, 3] = x[:, 3].abs() * (x[:, 0] * x[:, 2]).sign()
        assert moments(x[:, [0, 2, 3]]).beyond(moments(normal(2000, 3, seed=1))) > 0.1

    def test_units_do_not_matter(self):
        x = normal(400, 3).exp()
        other = moments(x @ normal(3, 3, seed=1) + 5)
        assert other.nats.tolist() == pytest.approx(moments(x).nats.tolist(), rel=1e-6)

    def test_the_mean_of_several(self):
        found = moments(normal(100, 2))
        mean = mean_of([found, found])
        assert torch.equal(mean.nats, found.nats)
        assert mean.chance.tolist() == pytest.approx((found.chance / math.sqrt(2)).tolist())
