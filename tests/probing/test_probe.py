import contextlib
import copy
import gc
import io
import math
import pickle
import warnings
import weakref

import pytest
import torch
from FrEIA import framework as ff
from FrEIA import modules as fm
from torch import nn

import infoprobe as ip
from infoprobe.models import InvertibleAutoencoder, MNISTAutoencoder, mnist_inn

H = ip.Histogram(64, pseudocount=1)
MEASURES = [ip.Entropy(H), ip.Divergence(H, "previous"), ip.Divergence(H, "input")]


def small_model():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())


def value(report, layer, measure, reference=None, direction="forward", call=0):
    found = [
        row["value"]
        for row in report.rows
        if (row["layer"], row["direction"], row["call"]) == (layer, direction, call)
        and (row["measure"], row["reference"]) == (measure, reference)
    ]
    assert len(found) == 1
    return found[0]


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class TestNumbers:
    def test_a_plain_model(self):
        model, x = small_model(), torch.randn(100, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
        report = probe.report()
        tensors = [x]
        for i, layer in enumerate(model):
            tensors.append(layer(tensors[-1]))
            before, after = tensors[-2:]
            assert value(report, str(i), "entropy") == H.entropy(after).item()
            of_previous = value(report, str(i), "divergence", "previous")
            assert of_previous == H.kl_divergence(before, after).item()
            of_input = value(report, str(i), "divergence", "input")
            assert of_input == H.kl_divergence(x, after).item()

    def test_batches_equal_one_call_in_any_order(self):
        model, x = small_model(), torch.randn(100, 6)
        reports = []
        for batches in ([x], x.split(7), reversed(x.split(1))):
            with ip.probe(model) as probe:
                for batch in batches:
                    model(batch)
            reports.append(probe.report().rows)
        assert reports[0] == reports[1] == reports[2]

    def test_default_measures_use_shared_dyadic_bins(self):
        model, x = small_model(), torch.randn(100, 6)
        with ip.probe(model) as probe:
            y = model(x)
        report = probe.report()
        assert value(report, "3", "entropy") == ip.Histogram().entropy(y).item()
        expected = ip.Histogram(pseudocount=1).kl_divergence(x, y).item()
        assert value(report, "3", "divergence", "input") == expected

    def test_an_explicit_range_streams_too(self):
        h = ip.Histogram(32, range=(-1, 1), outside="clip", pseudocount=1)
        model, x = small_model(), torch.randn(100, 6)
        with ip.probe(model, "3", ip.Divergence(h, "input")) as probe:
            for batch in x.split(9):
                model(batch)
        expected = h.kl_divergence(x, model(x)).item()
        assert value(probe.report(), "3", "divergence", "input") == expected

    def test_a_layer_that_overwrites_its_input(self):
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 4))
        x = torch.randn(100, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
        report, linear = probe.report(), model[0](x)
        assert value(report, "0", "entropy") == H.entropy(linear).item()
        assert value(report, "1", "entropy") == H.entropy(linear.relu()).item()
        of_previous = value(report, "1", "divergence", "previous")
        assert of_previous == H.kl_divergence(linear, linear.relu()).item()

    def test_a_layer_that_changes_values_behind_the_back_of_autograd(self):
        class Binarises(nn.Module):
            def forward(self, x):
                x.data = x.data.sign()
                return x

        model, x = nn.Sequential(nn.Linear(6, 8), Binarises()), torch.randn(100, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            y = model(x)
        assert value(probe.report(), "1", "entropy") == H.entropy(y).item()

    def test_zero_is_an_edge_and_a_finding_says_when_it_decides(self):
        class Noise(nn.Module):
            def forward(self, x):
                return x + 1e-9 * torch.randn(x.shape, dtype=x.dtype)

        x = torch.rand(1000, 1, dtype=torch.float64).sub(0.5).relu()
        model = Noise()
        with ip.probe(model, measures=ip.Divergence(H)) as probe:
            model(x)
        (row,) = probe.report().rows
        assert row["value"] > 0.3
        assert "nats of it only tell values within a bin above zero" in row["findings"][0]

    def test_no_grad_inference_mode_and_autocast_agree_with_the_estimator(self):
        model, x = small_model(), torch.randn(100, 6)
        modes = {
            "no_grad": torch.no_grad(),
            "inference": torch.inference_mode(),
            "autocast": torch.autocast("cpu", torch.bfloat16),
        }
        for name, mode in modes.items():
            with ip.probe(model, measures=MEASURES) as probe, mode:
                y = model(x)
            assert value(probe.report(), "3", "entropy") == H.entropy(y).item(), name

    def test_on_a_device(self, device):
        model, x = small_model().to(device), torch.randn(100, 6, device=device)
        with ip.probe(model, measures=MEASURES) as probe:
            y = model(x)
        assert value(probe.report(), "3", "entropy") == H.entropy(y).item()
        assert probe.counts("3").values.device.type == "cpu"

    def test_repeated_calls_are_told_apart(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(5, 5)

            def forward(self, x):
                return self.layer(self.layer(x))

        model, x = Twice(), torch.randn(50, 5)
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
            model(x)
        report, once = probe.report(), model.layer(torch.cat([x, x]))
        assert value(report, "layer", "entropy", call=0) == H.entropy(once).item()
        twice = H.entropy(model.layer(once)).item()
        assert value(report, "layer", "entropy", call=1) == twice
        assert {row["n"] for row in report.rows} == {100}
        assert {row["call"] for row in report.rows} == {0, 1}

    def test_sizes(self):
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())
        with ip.probe(model) as probe:
            model(torch.randn(10, 1, 6, 6))
            model(torch.randn(4, 1, 6, 6))
        assert {(row["n"], row["d"]) for row in probe.report().rows} == {(14, 48)}

    def test_estimators_that_share_bins_share_counts(self, monkeypatch):
        calls = []
        count = ip.Histogram.count
        monkeypatch.setattr(ip.Histogram, "count", lambda h, x: calls.append(1) or count(h, x))
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        measures = [ip.Entropy(), ip.Divergence(ip.Histogram(pseudocount=1)), ip.Divergence()]
        with ip.probe(model, measures=measures):
            model(torch.randn(10, 6))
        assert len(calls) == 4  # the input and three outputs


class TestPasses:
    """A pass lasts from the outermost call until it returns."""

    def test_by_parts_of_the_model(self):
        model, x = MNISTAutoencoder(5), torch.rand(20, 1, 28, 28)
        with ip.probe(model, measures=MEASURES) as probe:
            model.decode(model.encode(x))
        report = probe.report()
        # The encoder's input is the model's, the decoder's is not: both are named.
        code = model.encoder(x)
        kl = value(report, "encoder.code", "divergence", "input")
        assert kl == H.kl_divergence(x, code).item()
        kl = value(report, "decoder.output.tanh", "divergence", "input")
        assert kl == H.kl_divergence(code, model.decoder(code)).item()
        by_input = [row for row in report.rows if row["reference"] == "input"]
        for row in by_input:
            part = row["layer"].split(".")[0]
            assert f"some passes entered by {part} instead of the model" in row["findings"][-1]
        assert all(
            "entered" not in finding
            for row in report.rows
            if row not in by_input
            for finding in row["findings"]
        )

    def test_an_interrupt_of_a_part(self):
        model, x = InvertibleAutoencoder(mnist_inn(), 20), torch.rand(3, 1, 28, 28)
        interrupt = model.inn.module_list[5].register_forward_pre_hook(_interrupt)
        with ip.probe(model) as probe, torch.no_grad():
            with pytest.raises(KeyboardInterrupt):
                model.decode(torch.randn(3, 20))
            interrupt.remove()
            probe.reset()
            model.encode(x)
            model.encode(x)
            model(x)
        rows = probe.report().rows
        assert {row["call"] for row in rows} == {0}
        assert {row["n"] for row in rows if row["direction"] == "forward"} == {3, 9}
        assert {row["n"] for row in rows if row["direction"] == "inverse"} == {3}

    def test_an_interrupt_does_not_leave_its_direction(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.before, self.inn = nn.Identity(), mnist_inn()

            def forward(self, x):
                return self.inn(self.before(x), rev=True)[0]

        model, x = Model(), torch.rand(3, 1, 28, 28)
        interrupt = model.inn.module_list[5].register_forward_pre_hook(_interrupt)
        with ip.probe(model) as probe, torch.no_grad():
            with pytest.raises(KeyboardInterrupt):
                model(x)
            interrupt.remove()
            model(x)
        rows = probe.report().rows
        assert {row["direction"] for row in rows if row["layer"] == "before"} == {"forward"}

    def test_an_interrupt_of_another_part(self):
        model, x = MNISTAutoencoder(5), torch.rand(3, 1, 28, 28)
        model.encoder.fc2.register_forward_hook(_interrupt)
        codes = torch.randn(8, 5)
        with ip.probe(model, "decoder.fc1", ip.Divergence(H, "input")) as probe:
            with pytest.raises(KeyboardInterrupt):
                model(x)
            for code in codes.split(2):
                model.decode(code)
        (row,) = probe.report().rows
        assert (row["call"], row["n"]) == (0, 8)
        assert row["value"] == H.kl_divergence(codes, model.decoder.fc1(codes)).item()
        assert "some passes entered by decoder" in row["findings"][-1]

    def test_a_module_that_calls_itself(self):
        class Halves(nn.Module):
            def __init__(self):
                super().__init__()
                self.leaf = nn.Identity()

            def forward(self, x):
                if len(x) == 1:
                    return self.leaf(x)
                return torch.cat([self(half) for half in x.chunk(2)])

        model, x = Halves(), torch.randn(4, 3)
        h = ip.Histogram(pseudocount=1)
        measures = [ip.Entropy(h), ip.Divergence(h, "input")]
        with ip.probe(model, ["leaf", model], measures) as probe:
            model(x)
        scalars = probe.report().scalars()
        assert scalars["leaf#3/forward/divergence_input"] == h.kl_divergence(x, x[3:]).item()
        assert scalars["(model)/forward/entropy"] == h.entropy(x).item()
        assert scalars["(model)#6/forward/entropy"] == h.entropy(x[3:]).item()
        assert len(scalars) == 2 * (4 + 7)
        assert "1 passes" in repr(probe)

    def test_pausing_and_resetting_within_a_pass(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Identity(), nn.Identity()

            def forward(self, x):
                x = self.first(x)
                actions.pop(0)()
                return self.second(x)

        model, x = Model(), torch.randn(5, 2)
        pausing = contextlib.ExitStack()
        with ip.probe(model) as probe:
            pausing.enter_context(probe.pause())
            actions = [pausing.close, probe.reset, lambda: None]
            model(x)  # begins paused
            model(x)
            model(x)
        counted = {row["layer"]: row["n"] for row in probe.report().rows}
        assert counted == {"first": 5, "second": 10}
        with ip.probe(model) as probe:
            pausing.enter_context(probe.pause())
            actions = [pausing.close]
            model(x)
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []

    def test_compiled_models(self):
        torch.manual_seed(0)
        model = small_model()
        batches = [torch.randn(n, 6) for n in (10, 10, 7, 10, 3)]
        for probed in (model, compiled := torch.compile(model, backend="eager")):
            torch.compiler.reset()
            with ip.probe(probed, measures=MEASURES) as probe, torch.no_grad():
                for batch in batches:
                    compiled(batch)
            report = probe.report()
            expected = H.entropy(torch.cat([model(batch) for batch in batches])).item()
            assert value(report, "3", "entropy") == expected


def _interrupt(*args):
    raise KeyboardInterrupt


class TestBothDirections:
    def test_an_autoencoder_in_one_pass(self):
        torch.manual_seed(0)
        model = InvertibleAutoencoder(mnist_inn(), 20)
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.02)
        x = torch.rand(20, 1, 28, 28)
        with torch.no_grad():
            with ip.probe(model, measures=MEASURES) as probe:
                reconstruction = model(x)
            report = probe.report()
            names = ["haar_down", "conv1", "conv2", "conv3", "flatten", "fc", "unflatten"]
            names = ["input", *names, "haar_up", "output"]
            order = dict.fromkeys((row["layer"], row["direction"]) for row in report.rows)
            assert list(order) == [
                *((name, "forward") for name in names),
                ("bottleneck", "forward"),
                *((name, "inverse") for name in reversed(names)),
            ]
            # By hand, node after node.
            nodes = dict(zip(names[1:-1], model.inn.module_list, strict=True))
            z = x
            for name, module in nodes.items():
                z_before = z.clone()
                ((z,), _) = module((z,), rev=False, jac=False)
                assert value(report, name, "entropy") == H.entropy(z).item()
                kl = value(report, name, "divergence", "previous")
                assert kl == H.kl_divergence(z_before, z).item()
            z = model.bottleneck(z)
            assert value(report, "bottleneck", "entropy") == H.entropy(z).item()
            for name, module in reversed(nodes.items()):
                z_before = z.clone()  # Haar overwrites its input in reverse
                ((z,), _) = module((z,), rev=True, jac=False)
                assert value(report, name, "entropy", direction="inverse") == H.entropy(z).item()
                kl = value(report, name, "divergence", "previous", "inverse")
                assert kl == H.kl_divergence(z_before, z).item()
            assert torch.equal(z, reconstruction)
            kl = value(report, "input", "divergence", "input", "inverse")
            assert kl == H.kl_divergence(x, reconstruction).item()

    def test_any_two_layers_on_shared_bins_after_the_fact(self):
        model, x = InvertibleAutoencoder(mnist_inn(), 20), torch.rand(20, 1, 28, 28)
        with ip.probe(model) as probe, torch.no_grad():
            for batch in x.split(3):
                model(batch)
        with torch.no_grad():
            reconstruction = model(x)
        h = ip.Histogram(pseudocount=1)
        there = probe.counts("haar_down", "forward"), probe.counts("input", "inverse")
        ((haar,), _) = model.inn.module_list[0]((x,))
        assert h.kl_divergence(*there) == h.kl_divergence(haar, reconstruction)
        with pytest.raises(
            ValueError, match=r"nothing was counted at 'conv1' \(up, call 0\), but"
        ):
            probe.counts("conv1", "up")

    def test_a_graph_on_its_own(self):
        inn, x = mnist_inn(), torch.rand(5, 1, 28, 28)
        with ip.probe(inn, measures=MEASURES) as probe, torch.no_grad():
            z, _ = inn(x)
            inn(z, None, True)  # rev given by position
        report = probe.report()
        assert value(report, "input", "entropy") == H.entropy(x).item()
        assert value(report, "output", "entropy", direction="inverse") == H.entropy(z).item()
        assert value(report, "conv1", "entropy", direction="inverse") > 0
        # The inverse pass is one of its own here, and its input is z.
        kl = value(report, "output", "divergence", "input", "inverse")
        assert kl == 0.0

    def test_subnets_inherit_the_direction(self):
        inn, x = mnist_inn(), torch.rand(5, 1, 28, 28)
        with ip.probe(inn, "conv1.subnet?.0") as probe, torch.no_grad():
            z, _ = inn(x)
            inn(z, rev=True)
        assert {(row["layer"], row["direction"]) for row in probe.report().rows} == {
            (f"conv1.subnet{i}.0", direction)
            for i in (1, 2)
            for direction in ("forward", "inverse")
        }


class TestGuestManners:
    def test_training_is_bit_for_bit_the_same(self):
        def train(probed):
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(True), nn.Dropout(0.3), nn.Linear(8, 1)
            )
            optimizer = torch.optim.Adam(model.parameters())
            probe = ip.probe(model) if probed else None
            for _ in range(5):
                loss = model(torch.randn(16, 6)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if probe is not None:
                probe.report()
                probe.remove()
            return model.state_dict(), optimizer.state_dict()["state"], torch.get_rng_state()

        (weights, states, rng), (weights_, states_, rng_) = train(False), train(True)
        assert all(torch.equal(weights[key], weights_[key]) for key in weights)
        assert all(torch.equal(states[i][k], states_[i][k]) for i in states for k in states[i])
        assert torch.equal(rng, rng_)

    def test_flags_and_hooks_are_as_before(self):
        model = small_model()
        model[2].eval()
        before = [dict(module.__dict__) for module in model.modules()]
        with ip.probe(model) as probe:
            assert hook_count(model) > 0
            model(torch.randn(3, 6))
        assert hook_count(model) == 0
        after = [dict(module.__dict__) for module in model.modules()]
        assert all(a.keys() == b.keys() for a, b in zip(before, after, strict=True))
        assert [m.training for m in model.modules()] == [True, True, True, False, True]
        probe.remove()  # once more does no harm
        assert probe.report().rows

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_whatever_is_raised(self, error):
        class Fails(nn.Module):
            failing = True

            def forward(self, x):
                if self.failing:
                    raise error
                return x

        model = nn.Sequential(nn.Linear(6, 6), Fails(), nn.ReLU())
        x = torch.randn(10, 6)
        with ip.probe(model, measures=MEASURES) as probe:
            with pytest.raises(error):
                model(x)
            model[1].failing = False
            model(x)  # the passes after it are measured as usual
        report = probe.report()
        assert value(report, "2", "entropy") == H.entropy(model(x)).item()
        counts = {row["layer"]: (row["n"], row["call"]) for row in report.rows}
        assert counts == {"0": (20, 0), "1": (10, 0), "2": (10, 0)}
        with pytest.raises(error), ip.probe(model):
            raise error
        assert hook_count(model) == 0

    def test_an_exception_that_the_model_catches(self):
        class Picky(nn.Module):
            def forward(self, x):
                raise ArithmeticError

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.inn, self.picky, self.last = mnist_inn(), Picky(), nn.Flatten()

            def forward(self, x):
                try:
                    self.picky(x)
                except ArithmeticError:
                    return self.last(self.inn(x, rev=True)[0])

        model = Model()
        with ip.probe(model, ["conv1", "last"], MEASURES) as probe, torch.no_grad():
            model(torch.rand(3, 1, 28, 28))
        found = {(row["layer"], row["direction"]) for row in probe.report().rows}
        assert found == {("conv1", "inverse"), ("last", "forward")}

    def test_copies_and_pickles_are_not_probed(self):
        model, x = small_model(), torch.randn(10, 6)
        with ip.probe(model) as probe:
            keys = model.state_dict().keys()
            twin = copy.deepcopy(model)
            again = pickle.loads(pickle.dumps(model))
            buffer = io.BytesIO()
            torch.save(model, buffer)
            for other in (twin, again):
                assert torch.equal(other(x), model(x))
            model(x)
        assert {row["n"] for row in probe.report().rows} == {30}
        assert keys == model.state_dict().keys()

    def test_tensors_are_not_kept(self):
        kept = []

        class Watch(nn.Module):
            def forward(self, x):
                y = x + 1
                kept.append(weakref.ref(y))
                return y

        model = nn.Sequential(Watch(), nn.ReLU())
        with ip.probe(model):
            model(torch.randn(5, 5))
            gc.collect()
            assert kept[0]() is None

    def test_memory_does_not_grow(self):
        def size(probe):
            return sum(
                store.kept.values.numel()
                for stores in probe._recorder.record.visits.values()
                for store in stores
            )

        model = small_model()
        with ip.probe(model) as probe:
            for _ in range(200):
                model(torch.randn(8, 6))
        assert size(probe) <= 4 * 3 * 256

    def test_two_probes_and_a_paused_one(self):
        model, x = small_model(), torch.randn(10, 6)
        with ip.probe(model) as outer:
            with ip.probe(model, "3") as inner:
                model(x)
                with outer.pause():
                    model(x)
            model(x)
        assert {row["n"] for row in outer.report().rows} == {20}
        assert {row["n"] for row in inner.report().rows} == {20}
        outer.reset()
        with pytest.warns(UserWarning, match="seen no pass"):
            assert outer.report().rows == []
        assert repr(inner) == "Probe(1 layers, 3 measures, removed, 2 passes)"


class TestBadInput:
    def test_no_such_layer(self):
        model = small_model()
        with pytest.raises(ValueError, match=r"layers: '9' matches none of the model's 5 layers"):
            ip.probe(model, ["0", "9"])
        with pytest.raises(ValueError, match=r"Did you mean 'conv1'"):
            ip.probe(mnist_inn(), "convl1")
        with pytest.raises(ValueError, match="this ReLU matches none"):
            ip.probe(model, nn.ReLU())
        with pytest.raises(TypeError, match="layers: expected a pattern, a module"):
            ip.probe(model, [3])
        with pytest.raises(TypeError, match="layers: expected a pattern, a module"):
            ip.probe(model, 3)
        with pytest.raises(ValueError, match="layers: expected at least one"):
            ip.probe(model, [])
        assert hook_count(model) == 0

    def test_no_measure(self):
        with pytest.raises(TypeError, match=r"measures: expected ip.Entropy\(...\)"):
            ip.probe(small_model(), measures=[ip.Histogram()])
        with pytest.raises(TypeError, match=r"estimator: expected one that has entropy\(\)"):
            ip.Entropy(ip.Critic())
        with pytest.raises(TypeError, match=r"kl_divergence\(\), such as .*, got 'input'"):
            ip.Divergence("input")
        with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got NoneType"):
            ip.probe(None)
        with pytest.raises(ValueError, match="reference: expected one of 'previous', 'input'"):
            ip.Divergence(reference="output")

    def test_values_that_are_not_finite(self):
        model, x = small_model(), torch.randn(10, 6)
        bad = x.clone()
        bad[3, 2] = math.nan
        with ip.probe(model, measures=MEASURES) as probe:
            model(x)
            with pytest.warns(RuntimeWarning) as caught:
                model(bad)
            model(bad)  # says nothing new
            model(x)
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 4  # one a layer, not one a pass
        expected = "layer '0' (forward): a call is left out of its measures, in pass 2, output: "
        assert messages[0].startswith(expected)
        assert "8 NaN and 0 infinite among 80 (10.000%)" in messages[0]
        report = probe.report()
        assert {row["n"] for row in report.rows} == {20}
        assert value(report, "3", "entropy") == H.entropy(model(torch.cat([x, x]))).item()
        assert all("calls left out: 2; in pass 2" in row["findings"][-1] for row in report.rows)

    def test_values_outside_an_explicit_range(self):
        model = nn.Sequential(nn.Identity())
        h = ip.Histogram(range=(0, 1))
        message = r"expected values within range=\(0.0, 1.0\)"
        with ip.probe(model, measures=ip.Entropy(h)) as probe, pytest.warns(match=message):
            model(torch.full((2, 2), 3.0))
        (row,) = probe.report().rows
        assert row["value"] is None
        assert row["n"] == 0
        assert row["d"] is None
        assert "outside='clip'" in row["findings"][0]

    def test_a_layer_without_a_value_does_not_hide_the_others(self):
        model = nn.Sequential(nn.Identity(), nn.ReLU())
        h = ip.Histogram(range=(-2, -1), outside="drop")
        with ip.probe(model, measures=ip.Entropy(h)) as probe:
            model(torch.full((2, 2), -1.5))
        identity, relu = probe.report().rows
        assert identity["value"] == 0.0
        assert relu["value"] is None
        assert "outside='drop' left none" in relu["findings"][0]

    def test_a_bad_input_does_not_hide_the_outputs(self):
        class Repairs(nn.Module):
            def forward(self, x):
                return x.nan_to_num()

        model = Repairs()
        with ip.probe(model, measures=MEASURES) as probe, pytest.warns(RuntimeWarning) as caught:
            model(torch.tensor([[math.nan], [1.0]]))
        assert len(caught) == 1
        entropy, previous, model_input = probe.report().rows
        assert entropy["value"] > 0
        assert entropy["findings"] == []
        assert previous["value"] is None
        assert model_input["value"] is None

    @pytest.mark.parametrize("kind", ["sparse", "nested", "quantized", "meta"])
    def test_unusual_tensors_do_not_stop_the_model(self, kind):
        class Makes(nn.Module):
            def forward(self, x):
                if kind == "sparse":
                    return x.to_sparse()
                if kind == "nested":
                    return torch.nested.nested_tensor([x[0], x[1]])
                if kind == "meta":
                    return x.to("meta")
                return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)

        model, x = Makes(), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with ip.probe(model, measures=ip.Entropy()) as probe:
                model(x)
        (row,) = probe.report().rows
        ours = [str(w.message) for w in caught if w.category is RuntimeWarning]
        if kind in ("quantized", "nested"):
            assert row["value"] == pytest.approx(math.log(4))
            assert row["n"] == 2
        else:
            assert "expected a dense tensor with values" in ours[0]
            assert row["value"] is None

    def test_a_graph_called_with_too_few_inputs_raises_its_own_error(self):
        a, b = ff.InputNode(3), ff.InputNode(5)
        both = ff.Node([a.out0, b.out0], fm.Concat, {})
        graph = ff.GraphINN([a, b, both, ff.OutputNode(both)])
        with ip.probe(graph), pytest.raises(ValueError, match="Got 1 inputs, but expected 2"):
            graph((torch.randn(2, 3),))

    def test_outputs_that_are_no_numbers(self):
        class Complex(nn.Module):
            def forward(self, x):
                return torch.complex(x, x)

        class Words(nn.Module):
            def forward(self, x):
                return "words"

        model = nn.Sequential(Complex(), Words())
        with ip.probe(model) as probe, pytest.warns(RuntimeWarning) as caught:
            model(torch.randn(3, 3))
        assert "expected real numbers, got dtype torch.complex64" in str(caught[0].message)
        assert "there is no tensor" in str(caught[1].message)
        assert all(row["value"] is None and row["findings"] for row in probe.report().rows)

    def test_a_layer_that_is_never_called(self):
        class Skips(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

            def forward(self, x):
                return self.used(x) @ self.unused.weight

        model = Skips()
        with ip.probe(model) as probe:
            model(torch.randn(3, 3))
        with pytest.warns(UserWarning, match="some probed layers gave no output: unused"):
            report = probe.report()
        assert {row["layer"] for row in report.rows} == {"used"}

    def test_infinite_divergences_say_why(self):
        model = nn.Sequential(nn.ReLU())
        x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
        with ip.probe(model, measures=[ip.Divergence(ip.Histogram()), ip.Divergence(H)]) as probe:
            model(x)
        infinite, finite = probe.report().rows
        assert infinite["value"] == math.inf
        assert "50.000% of the layer's input lies in bins" in infinite["findings"][0]
        assert math.isfinite(finite["value"])
        assert "50.000% of the layer's input lies in bins" in finite["findings"][0]

    def test_nothing_is_said_where_all_is_well(self):
        model = nn.Sequential(nn.Identity())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with ip.probe(model) as probe:
                model(torch.randn(3, 3))
            rows = probe.report().rows
        assert [row["value"] for row in rows[1:]] == [0.0, 0.0]
        assert all(row["findings"] == [] for row in rows)


def test_a_divergence_needs_probabilities():
    with pytest.raises(ValueError, match="corrects entropies alone"):
        ip.Divergence(ip.Histogram(correction="grassberger"))
    ip.Divergence(ip.Histogram(correction="james-stein"))
    ip.Entropy(ip.Histogram(correction="grassberger"))
