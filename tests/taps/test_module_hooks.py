import copy
import warnings

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import InvertibleAutoencoder, MNISTAutoencoder, mnist_inn
from infoprobe.taps.layout import Layout
from infoprobe.taps.tensors import main_tensor
from tests.taps.seen import names


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


class TestNames:
    def test_leaf_modules(self):
        assert names(MNISTAutoencoder(3)) == [
            "encoder.flatten",
            *(f"encoder.fc{i}.{part}" for i in (1, 2, 3) for part in ("linear", "relu")),
            "encoder.code",
            *(f"decoder.fc{i}.{part}" for i in (1, 2, 3) for part in ("linear", "relu")),
            "decoder.output.linear",
            "decoder.output.tanh",
            "decoder.unflatten",
        ]

    def test_a_model_that_is_a_leaf(self):
        model = nn.Linear(3, 3)
        with ip.probe(model) as probe:
            model(torch.randn(4, 3))
        assert {row["layer"] for row in probe.report().rows} == {"(model)"}
        assert names(nn.ModuleDict({"model": model}), nn.Module) == ["(model)", "model"]

    def test_a_graph_inside_a_model(self):
        model = nn.ModuleDict({"inn": mnist_inn(), "head": nn.Linear(3, 3)})
        assert names(model) == [
            *("input", "output", "haar_down", "conv1", "conv2", "conv3", "flatten", "fc"),
            *("unflatten", "haar_up", "head"),
        ]

    def test_two_graphs_with_the_same_names(self):
        model = nn.ModuleDict({"a": mnist_inn(), "b": mnist_inn()})
        assert names(model)[:4] == ["a.input", "a.output", "a.haar_down", "a.conv1"]
        assert names(model, "*.conv1") == ["a.conv1", "b.conv1"]
        assert names(model, "a.module_list.1") == ["a.conv1"]
        assert names(model, "b.conv1.subnet1.0") == ["b.conv1.subnet1.0"]

    def test_unnamed_nodes_and_several_ends(self):
        assert names(two_ended_graph()) == [
            *("input0", "input1", "output0", "output1", "module_list.0", "couple"),
            "module_list.2",
        ]
        copied = copy.deepcopy(two_ended_graph())
        assert names(copied) == names(two_ended_graph())

    def test_nodes_and_ends_of_the_same_name(self):
        nodes = [Ff.InputNode(4, name="x"), Ff.InputNode(4, name="x")]
        blocks = [Ff.Node(x, Fm.PermuteRandom, {}, name="block") for x in nodes]
        outputs = [Ff.OutputNode(block, name="z") for block in blocks]
        graph = Ff.GraphINN([*nodes, *blocks, *outputs])
        graph.z = nn.Identity()
        assert names(graph) == [
            *("x#0", "x#1", "z#0", "z#1", "module_list.0", "module_list.1"),
        ]
        assert names(graph, graph.z) == ["z"]

    def test_a_sequence(self):
        inn = Ff.SequenceINN(1, 4, 4)
        inn.append(Fm.HaarDownsampling)
        inn.append(Fm.Flatten)
        assert names(inn) == ["input", "output", "module_list.0", "module_list.1"]

    def test_an_invertible_module_outside_of_a_graph_is_one_layer(self):
        model = nn.ModuleDict({"glow": Fm.GLOWCouplingBlock([(4,)], subnet_constructor=fc)})
        assert names(model) == ["glow"]

    def test_wrappers_leave_no_trace_in_names(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"module": nn.ReLU()}))
        wrapped = nn.DataParallel(torch.compile(model, backend="eager"))
        assert names(wrapped) == ["0", "1.module"]
        assert names(wrapped, nn.Module) == ["(model)", "0", "1", "1.module"]

        compiled = nn.Sequential(wrapped.module, nn.ReLU())
        assert names(compiled, compiled[0]) == ["0"]
        assert names(compiled) == ["0.0", "0.1.module", "1"]

    def test_a_module_that_wraps_a_graph_is_not_one_layer(self):
        class Flow(Fm.InvertibleModule):
            def __init__(self):
                super().__init__([(1, 28, 28)])
                self.inn = mnist_inn()

        assert names(Flow())[:3] == ["input", "output", "haar_down"]

    def test_parametrizations_are_no_layers(self):
        model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.ReLU())
        assert names(model) == ["0", "1"]

    def test_attention_is_one_layer(self):
        model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        assert names(model)[:2] == ["self_attn", "linear1"]
        with ip.probe(model) as probe:
            model(torch.randn(3, 5, 4))
        assert {row["layer"] for row in probe.report().rows} == set(names(model))

    def test_containers_that_are_never_called(self):
        model = nn.ModuleDict({"empty": nn.ModuleList(), "relu": nn.ReLU()})
        assert names(model) == ["relu"]

    def test_a_shared_module_is_one_layer(self):
        relu = nn.ReLU()
        assert names(nn.Sequential(relu, nn.Linear(3, 3), relu)) == ["0", "1"]


