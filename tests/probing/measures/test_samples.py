"""Which samples a probe keeps, how many, and what the memory and the projection allow."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip
from tests.probing.measures.helpers import (
    PAPER,
    SPLITS,
    Spy,
    Square,
    activations,
    data,
    measured,
    model_of,
    row_bytes,
)


class TestAllSamples:
    """With room for all samples, values are those of the whole tensors, to the last bit."""

    @settings(max_examples=15)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
    def test_whatever_the_split(self, splits, seed):
        splits = [2, *splits]
        model, x = model_of(), data(sum(splits))
        measures = [ip.Entropy(PAPER), ip.Divergence(PAPER, "input")]
        last = activations(model, x)[-1]
        rows = measured(model, x, measures, splits, seed=seed)[-2:]
        assert rows[0]["value"] == float(PAPER.entropy(last))
        assert rows[1]["value"] == float(PAPER.kl_divergence(x, last))

    def test_images(self):
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
        x = torch.randn(30, 2, 6, 5)
        h = ip.Histogram(20, "own", "units")
        rows = measured(model, x, ip.Entropy(h), [10, 20])
        with torch.no_grad():
            assert rows[1]["value"] == float(h.entropy(model(x)))
        assert (rows[1]["n"], rows[1]["d"]) == (30, 36)

    def test_one_image(self):
        x = torch.randn(1, 3, 8, 8)
        (row,) = measured(Square(), x, ip.Entropy(PAPER), [1])
        assert row["value"] == float(PAPER.entropy(x * x.abs()))

    def test_measures_that_keep_alike_share_their_rows(self):
        model, x = model_of(), data()
        alone, both = [], []
        for measures, bytes_kept in (([ip.Entropy(ip.KNN())], alone), (None, both)):
            measures = measures or [ip.Entropy(ip.KNN()), ip.Entropy(PAPER), ip.Entropy(PAPER)]
            with ip.probe(model, measures=measures) as probe:
                model(x)
            bytes_kept.append(row_bytes(probe))
        assert alone == both


class TestSomeSamples:
    """With less room, the rows are a sample, the same at every layer."""

    @settings(max_examples=30)
    @given(st.sampled_from(SPLITS), st.integers(2, 130), st.integers(0, 2**32 - 1), st.booleans())
    def test_the_same_rows_everywhere(self, splits, samples, seed, of_target):
        model, x, spy = model_of(), data(), Spy()
        reference = "target" if of_target else "input"
        measures = [
            ip.Entropy(spy, samples=samples),
            ip.Divergence(spy, samples=samples),
            ip.MutualInformation(spy, reference, samples=samples),
        ]
        target = torch.arange(120)
        rows = measured(model, x, measures, splits, target, seed=seed)
        tensors = activations(model, x)
        kept = None
        for i in range(3):
            (y,), (before, y_), (of, y__) = spy.given[3 * i : 3 * i + 3]
            assert torch.equal(y, y_)
            assert torch.equal(y, y__)
            numbers = of if of_target else (of[:, None] == x[None]).all(-1).long().argmax(1)
            kept = numbers if kept is None else kept
            assert torch.equal(numbers, kept)
            assert len(numbers.unique()) == min(samples, 120)
            assert torch.equal(y, tensors[i + 1][kept])
            assert torch.equal(before, tensors[i][kept])
        for row in rows:
            assert row["n"] == min(samples, 120)
            assert any("drawn at random" in found for found in row["findings"]) == (samples < 120)

    def test_the_finding(self):
        rows = measured(model_of(), data(), ip.Entropy(PAPER, samples=50), [60, 60], seed=9)
        assert {row["findings"][-1] for row in rows} == {
            "It was computed from 50 of 120 samples, drawn at random (seed 9), the same at every "
            "layer: the measure asks for 50."
        }

    def test_neither_the_choice_nor_the_data_touch_the_generator(self):
        model, x = model_of(), data()
        torch.manual_seed(5)
        before = torch.get_rng_state()
        measured(model, x, ip.Entropy(ip.KNN(), samples=10, project=2), [60, 60])
        assert torch.equal(before, torch.get_rng_state())

    def test_seeds(self):
        model, x = model_of(), data()
        values = [
            [row["value"] for row in measured(model, x, ip.Entropy(PAPER, samples=40), seed=seed)]
            for seed in (1, 1, 2)
        ]
        assert values[0] == values[1] != values[2]


class TestMemory:
    @pytest.mark.parametrize("memory", [0, 15, 160, 1600, 3333, 10**6])
    def test_what_is_kept_and_what_is_said(self, memory):
        model, x = model_of(), data()
        with ip.probe(model, measures=ip.Entropy(PAPER), memory=memory) as probe:
            model(x)
        size = min(120, memory // (3 * 4 * 4))
        assert row_bytes(probe) <= memory
        for row in probe.report().rows:
            assert row["n"] == size
            if size < 120:
                assert row["findings"][-1].endswith(f"memory had room for {size}.")
            if not size:
                assert row["value"] is None

    @pytest.mark.parametrize("kind", ["small batches", "wider types"])
    def test_the_budget_holds(self, kind):
        model, memory = nn.Identity(), 40_000
        batches = [torch.randn(1, 100) for _ in range(300)]
        if kind == "wider types":
            batches = [torch.randn(300, 100).bfloat16(), torch.randn(300, 100).double()]
        with ip.probe(model, measures=ip.Entropy(ip.Gaussian()), memory=memory) as probe:
            for batch in batches:
                model(batch)
                assert row_bytes(probe) <= memory

    def test_the_budget_holds_when_merging(self):
        model = nn.Sequential(nn.Identity(), nn.Identity())
        probes = []
        for layer in ("0", "1"):
            with ip.probe(model, layer, ip.Entropy(ip.Gaussian()), memory=4000) as probe:
                model(torch.randn(200, 10))
            probes.append(probe)
        probes[0].merge(probes[1])
        assert row_bytes(probes[0]) <= 4000

    def test_a_layer_that_comes_late(self):
        class Late(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.late, self.passes = nn.Identity(), nn.Identity(), 0

            def forward(self, x):
                self.passes += 1
                x = self.first(x)
                return self.late(x.repeat(1, 9)) if self.passes > 5 else x

        model, spy = Late(), Spy()
        with ip.probe(model, measures=ip.Entropy(spy), memory=4000) as probe:
            for i in range(10):
                model(torch.arange(100 * i, 100 * i + 100, dtype=torch.float32)[:, None])
        first, late = probe.report().rows
        assert row_bytes(probe) <= 4000
        (x,), (y,) = spy.given
        assert (len(x), first["n"], first["d"]) == (100, 100, 1)
        assert late["n"] == len(y) < 100
        there = (x >= 500).squeeze(1)
        assert torch.equal(x[there].repeat(1, 9), y)
        assert 20 < len(y) < 80  # half of the samples are of the later passes


class TestProjection:
    MEASURE = staticmethod(lambda estimator: ip.MutualInformation(estimator, project=3))

    def test_only_what_is_wider_is_projected(self):
        model = nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 20), nn.Unflatten(1, (4, 5)))
        x, spy = torch.randn(50, 8), Spy()
        rows = measured(model, x, self.MEASURE(spy), [25, 25])
        widths = [tuple(t.shape for t in pair) for pair in spy.given]
        assert widths == [((50, 3), (50, 3))] * 3
        expected = model[0](x).detach()
        torch.testing.assert_close(spy.given[0][1], expected)
        told = [row["findings"][1:] for row in rows]  # after the deterministic layer
        assert [finding for finding in told[0] if "standard error" not in finding] == [
            "the model's input (8 dimensions) was projected onto 3 random directions."
        ]
        both = (
            "the model's input (8 dimensions) and the output (20 dimensions) were projected onto "
            "3 random directions."
        )
        assert [findings[-1] for findings in told[1:]] == [both] * 2
        assert [row["d"] for row in rows] == [3, 20, 20]

    def test_one_matrix_for_each_width_that_keeps_lengths(self):
        class Doubles(nn.Module):
            def forward(self, x):
                return 2 * x

        x, spy = torch.randn(200, 300), Spy()
        model = nn.Sequential(nn.Identity(), Doubles())
        measured(model, x, ip.Divergence(spy, project=100), [200])
        (a, b), (c, d) = spy.given
        assert torch.equal(a, b)
        assert torch.equal(b, c)
        assert torch.equal(2 * c, d)
        assert float(a.square().mean() * 100) == pytest.approx(300, rel=0.05)

    def test_seeds(self):
        x = torch.randn(50, 20)
        given_ = []
        for seed in (1, 1, 2):
            spy = Spy()
            measured(nn.Identity(), x, self.MEASURE(spy), [25, 25], seed=seed)
            given_.append(spy.given[0][1])
        assert torch.equal(given_[0], given_[1])
        assert not torch.equal(given_[0], given_[2])

    def test_projections_do_not_know_more(self):
        model, x = nn.Linear(12, 12), torch.randn(2000, 12)
        y = x + torch.randn_like(x)
        values = [
            measured(
                model, x, ip.MutualInformation(ip.Gaussian(), "target", project=width), [2000], y
            )
            for width in (1, 3, 8, None)
        ]
        values = [row["value"] for (row,) in values]
        assert 0 <= values[0] < values[1] < values[2] < values[3]

    def test_another_default_type(self):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            rows = measured(nn.Identity(), torch.randn(50, 20), self.MEASURE(Spy()), [50])
        finally:
            torch.set_default_dtype(default)
        assert rows[0]["value"] is not None


@pytest.mark.parametrize("measure", [ip.Entropy, ip.MutualInformation])
def test_batches_of_which_no_sample_is_kept_are_projected(measure):
    model, x = nn.Linear(6, 8), torch.randn(200, 6)
    values = []
    for size in (2, len(x)):
        with ip.probe(model, measures=measure(ip.KNN(), samples=20, project=2)) as probe:
            for batch in x.split(size):
                model(batch)
        (row,) = probe.report().rows
        values.append(row["value"])
    assert values[0] == pytest.approx(values[1], rel=1e-5)
