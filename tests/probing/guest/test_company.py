"""Several probes on one model, and the hooks of others."""

import contextlib
import itertools
import warnings

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

import infoprobe as ip
from tests.probing.guest.helpers import entropy, equal, network, snapshot
from tests.probing.helpers import MEASURES, H


class TestSeveralProbes:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_any_order_of_removal(self, order):
        model, x = network().eval(), torch.randn(8, 6)
        before = snapshot(model)
        probes = [ip.probe(model, layers, MEASURES) for layers in (None, "4", ["*", "(model)"])]
        for index in order:
            model(x)
            probes[index].remove()
        assert equal(snapshot(model), before)
        model(x)
        for times, index in enumerate(order, start=1):
            report = probes[index].report()
            assert {row["n"] for row in report.rows} == {8 * times}
            assert entropy(report, "4") == H.entropy(torch.cat([model(x)] * times)).item()

    def test_nested_on_parts(self):
        model, x = network().eval(), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as whole:
            model(x)
            with ip.probe(model[2], measures=MEASURES) as part:
                model(x)
                with ip.probe(model[2].layer, measures=MEASURES) as layer:
                    y = model(x)
        z = model[:2](x)
        linear = H.entropy(torch.cat([model[2].layer(z)] * 2)).item()
        assert entropy(part.report(), "layer") == linear
        assert entropy(layer.report(), "(model)") == H.entropy(model[2].layer(z)).item()
        assert entropy(whole.report(), "4") == H.entropy(torch.cat([y] * 3)).item()
        # What is marked in the part has the name that it has from there.
        assert entropy(part.report(), "sum") == H.entropy(torch.cat([model[2](z)] * 2)).item()
        assert entropy(whole.report(), "2.sum") == H.entropy(torch.cat([model[2](z)] * 3)).item()

    def test_one_probe_over_several_loaders(self):
        model, x = network().eval(), torch.randn(60, 6)
        loaders = [
            torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=size)
            for size in (7, 60, 1)
        ]
        with ip.probe(model, measures=MEASURES) as probe:
            reports = []
            for loader in loaders:
                for (batch,) in loader:
                    model(batch)
                reports.append(probe.report())
                probe.reset()
        assert reports[0].scalars() == reports[1].scalars() == reports[2].scalars()
        assert entropy(reports[0], "4") == H.entropy(model(x)).item()

    def test_the_same_with_statement_twice(self):
        model, x = network().eval(), torch.randn(8, 6)
        probe = ip.probe(model)
        for _ in range(2):
            with probe:
                model(x)
        assert {row["n"] for row in probe.report().rows} == {16}  # attached again

    def test_attached_inside_of_a_pass(self):
        class Attaches(nn.Module):
            def forward(self, x):
                probes.append(ip.probe(model, measures=MEASURES))
                return x.tanh()

        probes = []
        model, x = nn.Sequential(nn.Linear(6, 6), Attaches(), nn.Sigmoid()), torch.randn(8, 6)
        before = snapshot(model)
        model(x)
        (probe,) = probes
        # What is left of the pass enters by the layer after it.
        model[1].forward = torch.tanh
        y = model(x)
        del model[1].forward
        probe.remove()
        assert equal(snapshot(model), before)
        report = probe.report()
        counted = {row["layer"]: (row["n"], row["call"]) for row in report.rows}
        assert counted == {"0": (8, 0), "1": (8, 0), "2": (16, 0)}
        assert entropy(report, "2") == H.entropy(torch.cat([y, y])).item()

    def test_removed_and_attached_anew_inside_of_a_pass(self):
        class Swaps(nn.Module):
            def forward(self, x):
                probes[-1].remove()
                probes.append(ip.probe(model, measures=MEASURES))
                return ip.tap(x.tanh(), "point")

        model, x = nn.Sequential(nn.Linear(6, 6), Swaps(), nn.Sigmoid()), torch.randn(8, 6)
        before = snapshot(model)
        probes = [ip.probe(model, measures=MEASURES)]
        model(x)
        model(x)
        probes[-1].remove()
        assert equal(snapshot(model), before)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            counted = [{row["layer"]: row["n"] for row in p.report().rows} for p in probes]
        assert counted == [{"0": 8}, {"0": 8, "2": 8}, {"2": 8}]

    def test_removed_by_a_layer_while_other_probes_go_on(self):
        class Removes(nn.Module):
            def forward(self, x):
                first.remove()
                return x.tanh()

        model, x = nn.Sequential(nn.Linear(6, 6), Removes(), nn.Sigmoid()), torch.randn(8, 6)
        first, second = ip.probe(model, measures=MEASURES), ip.probe(model, measures=MEASURES)
        y = model(x)
        second.remove()
        with pytest.warns(UserWarning, match="gave no output: 1, 2"):
            assert {row["layer"] for row in first.report().rows} == {"0"}
        assert entropy(second.report(), "2") == H.entropy(y).item()


