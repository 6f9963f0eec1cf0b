import json
import math
import re
from itertools import chain
from pathlib import Path

import pytest
import torch

import infoprobe as ip

PAGES = Path(__file__).parents[2] / "docs" / "paper"
FAMILIES = ("invertible", "classical")


@pytest.fixture
def example(load_example):
    return load_example("reproduce_paper")


@pytest.fixture
def paper(load_example):
    """Imports a module of the example."""
    return lambda name: load_example(f"paper.{name}")


@pytest.fixture
def few_images(monkeypatch):
    """Cuts the images of each split to a few, evenly over the classes."""
    load = ip.datasets.load

    def few(*args):
        images, labels = load(*args)
        chosen = torch.arange(0, len(images), max(1, len(images) // 160))[:160]
        return images[chosen], labels[chosen] % 2  # enough of each class for nearest neighbours

    monkeypatch.setattr(ip.datasets, "load", few)


SHORT = (
    *("--measured", "120", "--images", "128", "--bottleneck", "3"),
    *("--invertible-epochs", "1", "--invertible-seeds", "0"),
    *("--classical-epochs", "1", "--classical-seeds", "0", "1"),
)


class TestPublished:
    def test_every_point_has_a_place(self, paper):
        published = paper("published")
        points = 0
        for dataset, family in published.PLACES:
            places = published.PLACES[dataset, family]
            entropies = published.entropies(dataset, family)
            divergences = published.relative_entropies(dataset, family)
            assert len(places) == len(entropies) == len(divergences)
            points += len(entropies) + sum(value is not None for value in divergences)
        assert points == 94

    def test_the_error_between_published_sizes(self, paper):
        test_l1 = paper("published").test_l1
        assert test_l1("mnist", "invertible", 24) == 0.025
        assert 0.025 < test_l1("mnist", "invertible", 20) < 0.031
        assert test_l1("cifar10", "classical", 2048) is None

    @pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
    def test_golden_values(self, paper, dataset, request):
        images = request.getfixturevalue(f"{dataset}_test_images")
        golden = paper("digit")._golden(dataset, images / 255)
        assert len(golden) == 3
        for value in golden.values():
            assert value["here"] == pytest.approx(value["published"], abs=value["tolerance"])


class TestPages:
    @pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
    def test_they_are_what_the_numbers_beside_them_say(self, example, paper, tmp_path, dataset):
        for file in (PAGES / dataset).glob("*.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        plan = paper("plan").Plan(
            dataset=dataset,
            data_root=Path("DATA"),
            artifacts=tmp_path,
            out=tmp_path,
            bottleneck=example.BOTTLENECKS[dataset],
            images=None,
            measured=example.MEASURED,
            epochs={family: example.EPOCHS[dataset, family] for family in FAMILIES},
            seeds=example.SEEDS,
        )
        paper("pages").write(plan)
        for name in ("README.md", "details.md"):
            page = (tmp_path / name).read_text()
            assert page == (PAGES / dataset / name).read_text()
            assert not re.search(r"\b(nan|inf)\b", page)


class TestControls:
    def test_what_each_measure_says(self, paper, mnist_test_images):
        x = mnist_test_images[:400] / 255
        found = paper("controls").controls(x)
        assert set(next(iter(found.values()))) == set(paper("controls").MEASURES)
        # Nothing is lost in the first two, and everything in the third.
        for name in ("2x", "0.9x + 0.05", "other images: x in another order"):
            assert found[name]["paper"]["value"] == pytest.approx(0, abs=0.05)
        noisy, noise = found["x + N(0, 0.01)"], found["uniform noise"]
        assert noisy["paper"]["value"] > 8 > noise["paper"]["value"]
        assert noisy["coarse"]["value"] < 0.1 < noise["coarse"]["value"]
        assert abs(noisy["neighbours"]["value"]) < 0.5 < noise["neighbours"]["value"]
        assert found["zeros"]["neighbours"] is None
        assert found["zeros"]["renyi"]["value"] == 0
        both = ("2x", "other images: x in another order")
        assert found[both[0]]["renyi"]["value"] > found[both[1]]["renyi"]["value"]
        assert found["zeros"]["l1"]["value"] == pytest.approx(float(x.mean()), abs=1e-6)


class TestRun:
    def run(self, example, folder, *arguments, dataset="mnist"):
        files = ("--artifacts", str(folder / "artifacts"), "--out", str(folder / "out"))
        example.main(["--dataset", dataset, *files, *SHORT, *arguments])

    def test_digit_and_honest(self, example, paper, few_images, tmp_path, monkeypatch):
        monkeypatch.setattr(paper("honest"), "JACOBIANS", 36)
        parts = ("--part", "digit", "--part", "honest", "--classical-seeds", "0")
        self.run(example, tmp_path, *parts)
        out = tmp_path / "out"
        assert {path.name for path in out.iterdir()} == {
            *("README.md", "details.md", "digit.json", "digit.png"),
            *("honest.json", "honest.png", "layers.png"),
        }
        digit = json.loads((out / "digit.json").read_text())
        assert digit["golden"] is None  # the golden values belong to other images
        assert [len(digit["models"][family]) for family in FAMILIES] == [1, 1]
        honest = json.loads((out / "honest.json").read_text())
        (inn,) = honest["models"]["invertible"]
        changes = [value for value, _ in inn["ledger"].values()]
        assert inn["whole network"][0] == pytest.approx(sum(changes), abs=1e-2)
        assert inn["bottleneck"]["L1 without padding"] < 1e-5 < inn["bottleneck"]["L1"]
        for model in chain.from_iterable(honest["models"].values()):
            assert model["reconstruction"]["l1"]["value"] < 1
            assert max(filter(None, model["symbols"])) <= math.log(120) + 1e-9
        page = (out / "README.md").read_text()
        assert "--dataset mnist" in page
        assert "nan" not in page
        titles = ("The published numbers", "The same questions, asked honestly")
        assert all(f"![{title}]" in page for title in titles)

        # Another run reads what this one left, and writes the same files.
        monkeypatch.setattr(ip, "probe", None)
        before = {path.name: path.read_bytes() for path in out.glob("*.json")}
        self.run(example, tmp_path, *parts)
        assert before == {path.name: path.read_bytes() for path in out.glob("*.json")}

    def test_several_seeds(self, example, few_images, tmp_path):
        self.run(example, tmp_path, "--part", "digit")
        digit = json.loads((tmp_path / "out" / "digit.json").read_text())
        assert [model["seed"] for model in digit["models"]["classical"]] == [0, 1]
        assert "nan" not in (tmp_path / "out" / "README.md").read_text()

    def test_cifar10(self, example, few_images, cifar10_root, tmp_path):
        more = ("--data-root", str(cifar10_root), "--part", "digit", "--measured", "16")
        self.run(example, tmp_path, *more, "--classical-seeds", "0", dataset="cifar10")
        found = json.loads((tmp_path / "out" / "digit.json").read_text())
        for family, measured in ((family, found["models"][family][0]) for family in FAMILIES):
            assert None not in measured["entropy"], family
            assert None not in measured["relative entropy"][1:-1], family

    def test_training_alone(self, example, few_images, tmp_path, capsys):
        self.run(example, tmp_path, "--only-train", "classical", "--seed", "1")
        assert "mnist-embedded-classical-b3-n128-e1-s1: test L1 0." in capsys.readouterr().out
        assert not list((tmp_path / "out").iterdir())
        names = {path.suffix for path in (tmp_path / "artifacts").iterdir()}
        assert names == {".safetensors", ".json"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--dataset", "imagenet"], "invalid choice: 'imagenet'"),
            (["--dataset", "cifar10"], "expected the folder with the files of 'cifar10'"),
            (["--dataset", "mnist", "--data-root", "nowhere"], "root: found none of nowhere"),
            (["--dataset", "mnist", "--out", __file__], "File exists"),
        ],
    )
    def test_bad_arguments(self, example, assert_refused, arguments, message):
        assert_refused(example, arguments, message)
