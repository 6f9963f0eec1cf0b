import csv
import importlib
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import infoprobe as ip

EXAMPLES = Path(__file__).parents[2] / "examples"


def hooks(model):
    return [
        hook
        for module in model.modules()
        for kind in (module._forward_pre_hooks, module._forward_hooks)
        for hook in kind.values()
    ]


def same_bits(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestCompareAutoencoders:
    @pytest.fixture
    def short(self, monkeypatch):
        monkeypatch.syspath_prepend(EXAMPLES)
        module = importlib.import_module("compare_autoencoders")
        monkeypatch.setattr(module, "CLASSICAL_EPOCHS", 2)
        return module

    def run(self, module, out, *arguments):
        module.main(["--images", "64", "--epochs", "1", "--out", str(out), *arguments])

    def test_the_embedded_images(self, short, tmp_path, capsys):
        self.run(short, tmp_path, "--bottleneck", "7")
        shown = capsys.readouterr()
        assert "64 images to train on, 1,000 to measure with" in shown.out
        assert "KL(input||reconstruction), paper's bins" in shown.out
        assert "measuring classical: 100%" in shown.err
        assert {path.name for path in tmp_path.iterdir()} == {
            *("entropy.png", "relative_entropy.png", "summary.json"),
            *(
                f"{name}.{kind}"
                for name in ("invertible", "classical")
                for kind in ("json", "csv")
            ),
        }
        report = ip.Report.load(tmp_path / "invertible.json")
        assert {row["direction"] for row in report.rows} == {"forward", "inverse"}
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["invertible"]["trainable parameters"] == 1_121_192
        assert summary["classical"]["trainable parameters"] == 1_133_072 + 257 * 7
        # The probe saw the reconstruction that the summary compares with.
        seen = report.scalars()["input/inverse/divergence_input"]
        direct = summary["invertible"]["KL(input||reconstruction), shared bins"]
        assert seen == pytest.approx(direct, abs=1e-12)

    def test_a_seed_decides_everything(self, short, tmp_path):
        values = []
        for seed in ("0", "0", "1"):
            self.run(short, tmp_path, "--seed", seed)
            values.append(ip.Report.load(tmp_path / "invertible.json").scalars())
        assert values[0] == values[1] != values[2]

    def test_the_standard_files(self, short, tmp_path, mnist_root, capsys):
        self.run(short, tmp_path, "--data-root", str(mnist_root))
        entropy = ip.Report.load(tmp_path / "invertible.json").scalars()["input/forward/entropy"]
        images, _ = ip.datasets.load("mnist", mnist_root, "test")
        expected = short.SHARED_BINS.entropy(images[:1000] / 255).item()
        assert entropy == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--images", "63"], "--images: expected 64 to 60,000, got 63"),
            (["--images", "4001"], "--images: expected at most 4,000, got 4,001"),
            (["--epochs", "0"], "--epochs: expected 1 to 10,000, got 0"),
            (["--bottleneck", "785"], "--bottleneck: expected 1 to 784, got 785"),
            (["--data-root", "nowhere"], "root: found none of nowhere"),
            (["--device", "abacus"], "abacus"),
            (["--out", __file__], "File exists"),
        ],
    )
    def test_bad_arguments(self, short, capsys, arguments, message):
        with pytest.raises(SystemExit):
            short.main(arguments)
        assert message in capsys.readouterr().err


