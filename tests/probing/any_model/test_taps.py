"""Points that ip.tap marks inside of a forward pass."""

import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn

import infoprobe as ip
from tests.probing.helpers import (
    MEASURES,
    Block,
    H,
    assert_measured,
    assert_output,
    layers_of,
    run,
)

ROWS = [ip.Entropy(ip.KNN()), ip.MutualInformation(ip.KNN())]


class TestMarkedPoints:
    def test_rows_by_hand(self):
        model, x = Block(), torch.randn(50, 6)
        y, probe = run(model, x, times=2)
        marked = model.layer(x).tanh()
        twice, marks = torch.cat([x, x]), torch.cat([marked, marked])
        entropy, previous, of_input = (row for row in probe.report().rows if row["layer"] == "out")
        assert {row["type"] for row in (entropy, previous, of_input)} == {"tap"}
        assert {row["n"] for row in (entropy, previous, of_input)} == {100}
        assert entropy["value"] == H.entropy(marks).item()
        assert of_input["value"] == H.kl_divergence(twice, marks).item()
        assert previous["value"] is None
        assert "A tap has no input of its own" in previous["findings"][-1]
        assert torch.equal(y, marked + x)

    def test_kept_rows(self):
        model, x = Block(), torch.randn(50, 6)
        _, probe = run(model, x, measures=ROWS)
        marked = model.layer(x).tanh().detach()
        scalars = probe.report().scalars()
        assert scalars["out/forward/entropy"] == ip.KNN().entropy(marked).item()
        expected = ip.KNN().mutual_information(x, marked).item()
        assert scalars["out/forward/mutual_information_input"] == expected

    def test_the_same_object_comes_back(self):
        seen = []

        class Model(nn.Module):
            def forward(self, x):
                seen.append(ip.tap(x, "x") is x)
                return x

        model, x = Model(), torch.randn(5, 2, requires_grad=True)
        model(x)
        with ip.probe(model) as probe:
            model(x)
        model(x)
        assert seen == [True, True, True]
        assert ip.tap(x, "x") is x  # outside of any model
        assert {row["n"] for row in probe.report().rows} == {5}

    def test_names_and_calls_in_nested_and_reused_blocks(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList([Block(), Block()])

            def forward(self, x):
                for block in [*self.blocks, self.blocks[0]]:
                    x = block(x)
                ip.tap(x, "end")
                ip.tap(2 * x, "end")
                return x

        model, x = Model(), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        marks, z = [], x
        for i in (0, 1, 0):
            marks.append(model.blocks[i].layer(z).tanh())
            z = z + marks[-1]
        assert_output(report, "blocks.0.out", marks[0])
        assert_output(report, "blocks.1.out", marks[1])
        assert_output(report, "blocks.0.out", marks[2], call=1)
        assert_output(report, "end", y)
        assert_output(report, "end", 2 * y, call=1)

    @pytest.mark.parametrize("layers", ["head", nn.Sigmoid, "(model)"])
    def test_names_do_not_depend_on_the_chosen_layers(self, layers):
        class Leaf(nn.Module):
            def forward(self, x):
                return ip.tap(x, "point")

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(Block(), Block(), Leaf())
                self.head = nn.Sigmoid()

            def forward(self, x):
                return self.head(self.body(x))

        _, probe = run(Model(), torch.randn(50, 6), layers=layers)
        marked = [(r["layer"], r["call"]) for r in probe.report().rows if r["type"] == "tap"]
        assert list(dict.fromkeys(marked)) == [
            ("body.0.out", 0),
            ("body.1.out", 0),
            ("body.2.point", 0),
        ]

    def test_a_point_with_the_name_of_a_layer(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(6, 6)

            def forward(self, x):
                return ip.tap(self.layer(x).relu(), "layer")

        model, x = Model(), torch.randn(50, 6)
        y, probe = run(model, x)
        report = probe.report()
        assert_output(report, "layer", model.layer(x))
        assert_output(report, "layer (tap)", y)

    def test_the_direction_is_that_of_the_pass(self):
        class Doubles(fm.InvertibleModule):
            def forward(self, x, c=(), rev=False, jac=True):
                y = ip.tap(x[0] / 2 if rev else x[0] * 2, "y")
                return (y,), y.new_zeros(len(y))

            def output_dims(self, dims):
                return dims

        nodes = [ff.InputNode(6)]
        nodes += [ff.Node(nodes[-1], Doubles, {}, name="double")]
        net, x = ff.GraphINN([*nodes, ff.OutputNode(nodes[-1])]), torch.randn(50, 6)
        with ip.probe(net, measures=ip.Entropy(H)) as probe:
            net(x)
            net(x, rev=True)
        scalars = probe.report().scalars()
        assert scalars["double.y/forward/entropy"] == H.entropy(2 * x).item()
        assert scalars["double.y/inverse/entropy"] == H.entropy(x / 2).item()

    def test_windows_and_pauses(self):
        model, x = Block(), torch.randn(50, 6)
        with ip.probe(model, measures=ip.Entropy(H)).track(every=2) as probe:
            for _ in range(4):
                model(x)
        steps = [row["step"] for row in probe.report().rows if row["layer"] == "out"]
        assert steps == [0, 2]
        with ip.probe(model, measures=ip.Entropy(H)) as probe, probe.pause():
            model(x)
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []

    def test_two_models_one_inside_the_other(self):
        class Outer(nn.Module):
            def forward(self, x):
                return ip.tap(inner(x), "outer")

        inner, outer, x = Block(), Outer(), torch.randn(50, 6)
        with ip.probe(inner, measures=ip.Entropy(H)) as inside:
            _, outside = run(outer, x)
        assert "out" in layers_of(inside.report())
        assert "outer" not in layers_of(inside.report())
        assert "outer" in layers_of(outside.report())

    def test_points_cost_no_graph_break(self, counting):
        model, x = nn.Sequential(Block(), Block()), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        expected = compiled(x)
        y, _ = run(model, x)
        torch.testing.assert_close(y, expected)
        compiled(x)
        assert (counting.compiled, counting.ran) == (1, 2)  # the model itself ran uncompiled
        with ip.probe(compiled, measures=MEASURES) as probe:
            compiled(x)
        assert (counting.compiled, counting.ran) == (2, 3)
        assert_output(probe.report(), "0.out", model[0].layer(x).tanh())

    def test_a_point_that_cannot_be_measured(self):
        class Model(nn.Module):
            def forward(self, x):
                ip.tap(torch.complex(x, x), "complex")
                return x

        model, x = Model(), torch.randn(50, 6)
        with pytest.warns(RuntimeWarning, match=r"layer 'complex' .* expected real numbers"):
            _, probe = run(model, x)
        assert_measured(probe.report(), "(model)", x, x, x)


@pytest.mark.parametrize("marked", [(torch.ones(3, 2),), [torch.ones(3, 2)], 7, "text", None, []])
def test_whatever_is_marked_passes_as_it_is(marked):
    class Marks(nn.Module):
        def forward(self, x):
            assert ip.tap(marked, "p") is marked
            return x.tanh()

    with ip.probe(model := Marks(), measures=ip.Entropy()) as probe:
        model(torch.randn(3, 2))
    layers = {row["layer"] for row in probe.report().rows}
    assert layers == (
        {"(model)", "p"} if isinstance(marked, (tuple, list)) and marked else {"(model)"}
    )
