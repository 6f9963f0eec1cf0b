"""Predictions that are read out of layers, and that nothing is left of the reading."""

import copy
import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.probing.kept import read_outs
from tests.textbook_sequences import (
    textbook_clustered_error,
    textbook_prediction_divergence,
    textbook_prediction_entropy,
)

V, D = 40, 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(D, D)

    def forward(self, x):
        return x + self.mix(x).tanh()


class Language(nn.Module):
    """Blocks on a stream of vectors, a norm, and an unembedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.embed = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(D)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(D, V)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(self.norm(x)))

    @property
    def read_out(self):
        return [self.norm, self.dropout, self.head]

    def streams(self, ids):
        x, found = self.embed(ids), []
        for block in self.blocks:
            x = block(x)
            found.append(x.detach())
        return found


def measures_of(model, **kwargs):
    return [
        ip.PredictionEntropy(model.read_out, **kwargs),
        ip.PredictionDivergence(model.read_out, **kwargs),
    ]


def probed(model, batches, masks=None, measures=None, layers=None):
    layers = [*model.blocks] if layers is None else layers
    with ip.probe(model, layers, measures or measures_of(model)) as probe:
        for i, ids in enumerate(batches):
            if masks is not None:
                probe.mask(masks[i])
            model(ids)
    return probe


def values(probe, measure):
    return [row["value"] for row in probe.report().rows if row["measure"] == measure]


@pytest.mark.parametrize("padded", [False, True])
def test_values_and_errors_are_those_by_hand(padded, monkeypatch):
    monkeypatch.setattr(read_outs, "_BLOCK", 5 * V)  # several blocks
    model, ids = Language().eval(), torch.randint(V, (6, 7))
    mask = torch.arange(7) < torch.tensor([7, 3, 1, 5, 6, 7]).unsqueeze(1)
    mask = mask if padded else torch.ones_like(mask)
    probe = probed(model, ids.split(3), mask.split(3))
    with torch.no_grad():
        logits = [model.head(model.norm(x))[mask].double().numpy() for x in model.streams(ids)]
    groups = mask.nonzero()[:, 0]
    for block, row in enumerate(values_of := probe.report().rows):
        z = logits[block // 2]
        if row["measure"] == "prediction_entropy":
            numbers = [textbook_prediction_entropy(each) for each in z]
        else:
            numbers = [
                textbook_prediction_divergence(*both) for both in zip(logits[-1], z, strict=True)
            ]
        numbers = torch.tensor(numbers)
        assert row["value"] == pytest.approx(numbers.mean().item(), abs=2e-6)
        clusters = [numbers[groups == i].numpy() for i in range(6)]
        error = textbook_clustered_error(clusters)
        assert error <= row["stderr"] + 1e-6 < 1.4 * error + 2e-6
        is_final = row["measure"] == "prediction_divergence" and block // 2 == 2
        assert ["was the final one" in finding for finding in row["findings"]] == [True] * is_final
    assert len(values_of) == 6
    assert values(probe, "prediction_divergence")[-1] == 0


def test_random_positions_stand_for_all_and_are_the_same_at_every_layer():
    model, batches = Language().eval(), torch.randint(V, (40, 5, 7)).unbind()
    whole = probed(model, batches, measures=measures_of(model, positions=35))
    some = probed(model, batches, measures=measures_of(model, positions=4))
    for row, truth in zip(some.report().rows, whole.report().rows, strict=True):
        assert abs(row["value"] - truth["value"]) <= 4 * row["stderr"]
        assert "160 of 1,400 positions" in row["findings"][-1]
    # At the last layer predictions are compared with themselves, so positions are the same.
    assert values(some, "prediction_divergence")[-1] == 0


def test_merging_and_saving():
    model, ids = Language().eval(), torch.randint(V, (12, 5))
    whole = probed(model, ids.split(4)).report().rows
    a, b = probed(model, [ids[:4]]), probed(model, ids[4:].split(4))
    restored = ip.probe(model, [*model.blocks], measures_of(model))
    restored.load_state_dict(b.state_dict())
    restored.remove()
    a.merge(restored)
    for mine, row in zip(a.report().rows, whole, strict=True):
        assert mine["value"] == pytest.approx(row["value"], abs=1e-12)
        assert mine["stderr"] == pytest.approx(row["stderr"], abs=1e-12)


def test_the_reading_leaves_no_trace():
    model, ids = Language().train(), torch.randint(V, (4, 5))
    model.norm = nn.Sequential(nn.BatchNorm1d(5), nn.LayerNorm(D))
    head_calls = []
    model.head.register_forward_hook(lambda *_: head_calls.append(1))
    other = copy.deepcopy(model)
    read_out = [model.norm[1], model.dropout, model.head]
    torch.manual_seed(5)
    expected = other(ids)
    after = torch.rand(3)
    torch.manual_seed(5)
    second = ip.probe(model, ["head", "norm.1"])  # another probe on the same model
    with ip.probe(model, ["head", "norm.1"], ip.PredictionEntropy(read_out)) as probe:
        got = model(ids)
    second.remove()
    assert torch.equal(got, expected)
    assert torch.equal(torch.rand(3), after)
    assert model.training
    assert all(module.training for module in model.modules())
    states = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    assert len(head_calls) == 2  # the copy shares the list
    for each in (probe, second):
        rows = each.report().rows
        assert {row["call"] for row in rows} == {0}
        assert "1 passes" in repr(each)
    got.sum().backward()


def test_buffers_of_the_read_out_stay():
    model = nn.Sequential(nn.Linear(D, D))
    norm = nn.BatchNorm1d(D, momentum=1.0)
    before = copy.deepcopy(norm.state_dict())
    probed(model, [torch.randn(4, 5, D)], measures=[ip.PredictionEntropy(norm)], layers=["0"])
    assert all(torch.equal(before[key], norm.state_dict()[key]) for key in before)


def test_a_function_can_read_out():
    model = Language().eval()
    measure = ip.PredictionEntropy(lambda x: 3 * model.head(model.norm(x)))
    probe = probed(model, [torch.randint(V, (4, 5))], measures=[measure])
    assert 0 < values(probe, "prediction_entropy")[0] < math.log(V)
    assert "1 passes" in repr(probe)


def test_parameters_are_those_at_the_time_of_the_pass():
    model = Language().eval()
    ids = torch.randint(V, (4, 5))
    with ip.probe(model, [*model.blocks], measures_of(model)) as probe:
        model(ids)
        sharp = probe.report().rows[0]["value"]
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.zero_()
        probe.reset()
        model(ids)
    assert sharp < values(probe, "prediction_entropy")[0] == pytest.approx(math.log(V), abs=1e-6)


def test_layers_that_the_read_out_does_not_fit_are_inapplicable():
    model = Language().eval()
    probe = probed(model, [torch.randint(V, (4, 5))], layers=[*model.blocks, model.head])
    for row in probe.report().rows[-2:]:
        assert row["value"] is None
        assert "the read-out does not fit" in row["findings"][0]
    # The last layer that it fits is the last block all the same.
    assert values(probe, "prediction_divergence")[-2] == 0


def test_a_pass_that_fails_has_no_final_prediction():
    model = Language().eval()
    fails = model.head.register_forward_pre_hook(lambda *_: 1 / 0)
    with ip.probe(model, [*model.blocks], measures_of(model)) as probe:
        with pytest.raises(ZeroDivisionError):
            model(torch.randint(V, (4, 5)))
        fails.remove()
        assert all(row["value"] is None for row in probe.report().rows)
        assert "there is no final prediction" in probe.report().rows[0]["findings"][0]
        model(torch.randint(V, (4, 5)))
    assert all(row["value"] is not None for row in probe.report().rows)


def test_nan_is_named():
    model = Language().eval()
    with torch.no_grad():
        model.embed.weight[3] = math.nan
    ids = torch.randint(4, V, (4, 5))
    ids[0, 2] = 3
    rows = probed(model, [ids]).report().rows
    assert all("1 of 20 positions hold NaN" in row["findings"][0] for row in rows)
    assert all(math.isfinite(row["value"]) for row in rows)


def test_both_measures_read_out_once_and_windows_have_rows():
    model = Language().eval()
    with ip.probe(model, [*model.blocks], measures_of(model)).track(every=2) as probe:
        for _ in range(4):
            model(torch.randint(V, (4, 5)))
    assert [row["step"] for row in probe.report().rows] == [0] * 6 + [2] * 6
    assert len(probe._recorder.record.needs) == 1


@pytest.mark.parametrize("read_out", [None, 3, [], ["head"], "head"])
def test_other_read_outs_are_refused(read_out):
    with pytest.raises(TypeError, match="read_out"):
        ip.PredictionEntropy(read_out)
