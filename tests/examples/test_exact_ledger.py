import json
import math

import pytest
import torch
from safetensors.torch import load_file

import infoprobe as ip


class TestExactLedger:
    @pytest.fixture
    def short(self, load_example, monkeypatch):
        module = load_example("exact_ledger")
        monkeypatch.setattr(module, "MEASURED", 100)
        monkeypatch.setattr(module, "CODES", 3)
        monkeypatch.setattr(load_example("autoencoders"), "CLASSICAL_EPOCHS", 2)
        return module

    def run(self, module, out, *arguments):
        sizes = ("--images", "64", "--epochs", "1", "--bottleneck", "3")
        module.main([*sizes, "--out", str(out), *arguments])
        return json.loads((out / "ledger.json").read_text())

    def test_what_it_writes(self, short, tmp_path, capsys):
        checkpoints = tmp_path / "models"
        found = self.run(short, tmp_path / "a", "--checkpoints", str(checkpoints))
        shown = capsys.readouterr()
        assert "64 images to train on" in shown.out
        assert "measuring layers: 100%" in shown.err
        assert "Jacobians, classical: 100%" in shown.err
        assert "BottleneckAccount: n=100, keeps 3 of 784 coordinates" in shown.out
        assert {path.name for path in (tmp_path / "a").iterdir()} == {"ledger.png", "ledger.json"}

        # FrEIA sums the same log-determinants itself.
        model = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 3)
        weights = load_file(checkpoints / "invertible.safetensors")
        prefix = "model."
        model.load_state_dict(
            {k.removeprefix(prefix): x for k, x in weights.items() if k.startswith(prefix)}
        )
        images, _ = ip.datasets.load("mnist5k", split="test")
        x = ip.dequantize(images[:100], generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            _, log_det = model.inn(x)
        total = found["ledger"]["total"]
        assert total["exact"] == pytest.approx(log_det.mean().item(), abs=1e-4)
        assert total["stderr"] == pytest.approx(log_det.std().item() / 10, rel=1e-4)
        assert found["ledger"]["whole network"] == pytest.approx(total["exact"], abs=1e-4)
        layers = {line["layer"]: line for line in found["ledger"]["layers"]}
        assert {*short.LAYERS} <= layers.keys()
        assert layers["haar_down"]["exact"] == layers["haar_up"]["exact"] == 0
        assert layers["conv1"]["exact"] != 0

        # Each estimate is a difference of two estimates; the pooled one counts 784 times.
        with torch.no_grad():
            (y,), _ = model.inn.module_list[0]([x])
        for name, scale in (
            ("Gaussian, shrunk covariance", 1),
            ("784 × histogram of all pixels", 784),
        ):
            estimator = short.ESTIMATORS[name]
            change = scale * float(estimator.entropy(y) - estimator.entropy(x))
            assert layers["haar_down"]["estimates"][name] == pytest.approx(change, abs=1e-4)

        # Once trained, the models are only read, and everything is found again.
        again = self.run(short, tmp_path / "b", "--checkpoints", str(checkpoints))
        assert again.pop("training seconds") is None
        assert found.pop("training seconds") > 0
        assert again == found
        with pytest.raises(ValueError, match="is of a training with another seed: there 0"):
            self.run(short, tmp_path, "--checkpoints", str(checkpoints), "--seed", "1")

    def test_decoders(self, short):
        """A linear decoder has known singular values, and the units of the code do not matter."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(100, 1, 2, 2, generator=generator)
        matrix = torch.randn(4, 2, generator=generator)

        class Model:
            def __init__(self, scale):
                self.scale = scale

            def encode(self, x):
                return self.scale * (x.flatten(1) @ matrix)

            def decode(self, code):
                return code @ matrix.T / self.scale

        a, b = (short.measure_decoder("a", Model(scale), x) for scale in (1, 100))
        values = torch.linalg.svdvals(matrix.double())
        assert a["singular values"]["median"] == pytest.approx(values.tolist(), rel=1e-4)
        assert a["exact"] == pytest.approx(values.log().sum().item(), abs=1e-4)
        assert b["exact"] == pytest.approx(a["exact"] - 2 * math.log(100), abs=1e-4)
        code = Model(1).encode(x).double()
        assert a["code"] == pytest.approx(float(ip.Gaussian().entropy(code)), abs=1e-4)
        assert b["images"] == pytest.approx(a["images"], abs=1e-4)
        root = torch.linalg.cholesky(code.T.cov())
        values = torch.linalg.svdvals(matrix.double() @ root)
        for found in (a, b):
            relative = found["singular values per standard deviation"]
            assert relative["median"] == pytest.approx(values.tolist(), rel=1e-4)

    def test_a_decoder_that_ignores_part_of_the_code(self, short):
        class Model:
            def encode(self, x):
                return x.flatten(1)[:, :3]

            def decode(self, code):
                return torch.cat([code[:, :2], code[:, :2]], 1)

        x = torch.randn(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        found = short.measure_decoder("a", Model(), x)
        assert found["exact"] == found["images"] == -math.inf
        assert (found["singular"], found["collapsed"]) == (3, 1)
        assert short.with_error(found) == "-inf"
        assert short.finite({"a": [found["exact"], 1.5, "b"]}) == {"a": [None, 1.5, "b"]}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--images", "63"], "--images: expected 64 to 4,000, got 63"),
            (["--epochs", "0"], "--epochs: expected 1 to 10,000, got 0"),
            (["--bottleneck", "65"], "--bottleneck: expected 1 to 64, got 65"),
            (["--device", "abacus"], "abacus"),
            (["--out", __file__], "File exists"),
        ],
    )
    def test_bad_arguments(self, short, assert_refused, arguments, message):
        assert_refused(short, arguments, message)