class TestSelection:
    def test_each_way_to_ask(self):
        model = InvertibleAutoencoder(mnist_inn(), 20)
        assert names(model, "conv?") == ["conv1", "conv2", "conv3"]
        assert names(model, "inn.module_list.5") == ["fc"]
        assert names(model, ["haar_*", "bottleneck"]) == ["haar_down", "haar_up", "bottleneck"]
        assert names(model, model.bottleneck) == ["bottleneck"]
        assert names(model, Fm.HaarUpsampling) == ["haar_up"]
        assert names(model, lambda name, module: name.endswith("subnet2")) == [
            *("conv1.subnet2", "conv2.subnet2", "conv3.subnet2")
        ]
        assert names(model, "*") == names(model)
        everything = [layer.name for layer in Layout.of(model).layers]
        assert names(model, lambda name, module: True) == everything
        assert names(model, nn.Module)[:3] == ["(model)", "inn", "inn.module_list"]

    def test_a_container_is_a_layer_when_asked_for(self):
        model = MNISTAutoencoder(3)
        x = torch.rand(20, 1, 28, 28)
        h = ip.Histogram(pseudocount=1)
        with ip.probe(model, "encoder.fc?", ip.Divergence(h)) as probe:
            model(x)
        a = model.encoder.fc1(x.flatten(1))
        expected = [h.kl_divergence(x, a), h.kl_divergence(a, model.encoder.fc2(a))]
        values = [row["value"] for row in probe.report().rows]
        assert values[:2] == [divergence.item() for divergence in expected]
        assert len(values) == 3


