"""Models that were compiled, scripted or traced."""

import contextlib
import subprocess
import sys

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import (
    MEASURES,
    Block,
    assert_measured,
    assert_output,
    layers_of,
    run,
    small_model,
)


class TestCompiledModels:
    @pytest.mark.parametrize("fullgraph", [False, True])
    @pytest.mark.parametrize("on", ["wrapper", "model"])
    def test_compiled_and_run_before(self, counting, fullgraph, on):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=fullgraph)
        expected = compiled(x)
        with ip.probe(compiled if on == "wrapper" else model, measures=MEASURES) as probe:
            y = compiled(x)
        report = probe.report()
        assert torch.equal(y, expected)
        assert_measured(report, "3", x, model[:3](x), y)
        assert (counting.compiled, counting.ran) == (2, 2)
        compiled(x)  # goes on with what was compiled first
        assert (counting.compiled, counting.ran) == (2, 3)
        assert {row["n"] for row in probe.report().rows} == {50}

    def test_modules_keep_their_attributes_unless_something_was_compiled(self, counting):
        torch._dynamo.reset()
        model, x = small_model(), torch.randn(50, 6)
        before = [set(vars(module)) for module in model.modules()]
        optimizer = torch.optim.Adam(model.parameters())  # imports the compiler
        with ip.probe(model):
            model(x).sum().backward()
            optimizer.step()
            assert [set(vars(module)) for module in model.modules()] == before
        torch.compile(model, backend=counting)(x)
        with ip.probe(model):
            assert "forward" in vars(model)
        assert not any("forward" in vars(module) for module in model.modules())

    def test_compiled_while_probed(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            compiled = torch.compile(model, backend=counting, fullgraph=True)
            y = compiled(x)
        assert (counting.compiled, counting.ran) == (1, 1)
        assert_measured(probe.report(), "3", x, model[:3](x), y)
        compiled(x)
        assert (counting.compiled, counting.ran) == (2, 2)

    @pytest.mark.parametrize("ran", [False, True])
    def test_compiled_in_place(self, counting, ran):
        model, x = Block(), torch.randn(50, 6)
        model.compile(backend=counting, fullgraph=True)
        if ran:
            model(x)
        y, probe = run(model, x)
        assert_measured(probe.report(), "layer", x, x, model.layer(x))
        assert_output(probe.report(), "out", y - x)
        model(x)
        assert (counting.compiled, counting.ran) == (1, 1 + ran)

    @pytest.mark.parametrize("ran", [False, True])
    def test_a_compiled_part_of_a_plain_model(self, counting, ran):
        block = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        model = nn.Sequential(torch.compile(block, backend=counting), nn.Sigmoid())
        x = torch.randn(50, 6)
        if ran:
            model(x)
        y, probe = run(model, x)
        report = probe.report()
        assert layers_of(report) == ["0.0", "0.1", "1"]
        assert_measured(report, "0.1", x, block[0](x), block(x))
        assert_measured(report, "1", x, block(x), y)
        model(x)
        assert (counting.compiled, counting.ran) == (2, 2 + ran)

    def test_a_compiled_function_around_a_plain_model(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        step = torch.compile(lambda x: model(x).sum(), backend=counting)
        step(x)
        with ip.probe(model, measures=MEASURES) as probe:
            step(x)
        assert_output(probe.report(), "3", model(x))
        step(x)
        assert (counting.compiled, counting.ran) == (2, 3)

    def test_two_probes_in_any_order_of_removal(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting)
        compiled(x)
        first, second = ip.probe(model), ip.probe(compiled)
        first.remove()
        compiled(x)
        second.remove()
        compiled(x)
        assert {row["n"] for row in second.report().rows} == {50}
        assert (counting.compiled, counting.ran) == (2, 3)

    def test_probed_again_it_is_not_compiled_again(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        compiled(x)
        for _ in range(3):
            with ip.probe(model, measures=MEASURES) as probe:
                y = compiled(x)
            assert_measured(probe.report(), "3", x, model[:3](x), y)
        assert (counting.compiled, counting.ran) == (2, 4)

    def test_two_probes_at_once(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        with ip.probe(model, measures=MEASURES) as first, ip.probe(compiled) as second:
            compiled(x)
            with ip.probe(model, layers="1") as third:
                compiled(x)
        for probe, n in ((first, 100), (second, 100), (third, 50)):
            assert {row["n"] for row in probe.report().rows} == {n}

    def test_while_tracking_all_steps_run_compiled(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        with ip.probe(model, measures=MEASURES).track(every=5) as probe:
            for _ in range(10):
                compiled(x)
        assert (counting.compiled, counting.ran) == (1, 10)
        assert {row["step"] for row in probe.report().rows} == {0, 5}

    def test_other_models_and_the_users_stance_are_left_alone(self, counting):
        model, other, x = small_model(), small_model(), torch.randn(50, 6)
        compiled = torch.compile(other, backend=counting, fullgraph=True)
        compiled(x)
        with ip.probe(model), torch.compiler.set_stance("fail_on_recompile"):
            model(x)
            compiled(x)
            with pytest.raises(RuntimeError, match="recompile"):
                compiled(x[:7].double())
        assert (counting.compiled, counting.ran) == (1, 2)

    def test_a_pass_that_raises(self, counting):
        model, x = small_model(), torch.randn(50, 6)
        compiled = torch.compile(model, backend=counting)
        with ip.probe(model, measures=MEASURES) as probe:
            with pytest.raises(RuntimeError):
                compiled(torch.randn(50, 5))
            y = compiled(x)
        assert_measured(probe.report(), "3", x, model[:3](x), y)

    def test_the_same_layer_twice_in_a_pass(self, counting):
        layer, x = nn.Linear(6, 6), torch.randn(50, 6)
        model = nn.Sequential(layer, nn.Tanh(), layer)
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        with ip.probe(model, measures=MEASURES) as probe:
            compiled(x)
        calls = {row["call"] for row in probe.report().rows if row["layer"] == "0"}
        assert calls == {0, 1}

    def test_training(self, counting):
        gradients = []
        x = torch.randn(50, 6)
        for probed in (False, True):
            torch.manual_seed(0)
            model = small_model()
            compiled = torch.compile(model, backend=counting)
            compiled(x).sum().backward()
            with ip.probe(compiled) if probed else contextlib.nullcontext():
                compiled(x).square().sum().backward()
            compiled(x).sum().backward()
            gradients.append([p.grad for p in model.parameters()])
        assert all(map(torch.equal, *gradients))

    def test_training_through_the_whole_compiler(self):
        gradients = []
        x = torch.randn(50, 6)
        for probed in (False, True):
            torch.manual_seed(0)
            model = small_model()
            compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
            with (
                ip.probe(model, measures=MEASURES) if probed else contextlib.nullcontext() as probe
            ):
                for _ in range(3):
                    compiled(x).square().sum().backward()
            gradients.append([p.grad for p in model.parameters()])
        assert all(map(torch.equal, *gradients))
        assert {row["n"] for row in probe.report().rows} == {150}
        assert_output(probe.report(), "3", torch.cat([model(x)] * 3))

    @pytest.mark.parametrize("fullgraph", [False, True])
    def test_a_compiler_that_comes_into_the_process_while_probed(self, fullgraph):
        # Importing the compiler takes a second, so a probe does not.
        code = f"""
import torch, sys, infoprobe as ip
model, x = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh()), torch.randn(50, 6)
assert "torch._dynamo" not in sys.modules
with ip.probe(model, measures=ip.Entropy()) as probe:
    compiled = torch.compile(model, backend="eager", fullgraph={fullgraph})
    for _ in range(3):
        compiled(x)
assert [row["n"] for row in probe.report().rows] == [150, 150]
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] <= 1, counters["stats"]
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.filterwarnings("ignore:`torch.jit")
class TestWhatAPassIsTold:
    """Masks, targets, second views and the layers that measures refer to, in compiled passes."""

    @pytest.mark.parametrize(
        "measures",
        [
            [ip.Entropy(), ip.Entropy(select="tokens"), ip.Spectrum(select="tokens")],
            [ip.TokenEntropy(), ip.Curvature(), ip.PromptEntropy()],
            [ip.MutualInformation(reference="0", select="last"), ip.Divergence(reference="1")],
            [ip.MutualInformation(reference="target", select="tokens"), ip.InfoNCE()],
            [ip.PredictionEntropy(nn.Linear(4, 5)), ip.PredictionDivergence(nn.Linear(4, 5))],
        ],
    )
    def test_it_is_that_of_plain_passes(self, counting, measures):
        x, model = torch.randn(12, 7, 6), small_model()
        mask = torch.arange(7) < torch.randint(1, 8, (12, 1))
        compiled = torch.compile(model, backend=counting, fullgraph=True)
        rows = []
        for way in (model, compiled):
            with ip.probe(way, measures=measures) as probe:
                for i in range(4):
                    if i % 2:
                        probe.pair()
                    probe.mask(mask)
                    probe.target(torch.arange(12) % 3)
                    way(x + i)
            rows.append(probe.report().rows)
        assert rows[0] == rows[1]
        assert any(row["value"] is not None for row in rows[0])
        assert counting.ran == 4


@pytest.mark.filterwarnings("ignore:`torch.jit")
class TestScripts:
    def test_scripted_models_and_children_are_refused(self):
        scripted = torch.jit.script(nn.Linear(3, 3))
        for model in (scripted, nn.Sequential(nn.Tanh(), scripted)):
            with pytest.raises(TypeError, match="is a ScriptModule, which takes no hooks"):
                ip.probe(model)
            assert not any(m._forward_hooks for m in model.modules())
        _, probe = run(nn.Sequential(nn.Tanh(), scripted), torch.randn(9, 3), layers="0")
        assert layers_of(probe.report()) == ["0"]

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_traced_models_and_children_are_refused(self):
        traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(9, 3))
        for model in (traced, nn.Sequential(nn.Tanh(), traced)):
            with pytest.raises(TypeError, match="is a ScriptModule, which takes no hooks"):
                ip.probe(model)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_tracing_a_probed_model(self):
        model, x = small_model(), torch.randn(50, 6)
        plain = torch.jit.trace(model, x)
        with ip.probe(model, measures=MEASURES) as probe:
            traced = torch.jit.trace(model, x, check_trace=False)
            y = model(x)
        report = probe.report()
        assert_output(report, "3", torch.cat([y, y]) if report.rows[0]["n"] == 100 else y)
        assert all(type(row["n"]) is int for row in report.rows)
        assert str(traced.inlined_graph).count("aten::") == str(plain.inlined_graph).count(
            "aten::"
        )
