import json

import pytest

import infoprobe as ip


class TestCompareAutoencoders:
    @pytest.fixture
    def short(self, load_example, monkeypatch):
        monkeypatch.setattr(load_example("autoencoders"), "CLASSICAL_EPOCHS", 2)
        module = load_example("compare_autoencoders")
        monkeypatch.setattr(module, "MEASURED", 200)
        return module

    def run(self, module, out, *arguments):
        module.main(["--images", "64", "--epochs", "1", "--out", str(out), *arguments])

    def test_the_embedded_images(self, short, tmp_path, capsys):
        self.run(short, tmp_path, "--bottleneck", "7")
        shown = capsys.readouterr()
        assert "64 images to train on, 200 to measure with" in shown.out
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

    def test_a_seed_decides_everything(self, short, tmp_path, monkeypatch):
        monkeypatch.setattr(short, "MEASURED", 50)
        values = []
        for seed in ("0", "0", "1"):
            self.run(short, tmp_path, "--seed", seed)
            values.append(ip.Report.load(tmp_path / "invertible.json").scalars())
        assert values[0] == values[1] != values[2]

    def test_the_standard_files(self, short, tmp_path, mnist_root, capsys):
        self.run(short, tmp_path, "--data-root", str(mnist_root))
        report = ip.Report.load(tmp_path / "invertible.json")
        entropy = report.scalars()["input/forward/entropy"]
        images, _ = ip.datasets.load("mnist", mnist_root, "test")
        counts = short.SHARED_BINS.count(images[:200] / 255)
        width = float(report.settings[f"bin width of {short.SHARED_BINS}"])
        expected = short.SHARED_BINS.entropy(counts.at_width(width)).item()
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
    def test_bad_arguments(self, short, assert_refused, arguments, message):
        assert_refused(short, arguments, message)