class TestGraphs:
    def test_several_inputs_and_outputs(self):
        graph, h = two_ended_graph(), ip.Histogram()
        x = torch.randn(30, 3), torch.randn(30, 5)
        with ip.probe(graph) as probe, torch.no_grad():
            z, _ = graph(x)
            graph(z, rev=True)
        scalars = probe.report().scalars()
        both = torch.cat(x, 1)
        assert scalars["input0/forward/entropy"] == h.entropy(x[0]).item()
        assert scalars["input1/forward/entropy"] == h.entropy(x[1]).item()
        assert scalars["module_list.0/forward/entropy"] == h.entropy(both).item()
        assert scalars["module_list.0/forward/divergence_previous"] == 0.0
        assert scalars["output0/inverse/entropy"] == h.entropy(z[0]).item()
        split = torch.cat(z, 1)
        assert scalars["module_list.2/forward/entropy"] == h.entropy(split).item()
        assert scalars["module_list.2/inverse/entropy"] == h.entropy(split).item()

    def test_intermediate_outputs(self):
        graph = mnist_inn()
        x = torch.rand(5, 1, 28, 28)
        with ip.probe(graph, ["output", "fc"]) as probe, torch.no_grad():
            graph(x, intermediate_outputs=True)
        expected = ip.Histogram().entropy(graph(x)[0]).item()
        assert probe.report().scalars()["output/forward/entropy"] == expected

    def test_subclasses_with_another_protocol(self):
        class Density(Ff.SequenceINN):
            def forward(self, x):
                z, log_det = super().forward(x)
                return {"loss": z.square().mean() - log_det, "z": z}

        class Sampler(Ff.SequenceINN):
            def forward(self, n):
                return super().forward(torch.randn(n, 4), rev=True)[0]

        for kind, argument, way in (
            (Density, torch.randn(9, 4), "forward"),
            (Sampler, 9, "inverse"),
        ):
            model = kind(4)
            model.append(Fm.PermuteRandom)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with ip.probe(model) as probe, torch.no_grad():
                    model(argument)
                rows = probe.report().rows
            (entropy,) = [
                row
                for row in rows
                if (row["layer"], row["measure"]) == ("module_list.0", "entropy")
            ]
            assert (entropy["n"], entropy["d"], entropy["direction"]) == (9, 4, way)
            assert "output" not in {row["layer"] for row in rows}
        with ip.probe(model), pytest.raises(TypeError, match="positional argument"):
            model(1, 2, 3)

    def test_a_condition_is_no_input(self):
        node = Ff.InputNode(4, name="x")
        condition = Ff.ConditionNode(2, name="c")
        glow = Ff.Node(
            node,
            Fm.GLOWCouplingBlock,
            {"subnet_constructor": fc},
            conditions=condition,
            name="glow",
        )
        graph = Ff.GraphINN([node, condition, glow, Ff.OutputNode(glow, name="z")])
        x, h = torch.randn(50, 4), ip.Histogram(pseudocount=1)
        with ip.probe(graph, "glow", ip.Divergence(h)) as probe, torch.no_grad():
            z, _ = graph(x, c=[torch.randn(50, 2)])
        assert probe.report().rows[0]["value"] == h.kl_divergence(x, z).item()

    def test_a_sequence_and_modules_called_by_position(self):
        inn = Ff.SequenceINN(1, 4, 4)
        inn.append(Fm.HaarDownsampling)
        inn.append(Fm.GLOWCouplingBlock, subnet_constructor=lambda i, o: nn.Conv2d(i, o, 1))
        x, h = torch.randn(20, 1, 4, 4), ip.Histogram()
        with ip.probe(inn) as probe, torch.no_grad():
            z, _ = inn(x)
            y, _ = inn(z.clone(), rev=True)
        scalars = probe.report().scalars()
        assert scalars["input/inverse/entropy"] == h.entropy(y).item()
        assert scalars["module_list.1/forward/entropy"] == h.entropy(z).item()
        glow, haar = inn[1], inn[0]
        with ip.probe(nn.ModuleList(inn)) as probe, torch.no_grad():
            glow((z,), [], True)  # rev is the third argument here
            haar((z,), None, True, True)  # and the fourth here
        assert {row["direction"] for row in probe.report().rows} == {"inverse"}


def test_main_tensor():
    x, mask = torch.zeros(1), torch.ones(1, dtype=torch.bool)
    assert main_tensor(x) == [x]
    assert main_tensor((None, {"a": [x, torch.ones(1)]})) == [x]
    assert main_tensor(((), {"mask": mask, "x": x})) == [x]
    assert main_tensor([mask, 3]) == [mask]
    assert main_tensor(((), {})) == []
    assert main_tensor("text") == []


def test_script_modules_are_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.plain = nn.Linear(3, 3)
            self.scripted = torch.jit.trace(nn.ReLU(), torch.zeros(3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = Model()
    with pytest.raises(TypeError, match="layers: 'scripted' is a ScriptModule"):
        ip.probe(model)
    assert names(model, "plain") == ["plain"]
    ip.probe(model, "plain").remove()
    assert not any(m._forward_hooks for m in model.modules())


def test_hooks_that_cannot_be_attached_leave_none(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    def refuse(*args, **kwargs):
        raise RuntimeError("no hooks here")

    monkeypatch.setattr(model[1], "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no hooks here"):
        ip.probe(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
