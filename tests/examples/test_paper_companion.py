import json
from dataclasses import replace

import pytest

import infoprobe as ip

FAMILIES = ("invertible", "classical")


@pytest.fixture
def companion(load_example, monkeypatch, mnist5k):
    module = load_example("paper.companion")
    monkeypatch.setattr(module, "load", lambda *_: mnist5k["train"][:40])
    monkeypatch.setattr(module, "SIZES", {"mnist": (2, 8), "cifar10": ()})
    short = {
        family: replace(schedule, epochs=epochs, milestones=())
        for (family, schedule), epochs in zip(module.SHORT.items(), (1, 3), strict=True)
    }
    short["classical"] = replace(short["classical"], batch_size=16)
    monkeypatch.setattr(module, "SHORT", short)
    return module


@pytest.fixture
def full(load_example):
    """Stands in for a model on the long schedule."""

    def trained(family, history, dataset="mnist", seconds=None):
        return load_example("paper.training").Trained(
            name=family,
            dataset=dataset,
            family=family,
            seed=0,
            model=None,
            schedule=ip.models.Schedule(epochs=len(history)),
            history=history,
            seconds=seconds,
            test_l1=history[-1],
            n_images=100,
        )

    return trained


@pytest.fixture
def plan(companion, full, tmp_path):
    class Trained(companion.Plan):
        def models(self, family):
            history = [0.2, 0.03] if family == "invertible" else [0.3, 0.05, 0.03, 0.02]
            yield full(family, history, self.dataset)

    return Trained(
        dataset="mnist",
        data_root=None,
        artifacts=tmp_path / "artifacts",
        out=tmp_path,
        bottleneck=20,
        images=32,
        measured=20,
        epochs={"invertible": 2, "classical": 4},
        seeds={"invertible": [0], "classical": [0]},
    )


def test_from_the_sweep_to_the_page(companion, plan, tmp_path, monkeypatch):
    found = companion.run(plan)
    for family, epochs in zip(FAMILIES, (1, 3), strict=True):
        assert [m["size"] for m in found["sweep"][family]] == [2, 8]
        for m in found["sweep"][family]:
            assert (m["images"], m["epochs"], len(m["history"])) == (32, epochs, epochs)
            assert 0 < m["test L1"] < 1
            assert m["seconds"] > 0

    found = json.loads(json.dumps(found))
    companion.figure(found, tmp_path / "companion.png")
    assert (tmp_path / "companion.png").stat().st_size > 10_000
    page = companion.page(found)
    assert page.startswith("## The companion claims, MNIST\n\n")
    page += companion.details(found)
    assert "1 epoch of 32 images in batches of 16 at a learning rate of 0.002 for the inv" in page
    assert "| 8 |" in page
    assert "| 0.044 |" in page
    assert "has the smaller error at 6 of 7 sizes (12, 16, 24, 32, 48, 64). From" in page
    assert "the first classical model reaches this loss first in epoch 3." in page

    # What has been trained is only read.
    monkeypatch.setattr(companion, "BUILDERS", None)
    monkeypatch.setattr(companion, "_parameters", lambda: found["parameters"])
    assert companion.run(plan) == found


def test_without_a_sweep(companion, plan, tmp_path, monkeypatch):
    counts = {
        dataset: {"invertible": 10, "classical": {"8": 9, "32": 12, "64": 20}}
        for dataset in ("mnist", "cifar10")
    }
    monkeypatch.setattr(companion, "_parameters", lambda: counts)
    found = companion.run(replace(plan, dataset="cifar10"))
    companion.figure(found, tmp_path / "companion.png")
    page = companion.page(found)
    assert companion.details(found) == ""
    assert "Here only one size was trained." in page
    assert "The invertible model has fewer at 2 of the 3 published sizes" in page


def test_parameters(companion):
    counts = companion._parameters()
    assert counts["mnist"]["invertible"] == 1_121_192
    assert counts["cifar10"]["invertible"] == 13_235_176
    for size, count in counts["mnist"]["classical"].items():
        assert count == 1_133_072 + 257 * int(size)
    for size, count in counts["cifar10"]["classical"].items():
        assert count == 12_549_379 + 18_433 * int(size)


def test_epochs(companion, full):
    """One loss is never reached, and times are told only where they are known."""

    def found(loss, seconds):
        families = {
            "invertible": full("invertible", [0.2, loss], seconds=seconds[0]),
            "classical": full("classical", [0.3, 0.02, 0.01, 0.01], seconds=seconds[1]),
        }
        return {
            "sweep": {family: [] for family in FAMILIES},
            "full": {
                family: [
                    {
                        "size": 20,
                        "images": one.n_images,
                        "epochs": one.schedule.epochs,
                        "history": one.history,
                        "seconds": one.seconds,
                        "test L1": one.test_l1,
                    }
                ]
                for family, one in families.items()
            },
        }

    text = companion._epochs(found(0.005, (None, 1.0)))
    assert "in none of its 4 epochs" in text
    assert "no unit of work" not in text
    text = companion._epochs(found(0.02, (40.0, 2.0)))
    assert "first in epoch 2" in text
    assert "200 ms in the invertible model and 5 ms in the classical one, a ratio of 40." in text
