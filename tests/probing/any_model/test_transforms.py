"""Layers that run within differentiation and function transforms."""

import contextlib
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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

ROWS = [ip.Entropy(ip.KNN()), ip.MutualInformation(ip.KNN())]


class TestBackward:
    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoints_are_counted_once(self, reentrant):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.block, self.last = Block(), nn.Linear(6, 6)

            def forward(self, x):
                return self.last(checkpoint(self.block, x, use_reentrant=reentrant))

        model, x = Model(), torch.randn(50, 6, requires_grad=True)
        with ip.probe(model, measures=MEASURES) as probe:
            model(x).sum().backward()
            model(x).sum().backward()
        report = probe.report()
        twice = torch.cat([x, x]).detach()
        hidden = model.block.layer(twice)
        assert layers_of(report) == ["block.layer", "block.out", "last"]
        assert_measured(report, "block.layer", twice, twice, hidden)
        assert_output(report, "block.out", hidden.tanh())
        assert {(row["n"], row["call"]) for row in report.rows} == {(100, 0)}

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoints_inside_a_model_that_goes_backward_itself(self, reentrant):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.block, self.last = Block(), nn.Linear(6, 6)

            def forward(self, x):
                y = checkpoint(self.block, x, use_reentrant=reentrant)
                y.sum().backward()
                return self.last(x.grad)

        model, x = Model(), torch.randn(50, 6, requires_grad=True)
        y, probe = run(model, x)
        report = probe.report()
        assert [(row["layer"], row["call"]) for row in report.rows[::3]] == [
            ("block.layer", 0),
            ("block.out", 0),
            ("last", 0),
        ]
        assert_measured(report, "last", x.detach(), x.grad, y)

    def test_gradients_inside_of_forward(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.energy, self.last = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 6)

            def forward(self, x):
                x = x.detach().requires_grad_()
                (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
                return self.last(force)

        model, x = Model(), torch.randn(50, 6)
        plain = model(x)
        y, probe = run(model, x)
        assert torch.equal(y, plain)
        report = probe.report()
        energy = model.energy[0](x)
        assert_measured(report, "energy.1", x, energy, energy.tanh())
        force = (1 - energy.tanh().square()) @ model.energy[0].weight
        assert_output(report, "last", y)
        assert torch.allclose(model.last(force), y, atol=1e-5)

    def test_a_gradient_penalty(self):
        grads = []
        for probed in (False, True):
            torch.manual_seed(0)
            model, x = small_model(), torch.randn(50, 6, requires_grad=True)
            with ip.probe(model, measures=MEASURES) if probed else contextlib.nullcontext():
                (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
                (model(x).mean() + slope.square().mean()).backward()
            grads.append([p.grad for p in model.parameters()])
        assert all(map(torch.equal, *grads))

    def test_jacobians(self):
        model, x = small_model(), torch.randn(5, 6)
        expected = torch.autograd.functional.jacobian(model, x)
        with ip.probe(model, measures=MEASURES) as probe:
            jacobian = torch.autograd.functional.jacobian(model, x)
        assert torch.equal(jacobian, expected)
        assert_measured(probe.report(), "3", x, model[:3](x), model(x))


class TestFunctionTransforms:
    def test_functional_call(self):
        model, x = small_model(), torch.randn(50, 6)
        weights = {name: 2 * p.detach() for name, p in model.named_parameters()}
        with ip.probe(model, measures=MEASURES) as probe:
            y = torch.func.functional_call(model, weights, (x,))
        assert_output(probe.report(), "3", y)

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize("transform", ["jacrev", "vjp", "grad", "jvp", "dual", "nested"])
    def test_differentiation_keeps_values(self, transform, measures):
        model, x = small_model()[:2], torch.randn(40, 6)
        scalar = lambda x: model(x).square().sum()  # noqa: E731

        def transformed():
            if transform == "jacrev":
                return torch.func.jacrev(model)(x[:5])
            if transform == "vjp":
                return torch.func.vjp(model, x)[0]
            if transform == "grad":
                return torch.func.grad(scalar)(x)
            if transform == "jvp":
                return torch.func.jvp(model, (x,), (x,))[1]
            if transform == "nested":
                return torch.func.grad(lambda x: torch.func.grad(scalar)(x).sum())(x)
            with torch.autograd.forward_ad.dual_level():
                return model(torch.autograd.forward_ad.make_dual(x, x)).sum()

        with warnings.catch_warnings():
            # torch itself says so when it first needs its decompositions.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            expected = transformed()
        with ip.probe(model, measures=measures) as probe:
            model(x)
            assert torch.equal(transformed(), expected)
            model(x)
        n = 85 if transform == "jacrev" else 120
        if measures is ROWS:
            n = 40  # each sample once
        assert {row["n"] for row in probe.report().rows} == {n}
        findings = [finding for row in probe.report().rows for finding in row["findings"]]
        assert not any("left out" in x and "seen-twice" not in x for x in findings)

    def test_a_transform_leaves_nothing_behind(self):
        # In a thread of its own, where nothing was counted before.
        model, x, found = small_model(), torch.randn(50, 6), []

        def count():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with ip.probe(model, measures=MEASURES):
                    torch.func.vjp(model, x)
                    torch.func.vmap(model)(x)
            y, probe = run(model, x)
            found.append((y, probe))

        thread = threading.Thread(target=count)
        thread.start()
        thread.join()
        ((y, probe),) = found
        assert_measured(probe.report(), "3", x, model[:3](x), y)

    @pytest.mark.parametrize("measures", [MEASURES, ROWS])
    @pytest.mark.parametrize(
        ("randomness", "values_per_batch"),
        [
            ("error", None),
            ("error", 20),
            ("same", None),
            ("same", 20),
            ("different", None),
            ("different", 20),
        ],
    )
    def test_calls_under_vmap_are_left_out(self, measures, randomness, values_per_batch):
        model, x = small_model()[:2], torch.randn(10, 40, 6)
        expected = torch.vmap(model, randomness=randomness)(x)
        with ip.probe(model, measures=measures, values_per_batch=values_per_batch) as probe:
            with pytest.warns(RuntimeWarning, match="a call is left out"):
                y = torch.vmap(model, randomness=randomness)(x)
            model(x[0])
        assert torch.equal(y, expected)
        rows = probe.report().rows
        assert {row["n"] for row in rows} == {40}
        assert all("1 call is left out" in row["findings"][-1] for row in rows)

    @pytest.mark.parametrize("randomness", ["error", "same", "different"])
    def test_calls_under_vmap_do_not_take_the_room_of_samples(self, randomness):
        model, x = nn.Linear(6, 3), torch.randn(10, 40, 6)
        with ip.probe(model, measures=ip.Entropy(ip.KNN(), samples=40)) as probe:
            with pytest.warns(RuntimeWarning, match="a call is left out"):
                torch.vmap(model, randomness=randomness)(x)
            y = model(x[0])
        (row,) = probe.report().rows
        assert row["n"] == 40
        assert row["value"] == ip.KNN().entropy(y).item()

    @pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own
    def test_fake_tensors(self):
        fake = pytest.importorskip("torch._subclasses.fake_tensor")
        model, x = small_model(), torch.randn(50, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            with fake.FakeTensorMode(allow_non_fake_inputs=True) as mode:
                model(torch.randn(50, 6))
                inputs = mode.from_tensor(x)
            model(inputs)  # outside of the mode, fake all the same
            y = model(x)
        assert probe._recorder.passes == 1
        assert_measured(probe.report(), "3", x, model[:3](x), y)
