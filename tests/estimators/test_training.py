import math

import pytest
import torch
from torch import nn

from infoprobe.estimators import training
from tests.estimators.samples import generator


def test_batches_pass_over_all_samples_in_a_new_order():
    batches = training.batches_of(10, 5, generator())
    first, second = (torch.cat([next(batches), next(batches)]) for _ in range(2))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()
    batches = training.batches_of(10, 4, generator())
    assert [len(next(batches)) for _ in range(5)] == [4] * 5
    assert len(next(training.batches_of(10, 99, generator()))) == 10


class TestTrain:
    """One weight, which each step lowers by the learning rate."""

    def train(self, score, **settings):
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        defaults = {"steps": 20, "check_every": 2, "patience": 6, "progress": True}
        best = training.train(
            network,
            torch.optim.SGD(network.parameters()),
            lambda: network.weight.sum(),
            lambda step: score(-network.weight.item(), step),
            learning_rate=lambda step, done: 1.0,
            name="one weight",
            **{**defaults, **settings},
        )
        return best, -network.weight.item()

    def test_it_keeps_the_weights_of_the_best_score(self, bars):
        best, weight = self.train(lambda weight, step: 4 - abs(weight - 8))
        assert (best, weight) == (4, 8)
        assert bars[0].steps == 8 + 6
        assert bars[0].postfix == {"score": "-2.0000", "best": "4.0000"}

    def test_a_better_score_between_two_looks_is_not_seen(self):
        best, weight = self.train(lambda weight, step: -abs(weight - 7), progress=False)
        assert (best, weight) == (-1, 6)

    def test_it_ends_after_all_steps(self, bars):
        best, weight = self.train(lambda weight, step: weight, steps=9)
        assert (best, weight) == (9, 9)
        assert bars[0].total == bars[0].steps == 9

    def test_it_ends_when_the_time_is_spent(self, bars):
        clock = iter([0.0, 0.3, 0.6, 0.9, 1.2])
        best, weight = self.train(lambda weight, step: weight, spent=lambda: next(clock))
        assert (best, weight) == (4, 4)
        assert bars[0].steps == 4

    def test_the_learning_rate_knows_how_much_is_done(self):
        seen = []
        network = nn.Linear(1, 1)
        training.train(
            network,
            torch.optim.SGD(network.parameters()),
            lambda: network.weight.sum(),
            float,
            steps=4,
            check_every=1,
            patience=math.inf,
            learning_rate=lambda step, done: seen.append((step, done)) or 0.0,
            spent=lambda: 0.4,
            name="one weight",
            progress=False,
        )
        assert seen == [(0, 0.4), (1, 0.4), (2, 0.5), (3, 0.75)]

    def test_errors_of_the_score_end_it(self, bars):
        def diverged(weight, step):
            raise FloatingPointError("diverged")

        with pytest.raises(FloatingPointError, match="diverged"):
            self.train(diverged)
        assert bars[0].closed


def test_weights_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    weights = []
    for seed in (0, 0, 1):
        torch.rand(3)
        with training.drawing_weights(seed):
            weights.append(training.linear_layer(3, 2).weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    torch.set_rng_state(before)
    with training.drawing_weights(5):
        training.linear_layer(3, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_those_of_torch():
    with training.drawing_weights(3):
        ours = training.linear_layer(3, 2)
    torch.manual_seed(3)
    theirs = torch.nn.Linear(3, 2)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_weights_are_drawn_beside_another_thread():
    before = torch.get_rng_state()
    with training.drawing_weights(3):
        training.linear_layer(3, 2)
        assert torch.equal(torch.get_rng_state(), before)
