"""What the tests of probes share."""

import io

import torch
from torch import nn

import infoprobe as ip

H = ip.Histogram(64, pseudocount=1)
MEASURES = [ip.Entropy(H), ip.Divergence(H, "previous"), ip.Divergence(H, "input")]


def run(model, *args, layers=None, measures=MEASURES, times=1, **kwargs):
    """The model's output and the probe that watched."""
    with ip.probe(model, layers, measures) as probe:
        for _ in range(times):
            output = model(*args, **kwargs)
    return output, probe


def assert_measured(report, layer, x, before, after, call=0, direction="forward"):
    """The layer turned ``before`` into ``after`` in a pass with input ``x``: by hand."""
    key = f"{layer}#{call}" if call else layer
    scalars = report.scalars()
    assert scalars[f"{key}/{direction}/entropy"] == H.entropy(after).item()
    of_previous = scalars[f"{key}/{direction}/divergence_previous"]
    assert of_previous == H.kl_divergence(before, after).item()
    assert scalars[f"{key}/{direction}/divergence_input"] == H.kl_divergence(x, after).item()


def assert_output(report, layer, after, call=0):
    key = f"{layer}#{call}" if call else layer
    assert report.scalars()[f"{key}/forward/entropy"] == H.entropy(after).item()


def value(report, layer, measure, reference=None, direction="forward", call=0):
    """The value in the one row of this layer and measure."""
    found = [
        row["value"]
        for row in report.rows
        if (row["layer"], row["direction"], row["call"]) == (layer, direction, call)
        and (row["measure"], row["reference"]) == (measure, reference)
    ]
    assert len(found) == 1
    return found[0]


def but_errors(report):
    """The rows without their standard errors, which may depend on how the data were batched."""
    return [{key: x for key, x in row.items() if key != "stderr"} for row in report.rows]


def layers_of(report):
    """The layers of a report, in the order of its rows."""
    return list(dict.fromkeys(row["layer"] for row in report.rows))


def small_model():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return ip.tap(self.layer(x).tanh(), "out") + x


class Mixes(nn.Module):
    """Rounds each sample alike, whatever batch it comes in."""

    def forward(self, x):
        return x + x.roll(1, 1).abs() / 3


def probed(model, batches, measures=None, **options):
    """A probe that has seen these batches."""
    with ip.probe(model, measures=measures, **options) as probe:
        for batch in batches:
            model(batch)
    return probe


def save_and_load(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def passes(probe):
    """How many passes the probe has counted."""
    return probe.state_dict()["passes"][0]


def tensors_in(state):
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from tensors_in(value)
