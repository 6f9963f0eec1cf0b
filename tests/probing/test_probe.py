"""Numbers, passes and directions, compared with the same by hand."""

import contextlib

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import InvertibleAutoencoder, MNISTAutoencoder, mnist_inn
from tests.probing.helpers import MEASURES, H, but_errors, passes, small_model, value


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
            reports.append(but_errors(probe.report()))
        assert reports[0] == reports[1] == reports[2]

    def test_default_measures_use_shared_dyadic_bins(self):
        model, x, h = small_model(), torch.randn(100, 6), ip.Histogram()
        with ip.probe(model) as probe:
            y = model(x)
        report = probe.report()
        shared = h.count(y).at_width(float(report.settings[f"bin width of {h}"]))
        assert value(report, "3", "entropy") == h.entropy(shared).item()
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
        assert "nats come only from the bin edge at zero" in row["findings"][0]

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
        count = ip.Histogram.count_blocks
        monkeypatch.setattr(
            ip.Histogram, "count_blocks", lambda h, x, n: calls.append(1) or count(h, x, n)
        )
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
            said = f"Some passes entered by {part} instead of the model"
            assert any(said in finding for finding in row["findings"])
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
        assert any("Some passes entered by decoder" in finding for finding in row["findings"])

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
        assert passes(probe) == 1

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
            ValueError, match=r"nothing was counted at 'conv1' \(forward, call 9\), but"
        ):
            probe.counts("conv1", "forward", call=9)
        with pytest.raises(ValueError, match="direction: expected one of 'forward', 'inverse'"):
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
