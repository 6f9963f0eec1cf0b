"""No hook of a probe waits for the device, whatever is measured, and the rows are the CPU's."""

import contextlib
import threading
import warnings

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.probing import windows
from tests.devices.pretended import Device, register, there


def plain():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())


def short():
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh())


def images():
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))


def sequences():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU())


class Attention(nn.Module):
    """Returns its probabilities, as those of the transformers library do."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(6, 6)

    def forward(self, x):
        p = torch.stack([x @ self.scores(x).mT, x @ x.mT], 1).softmax(-1)
        return (p @ x.unsqueeze(1)).sum(1), p


def attention():
    return nn.Sequential(Attention())


def invertible():
    nodes = [Ff.InputNode(6, name="in")]
    for i in range(2):
        nodes.append(
            Ff.Node(nodes[-1], Fm.AllInOneBlock, {"subnet_constructor": subnet}, name=f"block{i}")
        )
    return Ff.GraphINN([*nodes, Ff.OutputNode(nodes[-1], name="out")], verbose=False)


def subnet(width, out):
    return nn.Sequential(nn.Linear(width, 9), nn.ReLU(), nn.Linear(9, out))


def bottleneck():
    return nn.Sequential(nn.Linear(6, 8), ip.models.GaussianBottleneck(4))


class Cast(nn.Module):
    """A layer whose output has some type."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x > 0 if self.dtype is torch.bool else (3 * x).to(self.dtype)


def of_type(dtype):
    return lambda: nn.Sequential(nn.Linear(6, 8), Cast(dtype))


