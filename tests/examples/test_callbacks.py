import csv
import json
import sys

import pytest
import torch

import infoprobe as ip


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


@pytest.mark.filterwarnings(
    # Lightning uses what PyTorch is about to remove, and recommends more workers.
    r"ignore:.isinstance\(treespec, LeafSpec\):FutureWarning",
    "ignore:.*does not have many workers",
)
class TestLightningCallback:
    @pytest.fixture
    def example(self, load_example):
        pytest.importorskip("lightning")
        return load_example("lightning_callback")

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

    @pytest.mark.parametrize(("every", "passes", "steps"), [(2, 1, [0, 2, 4]), (3, 2, [0, 3])])
    def test_scalars_arrive(self, example, tmp_path, every, passes, steps):
        callback = example.ProbeCallback("model.*", ip.Entropy(), every=every, passes=passes)

        class Validated(example.Classifier):
            def validation_step(self, batch, i):
                self.training_step(batch, i)

        # Validation runs before and during training.
        options = {"val_check_interval": 1, "limit_val_batches": 3}
        model = self.fit(example, tmp_path, [callback], Validated, **options)
        with (tmp_path / "metrics.csv").open() as file:
            lines = list(csv.DictReader(file))
        key = "model.1/forward/entropy"
        logged = {int(line["step"]): float(line[key]) for line in lines if line[key]}
        assert list(logged) == steps
        rows = [row for row in callback.probe.report().rows if row["layer"] == "model.1"]
        assert {row["step"]: row["value"] for row in rows} == logged
        assert {row["n"] for row in rows} == {8 * passes}
        assert not hooks(model)

    def test_weights_are_the_same_with_and_without_it(self, example, tmp_path):
        class Dropping(example.Classifier):
            def forward(self, x):
                return super().forward(torch.nn.functional.dropout(x))

        plain = self.fit(example, tmp_path, kind=Dropping)
        callback = example.ProbeCallback(every=2)
        assert same_bits(plain, self.fit(example, tmp_path / "probed", [callback], Dropping))

    def test_hooks_are_gone_after_an_exception(self, example, tmp_path):
        class Failing(example.Classifier):
            def training_step(self, batch, i):
                raise FailedError(self, len(hooks(self)))

        class FailedError(Exception):
            pass

        with pytest.raises(FailedError) as error:
            self.fit(example, tmp_path, [example.ProbeCallback()], Failing)
        model, count = error.value.args
        assert count
        assert not hooks(model)

    def test_main(self, example, tmp_path, capsys):
        example.main(["--steps", "4", "--every", "2", "--out", str(tmp_path)])
        assert "model.5" in capsys.readouterr().out
        assert "model.5/forward/entropy" in (tmp_path / "metrics.csv").read_text()

    def test_bad_arguments(self, example, assert_refused):
        assert_refused(example, ["--every", "0"], "--every: expected at least 1, got 0")


class TestHuggingFaceCallback:
    @pytest.fixture
    def example(self, load_example):
        pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        return load_example("huggingface_callback")

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

        class Reporter(sys.modules["transformers"].TrainerCallback):
            def on_log(self, args, state, control, logs, **_):
                seen.append(logs.get("classifier/forward/entropy"))

        measure = ip.Entropy(ip.Histogram(range=(-4, 4)))  # the same bins at every step
        callback = example.ProbeCallback("classifier", measure, every=2)
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

    def test_weights_are_the_same_with_and_without_it(self, example, tmp_path):
        probed = self.fit(example, tmp_path, [example.ProbeCallback(example.LAYERS, every=2)])
        assert same_bits(probed.model, self.fit(example, tmp_path).model)

    def test_hooks_can_be_removed_after_an_exception(self, example, tmp_path):
        class Failing(sys.modules["transformers"].TrainerCallback):
            def on_step_end(self, args, state, control, model, **_):
                self.model = model
                assert state.global_step < 2

        callback, failing = example.ProbeCallback(example.LAYERS), Failing()
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

    def test_bad_arguments(self, example, assert_refused):
        assert_refused(example, ["--steps", "0"], "--steps: expected at least 1, got 0")

    def test_information_about_the_labels(self, example, tmp_path):
        measure = ip.MutualInformation(ip.Histogram(bins=4, over="samples"), reference="target")
        callback = example.ProbeCallback("classifier", measure, every=2, target="labels", passes=2)
        trainer = self.fit(example, tmp_path, [callback])
        rows = callback.probe.report().rows
        assert [(row["step"], row["n"]) for row in rows] == [(0, 16), (2, 16), (4, 8)]
        assert all(row["value"] is not None for row in rows), rows[0]["findings"]
        assert not hooks(trainer.model)
        assert not trainer.model._forward_pre_hooks
