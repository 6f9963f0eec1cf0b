import copy

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import torch
from torch import nn

import infoprobe as ip
from infoprobe.libraries import Library, register, unregister
from infoprobe.models import InvertibleAutoencoder, MNISTAutoencoder, mnist_inn
from infoprobe.taps.layout import Layout
from tests.taps.seen import fc, names, two_ended_graph


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

    def test_every_module_is_looked_up_once(self):
        class Counting(Library):
            asked = 0

            def recognises(self, module):
                self.asked += 1
                return False

            def run(self, *args, **kwargs):
                raise AssertionError

        register(library := Counting())
        try:
            model = InvertibleAutoencoder(mnist_inn(), 20)
            layout = Layout.of(model)
            assert library.asked == len(list(model.modules()))
            assert layout.select(["fc", "conv?"]).layers is layout.layers
            assert library.asked == len(list(model.modules()))
        finally:
            unregister(library)