H = ip.Histogram
READ_OUT = ip.PredictionEntropy(lambda x: torch.cat([x, -x, 2 * x], 1), positions=9)
FROM_THE_LAST = ip.PredictionDivergence(READ_OUT.read_out, positions=9)
WIDE, NARROW = (-99.0, 99.0), (-0.5, 0.5)
CASES = {
    "default": (plain, None, {}),
    "default, images": (images, None, {}),
    "some values": (images, None, {"values_per_batch": 100}),
    "explicit": (plain, ip.Entropy(H(range=WIDE)), {}),
    "too narrow": (plain, ip.Entropy(H(range=NARROW)), {}),
    "clipped": (plain, ip.Divergence(H(range=NARROW, outside="clip", pseudocount=1)), {}),
    "dropped": (plain, ip.Entropy(H(range=NARROW, outside="drop")), {}),
    "corrected": (plain, ip.Entropy(H(correction="miller-madow")), {}),
    "1,000 bins": (plain, ip.Entropy(H(bins=1000)), {}),
    "own": (plain, ip.Entropy(H(bins=100, range="own", pseudocount=1), samples=64), {}),
    "minmax": (plain, ip.Entropy(H(range="minmax"), samples=64), {}),
    "units": (plain, ip.Entropy(H(bins=8, over="units"), samples=64), {}),
    "nearest neighbours": (plain, ip.Entropy(ip.KNN(), samples=64), {}),
    "little memory": (plain, ip.Entropy(ip.KNN(), samples=64), {"memory": 2000}),
    "gaussian": (plain, ip.Entropy(ip.Gaussian(), samples=64), {}),
    "information": (short, ip.MutualInformation(samples=64), {}),
    "information, previous": (short, ip.MutualInformation(reference="previous", samples=64), {}),
    "information, target": (short, ip.MutualInformation(reference="target", samples=64), {}),
    "information, critic": (short, ip.MutualInformation(ip.Critic(steps=20), samples=64), {}),
    "dependence": (short, ip.TotalCorrelation(samples=64), {}),
    "dependence, all moments": (short, ip.TotalCorrelation(samples=None), {}),
    "projected": (short, ip.MutualInformation(samples=64, project=2), {}),
    "tokens": (sequences, ip.Entropy(select="tokens"), {}),
    "last tokens": (sequences, ip.Entropy(ip.KNN(), select="last", samples=64), {}),
    "curvature": (sequences, ip.Curvature(), {}),
    "prompts": (sequences, ip.PromptEntropy(), {}),
    "order 2": (sequences, ip.TokenEntropy(alpha=2, normalize="ln n"), {}),
    "attention": (attention, ip.AttentionEntropy(), {}),
    "attention, shares": (attention, ip.AttentionEntropy(normalize="ln n"), {}),
    "predictions": (sequences, [READ_OUT, FROM_THE_LAST], {}),
    "spectrum": (sequences, ip.Spectrum(select="tokens"), {}),
    "all moments": (sequences, ip.Entropy(ip.Gaussian(), samples=None, select="tokens"), {}),
    "entropy change": (invertible, [ip.EntropyChange(), ip.Entropy()], {}),
    "rate": (bottleneck, ip.Rate(), {}),
    "little memory, tokens": (
        sequences,
        [ip.Entropy(ip.KNN(), select="tokens", samples=64), ip.MutualInformation(select="last")],
        {"memory": 2000},
    ),
    **{
        f"{dtype}, {name}".removeprefix("torch."): (of_type(dtype), measure, {})
        for dtype in (torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
        for name, measure in {
            "counts": ip.Entropy(),
            "samples": ip.Entropy(H(range="minmax"), samples=64),
        }.items()
    },
}


@pytest.fixture
def device(monkeypatch):
    register()
    # Hooks leave all modes, and the device is one.
    for module in ("module_hooks", "points"):
        monkeypatch.setattr(f"infoprobe.taps.{module}.outside_of_modes", contextlib.nullcontext)
    with Device() as device:
        yield device


def rows(device, network, measures, options, batches, place):
    """The rows of a report, and what hooks waited for, of a model on the CPU or on the device."""
    torch.manual_seed(0)
    np.random.seed(0)  # the permutations of FrEIA
    model = place(network())
    waits = []
    with ip.probe(model, measures=measures, **options) as probe:
        for x in batches:
            probe.target(place(torch.arange(len(x)) % 3))
            if network in (sequences, attention):
                probe.mask(torch.arange(5) < 1 + torch.arange(len(x)).unsqueeze(1) % 5)
            x = place(x)
            torch.manual_seed(1)
            device.waits.clear()
            with torch.no_grad():
                model(x)
            waits += [wait for wait in device.waits if "outside of infoprobe" not in wait]
    return probe.report().rows, waits


def assert_alike(here, there):
    assert len(here) == len(there) > 0
    for a, b in zip(here, there, strict=True):
        numbers = [(a.pop(key), b.pop(key)) for key in ("value", "stderr")]
        assert a == b
        for x, y in numbers:
            assert (x is None) == (y is None)
            assert x is None or x == pytest.approx(y, rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.mark.filterwarnings("ignore:layer:RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_hooks_wait_for_nothing(device, name):
    network, measures, options = CASES[name]
    torch.manual_seed(0)
    shape = {images: (2, 8, 8), sequences: (5, 6), attention: (5, 6)}.get(network, (6,))
    batches = [torch.randn(n, *shape) for n in (40, 30, 7)]
    on_the_cpu, none = rows(device, network, measures, options, batches, lambda x: x)
    on_the_device, waits = rows(device, network, measures, options, batches, there)
    assert not none
    assert not waits
    if name == "too narrow":  # a device does not say how many values lie outside
        for row in (*on_the_cpu, *on_the_device):
            row["findings"] = [finding.partition(" got ")[0] for finding in row["findings"]]
    assert_alike(on_the_cpu, on_the_device)


def test_every_measure_is_among_them():
    tried = set(map(type, PAIRS))
    for _, given, _ in CASES.values():
        measures = given if isinstance(given, list) else [given]
        tried |= {type(x) for x in measures if x is not None}
    public = [getattr(ip, name) for name in ip.__all__]
    measures = {x for x in public if isinstance(x, type) and issubclass(x, ip.Measure)}
    functions = {ip.Spectrum}  # what makes several measures
    missing = {x.__name__ for x in measures - tried - {ip.Measure} - functions}
    assert not missing


class Thread(threading.Thread):
    """A thread in which the device is there, too, but not the one that hooks are seen on."""

    def run(self):
        with Device() as device:
            super().run()
        READ.extend(device.waits)


READ = []


@pytest.mark.parametrize("measures", [None, ip.Entropy(ip.KNN(), samples=64)])
def test_windows_are_read_in_their_thread_alone(device, measures, monkeypatch):
    monkeypatch.setattr(windows.threading, "Thread", Thread)
    READ.clear()
    torch.manual_seed(0)
    batches = [torch.randn(20, 6) for _ in range(7)]
    found = []
    for place in (lambda x: x, there):
        torch.manual_seed(0)
        model = place(plain())
        with ip.probe(model, measures=measures).track(3, passes=2) as probe, torch.no_grad():
            for x in map(place, batches):
                model(x)
        device.waits = [wait for wait in device.waits if "outside of infoprobe" not in wait]
        assert not device.waits
        found.append(probe.report().rows)
    assert_alike(*found)
    assert {row["step"] for row in found[1]} == {0, 3, 6}
    assert len([wait for wait in READ if "devices.py" in wait]) == 2  # once for each window


def test_a_hook_that_waits_is_found(device):
    """The test above can fail."""
    model = there(nn.ReLU())
    model.register_forward_hook(lambda module, args, output: bool(output.max() > 0))
    model(there(torch.randn(3)))
    assert [wait.partition(" at ")[0] for wait in device.waits] == ["item"]


@pytest.mark.parametrize(
    "wait",
    [
        torch.unique,
        torch.nonzero,
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: torch.bincount((x > 0).int()),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: torch.tensor([1.0, 2.0]).to(x.device),
    ],
)
def test_each_way_of_waiting_is_found(device, wait):
    wait(there(torch.tensor([1.0, -2.0])))
    assert len(device.waits) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "measures", [ip.Entropy(), ip.Entropy(ip.KNN(), samples=64)], ids=["counts", "samples"]
)
def test_a_bad_pass_is_left_out_when_it_is_read(device, measures, bad):
    torch.manual_seed(0)
    batches = [torch.randn(40, 6) for _ in range(3)]
    batches[1][3, 2] = bad
    with pytest.warns(RuntimeWarning, match="a call is left out"):
        here, _ = rows(device, plain, measures, {}, batches, lambda x: x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        later, waits = rows(device, plain, measures, {}, batches, there)
    assert not waits
    assert len([w for w in caught if "is left out" in str(w.message)]) == 1
    for row in (*here, *later):
        (left_out,) = [finding for finding in row["findings"] if "left out" in finding]
        assert left_out.startswith("1 call is left out. In pass 2, the output could not be")
        row["findings"].remove(left_out)
    assert_alike(here, later)


PAIRS = [ip.InfoNCE(samples=64), ip.DiME(samples=64)]


def pairs(device, measure, place, views):
    """The row of pairs of views, which hooks keep without waiting."""
    model = place(nn.Identity())
    with ip.probe(model, measures=measure) as probe:
        for first, second in views:
            model(place(first))
            probe.pair()
            model(place(second))
    assert not [wait for wait in device.waits if "outside of infoprobe" not in wait]
    rows = probe.report().rows
    device.waits.clear()
    return rows


class Padded(nn.Sequential):
    """A model that is told which tokens are padding."""

    def forward(self, x, attention_mask):
        return super().forward(x)


def padded_rows(place, measures):
    """The rows of a model with padding, of which the probe is told late or never."""
    torch.manual_seed(0)
    model = place(Padded(nn.Linear(6, 8), nn.ReLU()))
    masks = [torch.arange(5) < 1 + torch.arange(n).roll(n // 2).unsqueeze(1) % 5 for n in (9, 9)]
    samples = torch.randn(9, 5, 6)
    with ip.probe(model, measures=measures) as probe:
        for given in (None, masks[1], ~masks[0]):
            for mask in masks:
                x, own = place(samples), place(mask.long())
                if given is not None:
                    probe.mask(given)
                with torch.no_grad():
                    model(x, own)
    return probe


@pytest.mark.parametrize("name", ["tokens", "last tokens", "curvature", "spectrum", "predictions"])
def test_padding_and_copies_are_known_without_waiting(device, name):
    _, measures, _ = CASES[name]
    here = padded_rows(lambda x: x, measures).report().rows
    device.waits.clear()
    probe = padded_rows(there, measures)
    assert not [wait for wait in device.waits if "outside of infoprobe" not in wait]
    later = probe.report().rows
    for row in later:
        (finding,) = [x for x in row["findings"] if "[padding-counted]" in x]
        assert "in 2 of 6 passes, for which the probe was given no mask" in finding
        assert "in 2 of 6 passes by the mask" in finding
        copies = [x for x in row["findings"] if "[copied-samples]" in x]
        assert len(copies) == (name not in ("tokens", "last tokens"))
    assert_alike(here, later)


@pytest.mark.filterwarnings("ignore:layer:RuntimeWarning")
@pytest.mark.parametrize("bad", [None, 0, 1])
@pytest.mark.parametrize("measure", PAIRS, ids=["InfoNCE", "DiME"])
def test_pairs_of_views(device, measure, bad):
    """A pass with a value that is not finite is left out, and with it the other view."""
    torch.manual_seed(0)
    views = [(x, x + torch.randn(20, 5, 6)) for x in torch.randn(4, 20, 5, 6)]
    if bad is not None:
        views[1][bad][3, 2, 1] = float("nan")
    here, later = (pairs(device, measure, place, views) for place in (lambda x: x, there))
    for row in (*here, *later):  # a device does not say how many values are not finite
        row["findings"] = [finding.partition(" got ")[0] for finding in row["findings"]]
    assert here[0]["n"] == (64 if bad is None else 47)
    assert any("left out" in finding for finding in here[0]["findings"]) == (bad is not None)
    assert_alike(here, later)


def test_all_that_is_known_is_read_with_one_copy(device):
    model = there(plain())
    with ip.probe(model) as probe:
        for _ in range(3):
            model(there(torch.randn(20, 6)))
    device.waits.clear()
    probe.report()
    assert len(device.waits) == 1
    device.waits.clear()
    probe.report()
    assert not device.waits


def test_states_of_the_device_and_of_the_cpu_add_up(device):
    torch.manual_seed(0)
    parts = [torch.randn(30, 6) for _ in range(3)]
    model = plain()
    with ip.probe(model) as whole:
        for x in parts:
            model(x)
    with ip.probe(model) as here:
        model(parts[0])
    model = there(model)
    with ip.probe(model) as later:
        model(there(parts[1]))
        state = later.state_dict()
        model(there(parts[2]))
    assert state["record"]["passes"] == 1
    later.merge(here)
    for a, b in zip(whole.report().rows, later.report().rows, strict=True):
        assert (a["n"], a["value"]) == (b["n"], pytest.approx(b["value"], rel=1e-12))


def test_what_is_captured_into_a_cuda_graph_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    model = plain()
    with ip.probe(model) as probe:
        model(torch.randn(20, 6))
    with pytest.warns(UserWarning, match="seen no pass"):
        assert not probe.report().rows
