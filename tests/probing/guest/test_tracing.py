"""Traces, fake tensors and the user's modes see nothing of a probe."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import infoprobe as ip

MEASURES = {
    "counts": None,
    "samples": [ip.Entropy(ip.KNN(), project=2), ip.MutualInformation(ip.KNN())],
}


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 3), nn.Tanh()))


@pytest.fixture
def x():
    return torch.randn(16, 4)


@pytest.fixture(params=MEASURES)
def measures(request):
    return MEASURES[request.param]


def exported(strict):
    def trace(model, x):
        return torch.export.export(model, (x,), strict=strict).graph

    return trace


def fake(model, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        inside = model(torch.randn(16, 4))
        return inside.shape, model(mode.from_tensor(x)).shape


TRACES = {
    "export": exported(strict=False),
    "strict export": exported(strict=True),
    "make_fx": lambda model, x: make_fx(model)(x).graph,
    "make_fx before dispatch": lambda model, x: make_fx(model, pre_dispatch=True)(x).graph,
    "make_fx without values": lambda model, x: (
        make_fx(model, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x).graph
    ),
    "fx": lambda model, x: torch.fx.symbolic_trace(model).graph,
    "jit": lambda model, x: str(torch.jit.trace(model, x, check_trace=False).graph).count("\n"),
    "fake": fake,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_is_the_same_and_does_not_count(model, x, measures, trace):
    def nodes(traced):
        known = getattr(traced, "nodes", None)
        return traced if known is None else [str(node.target) for node in known]

    expected = nodes(TRACES[trace](model, x))
    with ip.probe(model, measures=measures) as probe:
        assert nodes(TRACES[trace](model, x)) == expected
        model(x)
        assert nodes(TRACES[trace](model, x)) == expected
    assert probe._recorder.passes == 1
    with ip.probe(model, measures=measures) as alone:
        model(x)
    assert repr(probe.report().rows) == repr(alone.report().rows)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripts_are_refused_with_the_way_out(model):
    with (
        ip.probe(model),
        pytest.raises(AttributeError, match=r"cannot be scripted.*probe\.remove\(\)"),
    ):
        torch.jit.script(model)
    torch.jit.script(model)


class Dispatches(TorchDispatchMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        assert "amin" not in str(function)  # an operation that this user refuses
        return function(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Dispatches, Functions])
def test_modes_of_the_user_see_the_model_alone(model, x, measures, mode):
    class Tapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = model

        def forward(self, x):
            with mode(seen):  # entered within a pass
                return ip.tap(self.inside(x), "point")

    seen, tapped = [], Tapped()
    with mode(seen), torch.device("cpu"), mode(seen):
        tapped(x)
    expected = seen.copy()
    seen.clear()
    with ip.probe(tapped, measures=measures) as probe, mode(seen), torch.device("cpu"), mode(seen):
        tapped(x)
    assert seen == expected
    assert all(row["n"] for row in probe.report().rows if row["layer"] == "inside.0")


def test_operations_of_a_probe_are_not_counted(model, x, measures):
    def count():
        with FlopCounterMode(display=False) as mode:
            model(x)
        return mode.get_total_flops()

    expected = count()
    with ip.probe(model, measures=measures):
        assert count() == expected


def test_modes_around_transforms_and_inverses(x):
    transform = torch.distributions.AffineTransform(1.0, 2.0)
    expected, seen = [], []
    with Dispatches(expected):
        transform.inv(transform(x))
    measures = [ip.EntropyChange(), ip.Entropy()]
    with ip.probe(transform, measures=measures) as probe, Dispatches(seen):
        transform.inv(transform(x))
    assert seen == expected
    assert {row["direction"] for row in probe.report().rows} == {"forward", "inverse"}
