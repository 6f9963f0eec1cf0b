import math

import pytest
import torch

import infoprobe as ip


class TestInformationPlane:
    @pytest.fixture
    def short(self, load_example, monkeypatch):
        module = load_example("information_plane")
        monkeypatch.setattr(module, "PATTERNS", 128)
        return module

    def run(self, module, out, *arguments):
        module.main(["--epochs", "2", "--measurements", "2", "--out", str(out), *arguments])
        return {name: ip.Report.load(out / f"{name}.json").rows for name in ("tanh", "relu")}

    def test_what_it_writes(self, short, tmp_path, capsys):
        rows = self.run(short, tmp_path)
        shown = capsys.readouterr()
        assert "What this is not: the networks are deterministic, so I(X;T) = H(X)" in shown.out
        assert "ReLU: 100%" in shown.err
        assert {path.name for path in tmp_path.iterdir()} == {
            *("information_plane.png", "tanh.json", "relu.json")
        }
        for of in rows.values():
            assert {row["step"] for row in of} == {0, 2}
            assert {(row["layer"], row["reference"]) for row in of} == {
                (f"{kind}.{i}", reference)
                for kind in ("layers", "noises")
                for i in range(6)
                for reference in ("input", "target")
            }
            for row in of:
                bound = math.log(128) if row["reference"] == "input" else math.log(2)
                above = short.EXCESS if row["layer"].startswith("noises") else 0
                assert row["value"] <= bound + above + 0.05

    def test_binned_values(self, short, tmp_path):
        bits, labels = short.rule(seed=0)
        model = short.Network(torch.nn.Tanh, noise=0.1, seed=0).eval()
        rows = short.measure(model, (-1.0, 1.0), bits, labels)
        with torch.no_grad():
            x = model.layers[1](model.layers[0](bits))
        h = ip.Histogram(short.BINS, (-1, 1), over="samples")
        found = {r["reference"]: r["value"] for r in rows if r["layer"] == "layers.1"}
        # All of the entropy of a deterministic layer's bins is information about the input.
        assert found["input"] == pytest.approx(h.entropy(x).item(), abs=1e-9)
        assert found["target"] == pytest.approx(h.mutual_information(x, labels).item(), abs=1e-9)

    def test_little_noise_tells_all_patterns_apart(self, short):
        bits, labels = short.rule(seed=0)
        model = short.Network(torch.nn.Tanh, noise=1e-4, seed=0).eval()
        rows = short.measure(model, (-1.0, 1.0), bits, labels)
        (value,) = (
            r["value"] for r in rows if (r["layer"], r["reference"]) == ("noises.0", "input")
        )
        assert value == pytest.approx(math.log(128) + short.EXCESS, abs=0.01)

    def test_measuring_does_not_disturb_training(self, short, tmp_path, monkeypatch):
        monkeypatch.setattr(short, "PATTERNS", 32)
        last = []
        for measurements in ("2", "3"):
            rows = self.run(short, tmp_path, "--measurements", measurements)["tanh"]
            last.append([row for row in rows if row["layer"][:6] == "layers" and row["step"] == 2])
        assert last[0] == last[1]

    def test_rotations_do_not_change_the_label(self, load_example):
        module = load_example("information_plane")
        bits, labels = module.rule(seed=3)
        assert len(bits) == len(bits.unique(dim=0)) == 4096
        assert 0.4 < labels.double().mean() <= 0.5
        # A rotation of the axes into one another moves each four corners to the next four.
        powers = 2 ** torch.arange(12)
        turned = ((bits.roll(4, 1) > 0) * powers).sum(1)
        assert torch.equal(labels[turned], labels)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--epochs", "0"], "--epochs: expected 1 to 100,000, got 0"),
            (["--measurements", "1"], "--measurements: expected 2 to 1,000, got 1"),
            (["--noise", "0"], "--noise: expected 1e-06 to 1e+06, got 0"),
            (["--seed", "-1"], "--seed: expected 0 to"),
            (["--out", __file__], "File exists"),
        ],
    )
    def test_bad_arguments(self, short, assert_refused, arguments, message):
        assert_refused(short, arguments, message)
