"""Standard errors from counts that are kept in groups of samples."""

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.estimators.protocols import estimate
from infoprobe.probing.choices import Turns
from tests.probing.helpers import H, probed
from tests.probing.streaming.helpers import STREAMING, data, model_of


def errors(probe):
    return [row["stderr"] for row in probe.report().rows]


@pytest.mark.parametrize("batches", [[2000], [1000] * 2, [200] * 10, [50] * 40, [1999, 1]])
def test_they_are_about_those_of_all_data_at_once(batches):
    x = data(2000)
    expected = float(estimate(H, "entropy", x).stderr)
    found = [
        errors(probed(nn.Identity(), data(2000, seed=i).split(batches), ip.Entropy(H)))[0]
        for i in range(8)
    ]
    assert torch.tensor(found).median().item() == pytest.approx(expected, rel=0.4)


def test_every_row_has_one():
    for batches in ([data(40)], data(40).split(1), data(40).split(16)):
        rows = probed(model_of(), batches, STREAMING).report().rows
        assert all(row["stderr"] >= 0 for row in rows)
        assert sum(row["stderr"] > 0 for row in rows) >= 5


def test_the_same_samples_are_left_out_on_both_sides():
    (row,) = probed(nn.Identity(), data(500).split(7), ip.Divergence(H)).report().rows
    assert (row["value"], row["stderr"]) == (0.0, 0.0)


def test_a_layer_that_joins_samples():
    """Its counts are one for a pass: several passes are needed."""
    model = nn.Flatten(0)
    a, b = (probed(model, [data(20, seed=i) for i in range(n)], ip.Entropy(H)) for n in (1, 30))
    assert all(error is not None for error in [*errors(a), *errors(b)])


def test_from_one_sample_there_is_none():
    assert errors(probed(model_of(), [data(1)], STREAMING)) == [None] * 9


def test_they_survive_files_and_add_up():
    a = probed(model_of(), data(300).split(20), STREAMING)
    b = probed(model_of(), data(300, seed=1).split(20), STREAMING)
    again = ip.probe(model_of(), measures=STREAMING)
    again.load_state_dict(a.state_dict())
    assert errors(again) == errors(a)
    alone = errors(a)
    a.merge(b)
    entropies = slice(0, None, 3)
    for less, more in zip(errors(a)[entropies], alone[entropies], strict=True):
        assert less < more


class TestTurns:
    def test_the_first_passes_are_cut(self):
        turns = Turns()
        blocks = [len(turns.take(100)) for _ in range(40)]
        assert blocks[:4] == [32, 6, 4, 3]
        assert blocks[10:] == [1] * 30

    def test_no_group_gets_much_more_than_the_others(self):
        for passes in range(1, 80):
            turns, shares = Turns(), torch.zeros(32)
            for _ in range(passes):
                groups = turns.take(100)
                shares[groups] += 1 / len(groups)
            shares /= shares.sum()
            assert 1 / shares.square().sum() > 9

    def test_samples_one_by_one_take_turns(self):
        turns = Turns()
        assert [turns.take(1) for _ in range(33)] == [[i % 32] for i in range(33)]

    def test_a_pass_of_no_samples_takes_a_turn(self):
        assert Turns().take(0) == [0]
