"""Two probes add up to what one would have measured."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import H, Mixes, but_errors, probed, save_and_load
from tests.probing.streaming.helpers import ROWS, STREAMING, Turns, data, equal_states, model_of


class TestMerge:
    @pytest.mark.parametrize("seed", range(3))
    def test_counts_of_two_equal_those_of_one(self, seed):
        model = Turns()
        batches = [data(10, seed=i) * 10.0 ** (3 * i - 9) for i in range(7)]
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        first, second = [batches[i] for i in order[:3]], [batches[i] for i in order[3:]]
        a, b = probed(model, first, STREAMING), probed(model, second, STREAMING)
        of_b = save_and_load(b.state_dict())
        a.merge(b)
        expected = probed(model, first + second, STREAMING).report()
        assert but_errors(a.report()) == but_errors(expected)
        assert equal_states(b.state_dict(), of_b)
        assert a.counts("first").total == 7 * 30

    def test_the_order_of_rows(self):
        model = Turns()
        a = probed(model, [data(10) * 1e6], STREAMING)  # without the second
        b = probed(model, [data(10)], STREAMING)
        with pytest.warns(UserWarning, match="gave no output: second"):
            assert [row["layer"] for row in a.report().rows[::3]] == ["first", "third"]
        a.merge(b)
        rows = a.report().rows
        assert [row["layer"] for row in rows[::3]] == ["first", "third", "second"]
        assert [row["order"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3

    def test_rows_are_as_many_as_one_probe_keeps(self):
        model = model_of()
        a = probed(model, [data(30)], ROWS, seed=1)
        b = probed(model, [data(50, seed=1)], ROWS, seed=1)
        a.merge(b)
        assert [row["n"] for row in a.report().rows] == [12, 7] * 3
        assert "from 12 of 80 samples" in a.report().rows[0]["findings"][-1]
        whole = [ip.Entropy(ip.Histogram(20, "own"))]
        a, b = probed(model, [data(30)], whole), probed(model, [data(50, seed=1)], whole)
        a.merge(b)
        expected = probed(model, [data(30), data(50, seed=1)], whole)
        assert [row["value"] for row in a.report().rows] == [
            row["value"] for row in expected.report().rows
        ]

    def test_going_on_after_a_merge(self):
        model = model_of()
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as a:
            model(data(30))
            b = ip.probe(model, measures=[*STREAMING, *ROWS])
            with a.pause():
                model(data(20, seed=1))
            b.remove()
            a.merge(b)
            model(data(25, seed=2))
        expected = probed(model, [data(30), data(20, seed=1), data(25, seed=2)], STREAMING)
        assert [row["value"] for row in a.report().rows if repr(H) == row["estimator"]] == [
            row["value"] for row in expected.report().rows
        ]
        assert {row["n"] for row in a.report().rows} == {75, 12, 7}

    def test_what_was_left_out_adds_up(self):
        model, bad = model_of(), torch.full((5, 3), math.inf)
        passes = [data(10), bad], [bad, bad, data(10, seed=1)]
        with pytest.warns(RuntimeWarning) as caught:
            a, b = (probed(model, batches, ip.Entropy(H)) for batches in passes)
        assert len(caught) == 2  # the Hardtanh makes them finite
        a.merge(b)
        rows = a.report().rows
        assert [row["n"] for row in rows] == [20, 35, 35]
        assert rows[0]["findings"][-1].startswith("3 calls are left out. In pass 2, the output")
        assert rows[2]["findings"] == []

    def test_what_cannot_be_merged(self):
        model = model_of()
        a, b = probed(model, [data()], STREAMING), probed(model, [data()], ROWS)
        with pytest.raises(ValueError, match="other: expected a probe with the measures"):
            a.merge(b)
        with pytest.raises(TypeError, match="other: expected a Probe, got Report"):
            a.merge(b.report())
        other = probed(model, [data()], ROWS, seed=1)
        with pytest.raises(ValueError, match=r"projected with seed=0, got seed=1"):
            b.merge(other)

    def test_rows_of_another_shape_are_left_out(self):
        model = nn.Sequential(Mixes())
        measures = [ip.Entropy(H), ip.Entropy(ip.Histogram(20, "own"))]
        a, b = probed(model, [data(20, 3)], measures), probed(model, [data(20, 4)], measures)
        before = a.report().rows
        a.merge(b)
        counts, rows = a.report().rows
        assert (
            counts["value"]
            == H.entropy(torch.cat([model(data(20, w)).flatten() for w in (3, 4)])).item()
        )
        assert rows["value"] == before[1]["value"]
        assert any(
            "expected samples of shape (3,), got (4,)" in found for found in rows["findings"]
        )

    def test_a_probe_and_itself(self):
        model = model_of()
        a = probed(model, [data(20)], ip.Entropy(ip.Histogram(20, "own"), samples=10))
        try:
            a.merge(a)
        except ValueError:
            return  # as good
        assert a.report().rows[0]["n"] == 10

    def test_other_seeds_choose_other_samples(self):
        model, given_ = nn.Identity(), []

        class Spy:
            def entropy(self, x):
                given_.append(x)
                return 0.0

        measure = ip.Entropy(Spy(), samples=20)
        x = torch.arange(1000.0)[:, None]
        a = probed(model, [x], measure, seed=1)
        b = probed(model, [x + 1000], measure, seed=2)
        a.merge(b)
        a.report()
        (rows,) = given_
        assert len((rows % 1000).unique()) > 15
