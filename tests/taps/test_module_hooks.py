import warnings

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import mnist_inn
from tests.taps.seen import fc, names, two_ended_graph


class TestGraphs:
    def test_several_inputs_and_outputs(self):
        graph, h = two_ended_graph(), ip.Histogram()
        x = torch.randn(30, 3), torch.randn(30, 5)
        measures = [ip.Entropy(h), ip.Divergence(reference="previous")]
        with ip.probe(graph, measures=measures) as probe, torch.no_grad():
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
        measure = ip.Entropy(ip.Histogram())
        with ip.probe(graph, ["output", "fc"], measure) as probe, torch.no_grad():
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
        with ip.probe(inn, measures=ip.Entropy(h)) as probe, torch.no_grad():
            z, _ = inn(x)
            y, _ = inn(z.clone(), rev=True)
        scalars = probe.report().scalars()
        assert scalars["input/inverse/entropy"] == h.entropy(y).item()
        assert scalars["module_list.1/forward/entropy"] == h.entropy(z).item()
        glow, haar = inn[1], inn[0]
        with ip.probe(nn.ModuleList(inn), measures=ip.Entropy(h)) as probe, torch.no_grad():
            glow((z,), [], True)  # rev is the third argument here
            haar((z,), None, True, True)  # and the fourth here
        assert {row["direction"] for row in probe.report().rows} == {"inverse"}


def test_script_modules_are_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.plain = nn.Linear(3, 3)
            self.scripted = torch.jit.trace(nn.ReLU(), torch.zeros(3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