class TestOtherHooks:
    @pytest.mark.parametrize("always_call", [False, True])
    @pytest.mark.parametrize("when", ["before", "after", "first"])
    def test_one_that_replaces_the_output(self, when, always_call):
        model, x = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid()), torch.randn(8, 6)

        def replace(module, args, output):
            return output * 3

        def register():
            model[0].register_forward_hook(
                replace, always_call=always_call, prepend=when == "first"
            )

        if when == "before":
            register()
        with ip.probe(model, measures=MEASURES) as probe:
            if when != "before":
                register()
            y = model(x)
        report, linear = probe.report(), nn.functional.linear(x, model[0].weight, model[0].bias)
        assert torch.equal(y, (linear * 3).sigmoid())
        # What the layer gives at this point of the chain; the next layer is given the last word.
        seen = linear if when == "after" else linear * 3
        assert entropy(report, "0") == H.entropy(seen).item()
        previous = report.scalars()["1/forward/divergence_previous"]
        assert previous == H.kl_divergence(linear * 3, y).item()

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_one_that_replaces_the_input(self, when):
        model, x = nn.Sequential(nn.Tanh(), nn.Sigmoid()), torch.randn(8, 6)

        def replace(module, args):
            return (args[0] * 3,)

        if when == "before":
            model.register_forward_pre_hook(replace)
        with ip.probe(model, measures=MEASURES) as probe:
            if when == "after":
                model.register_forward_pre_hook(replace)
            y = model(x)
        given = x if when == "after" else 3 * x
        scalars = probe.report().scalars()
        assert scalars["1/forward/divergence_input"] == H.kl_divergence(given, y).item()
        assert scalars["0/forward/divergence_previous"] == (
            H.kl_divergence(3 * x, (3 * x).tanh()).item()
        )

    def test_one_that_writes_into_the_output(self):
        model, x = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid()), torch.randn(8, 6)
        with ip.probe(model, measures=MEASURES) as probe, torch.no_grad():
            handle = model[0].register_forward_hook(lambda m, args, y: y.mul_(3) and None)
            with contextlib.suppress(RuntimeError):
                model(x)
            handle.remove()
            probe.reset()
            model[0].register_forward_hook(lambda m, args, y: y.mul_(3))
            y = model(x)
        linear = nn.functional.linear(x, model[0].weight, model[0].bias)
        report = probe.report()
        assert entropy(report, "0") == H.entropy(linear).item()
        previous = report.scalars()["1/forward/divergence_previous"]
        assert previous == H.kl_divergence(linear * 3, y).item()

    def test_hooks_run_as_often_and_in_the_same_order(self):
        def run(attach):
            torch.manual_seed(0)
            model, log = network().eval(), []
            for name, module in model.named_modules():
                module.register_forward_pre_hook(lambda m, a, name=name: log.append(("pre", name)))
                module.register_forward_hook(lambda m, a, y, name=name: log.append(("fwd", name)))
                if name in ("", "0", "3", "4"):  # the others work in place
                    module.register_full_backward_hook(
                        lambda m, a, b, name=name: log.append(("bwd", name))
                    )
            with attach(model):
                model(torch.randn(8, 6, requires_grad=True)).sum().backward()
            return log

        assert run(ip.probe) == run(lambda model: contextlib.nullcontext())

    def test_one_that_is_removed_while_probed(self):
        model, x, seen = nn.Sequential(nn.Tanh()), torch.randn(8, 6), []
        handle = model[0].register_forward_hook(lambda *args: seen.append(1))
        with ip.probe(model) as probe:
            model(x)
            handle.remove()
            model(x)
        assert seen == [1]
        assert {row["n"] for row in probe.report().rows} == {16}
        assert not model[0]._forward_hooks

    def test_global_hooks_of_others(self):
        seen = []
        handle = torch_module.register_module_forward_hook(lambda m, a, y: seen.append(m) or None)
        try:
            model, x = nn.Sequential(nn.Tanh()), torch.randn(8, 6)
            with ip.probe(model, measures=MEASURES) as probe:
                y = model(x)
        finally:
            handle.remove()
        assert seen == [model[0], model]
        assert entropy(probe.report(), "0") == H.entropy(y).item()