class TestExactLedger:
    @pytest.fixture
    def short(self, monkeypatch):
        monkeypatch.syspath_prepend(EXAMPLES)
        module = importlib.import_module("exact_ledger")
        monkeypatch.setattr(module, "MEASURED", 100)
        monkeypatch.setattr(module, "CODES", 3)
        monkeypatch.setattr(module.comparison, "CLASSICAL_EPOCHS", 2)
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

        # FrEIA's own sum of the same log-determinants.
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

        # The estimates are differences of estimates, the pooled one 784 times.
        with torch.no_grad():
            (y,), _ = model.inn.module_list[0]([x])
        for name, scale in (
            ("Gaussian, shrunk covariance", 1),
            ("784 × histogram of all pixels", 784),
        ):
            estimator = short.ESTIMATORS[name]
            change = scale * float(estimator.entropy(y) - estimator.entropy(x))
            assert layers["haar_down"]["estimates"][name] == pytest.approx(change, abs=1e-4)

        # Once trained, the models are read, and everything is found again.
        again = self.run(short, tmp_path / "b", "--checkpoints", str(checkpoints))
        assert again.pop("training seconds") is None
        assert found.pop("training seconds") > 0
        assert again == found

    def test_decoders(self, short):
        """Of a linear decoder, and free of the units of the code."""
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

        a, b = (short._decoder("a", Model(scale), x) for scale in (1, 100))
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
        found = short._decoder("a", Model(), x)
        assert found["exact"] == found["images"] == -math.inf
        assert (found["singular"], found["collapsed"]) == (3, 1)
        assert short._number(found) == "-inf"
        assert short._finite({"a": [found["exact"], 1.5, "b"]}) == {"a": [None, 1.5, "b"]}

    def test_checkpoints_of_another_training(self, short, tmp_path):
        self.run(short, tmp_path, "--checkpoints", str(tmp_path / "models"))
        with pytest.raises(ValueError, match="is of a training with another seed: there 0"):
            self.run(short, tmp_path, "--checkpoints", str(tmp_path / "models"), "--seed", "1")

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
    def test_bad_arguments(self, short, capsys, arguments, message):
        with pytest.raises(SystemExit):
            short.main(arguments)
        assert message in capsys.readouterr().err


