import torch

from infoprobe.estimators import Critic
from infoprobe.estimators.splits import split_apart
from infoprobe.estimators.transport.folds import split
from tests.estimators.samples import normal

SIZES = [300, 60, 140]


def rows(x):
    return set(map(tuple, x.tolist()))


class TestSplits:
    def test_without_copies_they_are_those_of_the_order(self):
        order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
        expected = torch.split(order, SIZES)
        discrete = normal(500, 1).round()
        for factors in ([normal(500, 2)], [discrete, (discrete > 0).double()]):
            parts = split_apart(order, SIZES, factors)
            assert all(map(torch.equal, parts, expected))

    def test_copies_stay_together(self):
        x, y = normal(125, 2).repeat(4, 1), normal(125, 1, seed=1).repeat(4, 1)
        order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
        parts = split_apart(order, SIZES, [x, y])
        assert torch.equal(torch.cat(parts).sort().values, torch.arange(500))
        for part, size in zip(parts, SIZES, strict=True):
            assert abs(len(part) - size) < 60
        assert sum(len(rows(x[part])) for part in parts) == 125

    def test_folds(self):
        x = normal(100, 2).repeat(3, 1)
        for fold in split([x], 3, seed=0):
            assert sum(len(rows(x[part])) for part in fold) == 100
            assert len(fold.fit) + len(fold.stop) + len(fold.measure) == 300

    def test_a_critic_learns_nothing_by_heart(self):
        x, y = normal(200, 2), normal(200, 2, seed=1)
        critic = Critic(steps=300)
        value = critic.mutual_information(x.repeat(6, 1), y.repeat(6, 1))
        assert abs(value.item()) < 0.2
