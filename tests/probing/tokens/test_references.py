"""Another layer's output as the reference of a measure."""

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.protocols import for_pairs
from infoprobe.findings import code_of
from tests.probing.helpers import H, save_and_load

MEASURES = [
    ip.Divergence(H, reference="1"),
    ip.MutualInformation(ip.Gaussian(), reference="1"),
]


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def model_of():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), Noise(), nn.Sigmoid())


def passes(model, probe, batches):
    """What went through the model, layer by layer."""
    seen = [[] for _ in model]
    handles = [
        layer.register_forward_hook(lambda m, i, y, s=s: s.append(y.detach().clone()))
        for layer, s in zip(model, seen, strict=True)
    ]
    for batch in batches:
        model(batch)
    for handle in handles:
        handle.remove()
    return [torch.cat(outputs) for outputs in seen]


def test_values_are_those_of_the_two_outputs():
    model, batches = model_of(), torch.randn(5, 40, 3).unbind()
    with ip.probe(model, measures=MEASURES) as probe:
        seen = passes(model, probe, batches)
    for row in probe.report().rows:
        place = int(row["layer"])
        assert row["reference"] == "1"
        if place <= 1:
            assert row["value"] is None
            assert "is not called before this layer" in row["findings"][0]
        elif row["measure"] == "divergence":
            assert row["value"] == pytest.approx(float(H.kl_divergence(seen[1], seen[place])))
        elif place > 2:
            expected = ip.Gaussian().mutual_information(seen[1], seen[place])
            assert row["value"] == pytest.approx(float(expected), abs=1e-6)
    assert "3/forward/divergence_1" in probe.report().scalars()


def test_noise_between_the_two_is_known():
    model = nn.Sequential(nn.Tanh(), nn.Sigmoid(), Noise())
    measure = ip.MutualInformation(ip.KNN(), reference="0")
    with ip.probe(model, measures=measure) as probe:
        model(torch.randn(200, 2))
    codes = {
        row["layer"]: [code_of(finding) for finding in row["findings"]]
        for row in probe.report().rows
    }
    assert "deterministic" in codes["1"]
    assert "deterministic" not in codes["2"]


def test_tokens_of_a_reference():
    model = nn.Sequential(nn.Tanh(), nn.Sigmoid())
    x, mask = torch.randn(20, 6, 2), torch.rand(20, 6) < 0.6
    measure = ip.Divergence(ip.Gaussian(), reference="0", select="tokens")
    with ip.probe(model, measures=measure) as probe:
        probe.mask(mask)
        model(x)
    of_pairs = for_pairs(ip.Gaussian())
    expected = of_pairs.kl_divergence(x.tanh()[mask], x.tanh().sigmoid()[mask])
    _, row = probe.report().rows
    assert row["value"] == pytest.approx(float(expected), rel=1e-5)


def test_integers_are_symbols():
    model = nn.Sequential(nn.Identity(), nn.Embedding(9, 3), nn.Tanh())
    with ip.probe(model, measures=ip.Divergence(reference="0", select="tokens")) as probe:
        model(torch.randint(0, 9, (8, 5)))
    _, one, two = probe.report().rows
    for row in (one, two):
        assert row["value"] is None
        assert "output of 0 holds integers" in row["findings"][0]


def test_states_and_merging():
    model = model_of()
    batches = torch.randn(4, 40, 3).unbind()
    with ip.probe(model, measures=MEASURES[0]) as a:
        first = passes(model, a, batches[:2])
    b = ip.probe(model, measures=MEASURES[0])
    b.load_state_dict(save_and_load(a.state_dict()))
    later = passes(model, b, batches[2:])
    both = [torch.cat(parts) for parts in zip(first, later, strict=True)]
    row = b.report().rows[-1]
    assert row["value"] == pytest.approx(float(H.kl_divergence(both[1], both[4])))


@pytest.mark.parametrize("name", ["7", "inptu", "Tanh"])
def test_unknown_layers_are_told_at_once(name):
    model = model_of()
    with pytest.raises(ArgumentValueError, match="or a layer that is probed, got"):
        ip.probe(model, measures=ip.Divergence(reference=name))
    assert not model._forward_hooks


@pytest.mark.parametrize("bad", ["", "output", "layer", 3, None])
def test_other_references(bad):
    with pytest.raises(ArgumentValueError, match="reference: expected one of"):
        ip.MutualInformation(reference=bad)
