"""What tests of taps share: short names for what a probe has seen, a flow and a graph."""

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.taps.layout import Layout

H = ip.Histogram(64, pseudocount=1)
MEASURES = [ip.Entropy(H), ip.Divergence(H, "previous"), ip.Divergence(H, "input")]


def names(model, layers=None):
    return [layer.name for layer in Layout.of(model).select(layers).chosen]


def passes(probe):
    return int(repr(probe).split(", ")[-1].split()[0])


def visits(probe):
    rows = [row for row in probe.report().rows if row["measure"] == "entropy"]
    return [(row["layer"], row["direction"], row["call"]) for row in rows]


def check(probe, start, expected):
    """The rows are of these layers in this order, and their values those of these tensors.

    Returns the types of the layers.
    """
    rows, types = probe.report().rows, []
    assert len(rows) == 3 * len(expected)
    before = start
    for i, (layer, direction, after) in enumerate(expected):
        own = rows[3 * i : 3 * i + 3]
        assert {(x["layer"], x["direction"], x["call"]) for x in own} == {(layer, direction, 0)}
        (kind,) = {x["type"] for x in own}
        types.append(kind)
        entropy, previous, divergence = (x["value"] for x in own)
        assert entropy == H.entropy(after).item()
        assert previous == H.kl_divergence(before, after).item()
        assert divergence == H.kl_divergence(start, after).item()
        before = after
    return types


def nflow(context=None):
    """A flow of nflows with four maps, whose layers are called NFLOW."""
    pytest.importorskip("nflows")
    from nflows import distributions, flows, transforms
    from nflows.nn import nets

    def net(features_in, features_out):
        return nets.ResidualNet(features_in, features_out, 8, context_features=context)

    mask = torch.tensor([1, -1, 1, -1])
    maps = [
        transforms.RandomPermutation(4),
        transforms.AffineCouplingTransform(mask, net),
        transforms.HouseholderSequence(4, 2),
        transforms.PiecewiseRationalQuadraticCouplingTransform(
            -mask, net, tails="linear", tail_bound=3.0, apply_unconditional_transform=True
        ),
    ]
    base = distributions.StandardNormal([4])
    return flows.Flow(transforms.CompositeTransform(maps), base).eval()


NFLOW = [f"_transform._transforms.{i}" for i in range(4)]


def fc(features_in, features_out):
    return nn.Linear(features_in, features_out)


def two_ended_graph():
    """Two inputs, concatenated, coupled and split into two outputs, without names."""
    a, b = Ff.InputNode(3), Ff.InputNode(5)
    both = Ff.Node([a.out0, b.out0], Fm.Concat, {})
    coupled = Ff.Node(both, Fm.GLOWCouplingBlock, {"subnet_constructor": fc}, name="couple")
    split = Ff.Node(coupled, Fm.Split, {"section_sizes": [2, 6]})
    ends = [Ff.OutputNode(split.out0), Ff.OutputNode(split.out1)]
    return Ff.GraphINN([a, b, both, coupled, split, *ends])