class TestInformationPlane:
    @pytest.fixture
    def short(self, monkeypatch):
        monkeypatch.syspath_prepend(EXAMPLES)
        module = importlib.import_module("information_plane")
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
        # Of a deterministic layer, the whole entropy of its bins is about the input.
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

    def test_measuring_does_not_disturb_training(self, short, tmp_path):
        last = []
        for measurements in ("2", "3"):
            rows = self.run(short, tmp_path, "--measurements", measurements)["tanh"]
            last.append([row for row in rows if row["layer"][:6] == "layers" and row["step"] == 2])
        assert last[0] == last[1]

    def test_rotations_do_not_change_the_label(self, monkeypatch):
        monkeypatch.syspath_prepend(EXAMPLES)
        module = importlib.import_module("information_plane")
        bits, labels = module.rule(seed=3)
        assert len(bits) == len(bits.unique(dim=0)) == 4096
        assert 0.4 < labels.double().mean() <= 0.5
        # Turning the axes into one another turns each four corners into the next.
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
    def test_bad_arguments(self, short, capsys, arguments, message):
        with pytest.raises(SystemExit):
            short.main(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.filterwarnings(
    # Lightning uses what PyTorch is about to remove, and would have more workers.
    r"ignore:.isinstance\(treespec, LeafSpec\):FutureWarning",
    "ignore:.*does not have many workers",
)
class TestLightningCallback:
    @pytest.fixture
    def example(self, monkeypatch):
        pytest.importorskip("lightning")
        monkeypatch.syspath_prepend(EXAMPLES)
        return importlib.import_module("lightning_callback")

    def fit(self, example, out, callbacks=(), kind=None, **options):
        torch.manual_seed(0)
        model = (kind or example.Classifier)()
        images, labels = ip.datasets.load("digits", split="train")
        data = example.TensorDataset(images / 16, labels)
        trainer = example.lightning.Trainer(
            accelerator="cpu",
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            log_every_n_steps=1,
            logger=example.CSVLogger(out, name="", version=""),
            max_steps=5,
            **options,
        )
        training = example.DataLoader(data, batch_size=8, shuffle=True)
        trainer.fit(model, training, example.DataLoader(data) if options else None)
        return model

    def test_scalars_arrive(self, example, tmp_path):
        callback = example.InfoprobeCallback("model.*", ip.Entropy(), every=2)

        class Validated(example.Classifier):
            def validation_step(self, batch, i):
                self.training_step(batch, i)

        # Validation runs before and amidst training.
        options = {"val_check_interval": 1, "limit_val_batches": 3}
        model = self.fit(example, tmp_path, [callback], Validated, **options)
        with (tmp_path / "metrics.csv").open() as file:
            lines = list(csv.DictReader(file))
        key = "model.1/forward/entropy"
        logged = {int(line["step"]): float(line[key]) for line in lines if line[key]}
        assert list(logged) == [0, 2, 4]
        rows = [row for row in callback.probe.report().rows if row["layer"] == "model.1"]
        assert {row["step"]: row["value"] for row in rows} == logged
        assert {row["n"] for row in rows} == {8}
        assert not hooks(model)

    def test_training_ends_in_the_same_bits(self, example, tmp_path):
        class Dropping(example.Classifier):
            def forward(self, x):
                return super().forward(torch.nn.functional.dropout(x))

        plain = self.fit(example, tmp_path, kind=Dropping)
        callback = example.InfoprobeCallback(every=2)
        assert same_bits(plain, self.fit(example, tmp_path / "probed", [callback], Dropping))

    def test_hooks_are_gone_after_an_exception(self, example, tmp_path):
        class Failing(example.Classifier):
            def training_step(self, batch, i):
                raise FailedError(self, len(hooks(self)))

        class FailedError(Exception):
            pass

        with pytest.raises(FailedError) as error:
            self.fit(example, tmp_path, [example.InfoprobeCallback()], Failing)
        model, count = error.value.args
        assert count
        assert not hooks(model)

    def test_main(self, example, tmp_path, capsys):
        example.main(["--steps", "4", "--every", "2", "--out", str(tmp_path)])
        assert "model.5" in capsys.readouterr().out
        assert "model.5/forward/entropy" in (tmp_path / "metrics.csv").read_text()

    def test_bad_arguments(self, example, capsys):
        with pytest.raises(SystemExit):
            example.main(["--every", "0"])
        assert "--every: expected at least 1, got 0" in capsys.readouterr().err


class TestHuggingFaceCallback:
    @pytest.fixture
    def example(self, monkeypatch):
        pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        monkeypatch.syspath_prepend(EXAMPLES)
        return importlib.import_module("huggingface_callback")

    def fit(self, example, out, callbacks=(), **options):
        torch.manual_seed(0)
        model = example.BertForSequenceClassification(example.MODEL)
        data = example.sequences(64)
        arguments = example.TrainingArguments(
            out, max_steps=5, logging_steps=1, report_to="none", use_cpu=True, **options
        )
        trainer = example.Trainer(
            model, arguments, train_dataset=data, eval_dataset=data, callbacks=list(callbacks)
        )
        trainer.train()
        return trainer

    def test_scalars_arrive(self, example, tmp_path):
        seen = []

        class Reporter(example.TrainerCallback):
            def on_log(self, args, state, control, logs, **_):
                seen.append(logs.get("classifier/forward/entropy"))

        callback = example.InfoprobeCallback("classifier", ip.Entropy(), every=2)
        trainer = self.fit(
            example, tmp_path, [callback, Reporter()], eval_strategy="steps", eval_steps=1
        )
        rows = callback.probe.report().rows
        assert [row["step"] for row in rows] == [0, 2, 4]
        assert {row["n"] for row in rows} == {8}
        a, b, c = (row["value"] for row in rows)
        history = [x for x in trainer.state.log_history if "loss" in x]
        assert [x["classifier/forward/entropy"] for x in history] == [a, a, b, b, c]
        assert [x for x in seen if x is not None] == [a, a, b, b, c]
        assert not hooks(trainer.model)

    def test_training_ends_in_the_same_bits(self, example, tmp_path):
        probed = self.fit(example, tmp_path, [example.InfoprobeCallback(example.LAYERS, every=2)])
        assert same_bits(probed.model, self.fit(example, tmp_path).model)

    def test_hooks_can_be_removed_after_an_exception(self, example, tmp_path):
        class Failing(example.TrainerCallback):
            def on_step_end(self, args, state, control, model, **_):
                self.model = model
                assert state.global_step < 2

        callback, failing = example.InfoprobeCallback(example.LAYERS), Failing()
        with pytest.raises(AssertionError):
            self.fit(example, tmp_path, [callback, failing])
        assert hooks(failing.model)
        callback.remove()
        assert not hooks(failing.model)

    def test_main(self, example, tmp_path, capsys):
        example.main(["--steps", "4", "--every", "2", "--out", str(tmp_path)])
        assert "bert.encoder.layer.1" in capsys.readouterr().out
        history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
        assert "bert.encoder.layer.1/forward/entropy" in history[0]

    def test_bad_arguments(self, example, capsys):
        with pytest.raises(SystemExit):
            example.main(["--steps", "0"])
        assert "--steps: expected at least 1, got 0" in capsys.readouterr().err
