"""Models that were compiled, and hooks that need more than tensors: of maps, and of arguments."""

import gc
import warnings
import weakref

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform

import infoprobe as ip

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
MEASURES = [ip.EntropyChange(), ip.Entropy()]


def subnet(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def made_flow():
    np.random.seed(0)
    torch.manual_seed(0)
    flow = Ff.SequenceINN(6)
    for _ in range(2):
        flow.append(Fm.AllInOneBlock, subnet_constructor=subnet)
    return flow


def rows(probe):
    keys = ("layer", "direction", "measure", "step", "n", "value")
    return [tuple(row[key] for key in keys) for row in probe.report().rows]


@pytest.fixture(autouse=True)
def _without_gradients():
    torch._dynamo.reset()
    with torch.no_grad():
        yield


@pytest.fixture
def expected():
    flow = made_flow()
    with ip.probe(flow, measures=MEASURES) as probe:
        for _ in range(2):
            z, _ = flow(X)
            flow(z, rev=True)
    return rows(probe)


def ways(how, counting, fullgraph):
    """A flow, and its two directions in compiled code of some kind."""
    flow = made_flow()
    options = {"backend": counting, "fullgraph": fullgraph}
    if how == "function":
        forward = torch.compile(lambda x: flow(x + 0)[0] * 1, **options)
        return flow, forward, torch.compile(lambda z: flow(z + 0, rev=True)[0] * 1, **options)
    called = flow
    if how == "wrapper":
        called = torch.compile(flow, **options)
    elif how == "a part":
        outer = torch.compile(nn.Sequential(nn.Identity(), Unpacked(flow)), **options)
        return flow, outer, lambda z: flow(z, rev=True)[0]
    else:
        flow.compile(**options)
    return flow, lambda x: called(x)[0], lambda z: called(z, rev=True)[0]


class Unpacked(nn.Module):
    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, x):
        return self.flow(x)[0]


HOW = pytest.mark.parametrize(
    ("how", "fullgraph"),
    [
        ("wrapper", False),
        ("wrapper", True),
        ("in place", True),
        ("a part", True),
        ("function", False),
    ],
)


class TestOneModel:
    @HOW
    @pytest.mark.parametrize("ran", [False, True])
    def test_it_is_measured_and_others_stay_compiled(
        self, counting, expected, how, fullgraph, ran
    ):
        flow, forward, inverse = ways(how, counting, fullgraph)
        other = torch.compile(nn.Linear(6, 6), backend=counting, fullgraph=True)
        if ran:
            forward(X)
            inverse(X)
        other(X)
        own = {module: dict(vars(module)) for module in flow.modules()}
        compiled, before = counting.compiled, counting.ran
        with ip.probe(flow, measures=MEASURES) as probe:
            for _ in range(2):
                z = forward(X)
                inverse(z)
                other(X)
        assert rows(probe) == expected
        assert {module: dict(vars(module)) for module in flow.modules()} == own
        # Of the flow nothing was compiled, but what is around it in a function.
        around = 8 if how == "function" else 0
        assert counting.ran - before == 2 + around
        assert counting.compiled - compiled == around / 2
        before = counting.ran
        forward(X)
        # A function goes on to break off there, in compiled code all the same.
        assert counting.ran - before == (3 if how == "function" else 1)

    @HOW
    def test_passes_that_are_not_measured_run_compiled(self, counting, how, fullgraph):
        flow, forward, _ = ways(how, counting, fullgraph)
        forward(X)
        ran = []

        def run():
            before = counting.ran
            forward(X)
            ran.append(counting.ran - before)

        # The hooks of a model that is called by itself run as code of their own.
        around, whole = {"function": (2, 5), "a part": (0, 1)}.get(how, (0, 3))
        with ip.probe(flow, measures=MEASURES).track(every=4, passes=2) as probe:
            for _ in range(8):
                run()
            assert ran == [around, around, whole, whole] * 2
            with probe.pause():
                run()
            assert ran.pop() == whole
            run()
            assert ran.pop() == around
        found = rows(probe)
        assert sorted({(step, n) for *_, step, n, _ in found}) == [(0, 120), (4, 120), (8, 60)]

    def test_two_probes_in_any_order_of_removal(self, counting):
        flow, forward, _ = ways("in place", counting, True)
        forward(X)
        first, second = (ip.probe(flow, measures=MEASURES) for _ in range(2))
        forward(X)
        first.remove()
        forward(X)
        assert counting.ran == 1
        second.remove()
        forward(X)
        assert counting.ran == 2
        assert {row[4] for row in rows(first)} == {60}
        assert {row[4] for row in rows(second)} == {120}

    def test_compiled_in_place_meanwhile(self, counting):
        flow = made_flow()
        with ip.probe(flow, measures=MEASURES):
            flow.compile(backend=counting)
        flow(X)
        assert counting.ran == 1

    def test_one_graph_that_may_not_be_left_is_not_measured_and_says_so(self, counting):
        flow, forward, _ = ways("function", counting, True)
        expected = forward(X)
        with ip.probe(flow, measures=MEASURES) as probe:
            assert torch.equal(forward(X), expected)
        with pytest.warns(UserWarning, match="compiled with fullgraph=True"):
            assert rows(probe) == []

    def test_models_that_are_dropped_are_let_go(self, counting):
        flow = made_flow()
        flow.compile(backend=counting)
        probe = ip.probe(flow, measures=MEASURES)
        flow(X)
        reference = weakref.ref(flow)
        del flow, probe
        gc.collect()
        assert reference() is None


class TestOtherHooks:
    def test_arguments(self, counting):
        class Attends(nn.Module):
            def __init__(self):
                super().__init__()
                self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

            def forward(self, x):
                return self.attention(x, x, x)[0]

        x = torch.randn(5, 7, 8)
        torch.manual_seed(0)
        model = Attends().eval()
        found = []
        for called in (model, torch.compile(model, backend=counting, fullgraph=True)):
            with ip.probe(model, ["attention"], measures=ip.AttentionEntropy()) as probe:
                called(x)
            found.append(rows(probe))
        assert found[0] == found[1]
        assert found[0][0][-1] > 0

    @pytest.mark.parametrize("use", ["log_prob", "inverse", "of a distribution", "transform"])
    def test_methods_and_transforms_in_compiled_functions(self, counting, use):
        x = torch.randn(40, 4)

        def made():
            torch.manual_seed(0)
            if use == "transform":
                model = ComposeTransform([AffineTransform(0.0, 2.0), SigmoidTransform()])
                return model, lambda: model.inv(model(x) * 0.9)
            if use == "of a distribution":
                zuko = pytest.importorskip("zuko")
                model = zuko.flows.NSF(4, transforms=2, hidden_features=(8,))
                return model, lambda: model().log_prob(x)
            nflows = pytest.importorskip("nflows")
            from nflows import distributions, flows, transforms

            assert nflows
            steps = [transforms.MaskedAffineAutoregressiveTransform(4, 8) for _ in range(2)]
            chain = transforms.CompositeTransform(steps)
            if use == "inverse":
                return chain, lambda: chain.inverse(x)[0]
            flow = flows.Flow(chain, distributions.StandardNormal([4]))
            return flow, lambda: flow.log_prob(x)

        found = []
        for compiled in (False, True):
            model, run = made()
            if compiled:
                run = torch.compile(run, backend=counting)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    run()
            with ip.probe(model, measures=MEASURES) as probe:
                run()
            found.append(rows(probe))
        assert found[0] == found[1]
        assert any(measure == "entropy_change" for _, _, measure, *_ in found[0])
