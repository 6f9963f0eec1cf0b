import builtins
import json
import math
import re

import pytest
import torch
from markupsafe import escape
from matplotlib import pyplot
from torch import nn

import infoprobe as ip
from infoprobe.models import InvertibleAutoencoder, mnist_inn

COLUMNS = [
    *("layer", "type", "direction", "call", "order", "step", "measure", "estimator", "reference"),
    *("value", "stderr", "unit", "kind", "n", "d", "findings"),
]


@pytest.fixture
def report():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    h = ip.Histogram()  # without pseudo-counts, so that some divergences are infinite
    measures = [ip.Entropy(h), ip.Divergence(h, "previous"), ip.Divergence(h, "input")]
    with ip.probe(model, measures=measures) as probe:
        model(torch.randn(50, 6))
    return probe.report()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


def made(*values, measure="entropy", reference=None, **columns):
    """A report with one row a value."""
    row = dict.fromkeys(COLUMNS)
    row |= {"type": "Linear", "direction": "forward", "call": 0, "measure": measure}
    row |= {"estimator": "E()", "reference": reference, "unit": "nats", "n": 5, "d": 2}
    row |= {"findings": [], **columns}
    return ip.Report(
        [row | {"layer": f"layer{i}", "order": i, "value": v} for i, v in enumerate(values)]
    )


def test_rows(report):
    assert all(list(row) == COLUMNS for row in report.rows)
    assert len(report.rows) == 9
    assert {row["unit"] for row in report.rows} == {"nats"}
    assert {row["kind"] for row in report.rows} == {"discrete"}
    assert [row["order"] for row in report.rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_scalars(report):
    scalars = report.scalars()
    assert list(scalars)[:3] == [
        "0/forward/entropy",
        "0/forward/divergence_previous",
        "0/forward/divergence_input",
    ]
    assert all(isinstance(value, float) for value in scalars.values())
    assert len(scalars) == 9


def test_scalars_are_told_apart():
    assert made(1.0, call=2).scalars() == {"layer0#2/forward/entropy": 1.0}
    assert made(1.0, None).scalars() == {"layer0/forward/entropy": 1.0}
    two = ip.Report(made(1.0).rows + made(2.0, estimator="F()").rows)
    assert two.scalars() == {
        "layer0/forward/entropy[E()]": 1.0,
        "layer0/forward/entropy[F()]": 2.0,
    }


def test_layers_by_their_values():
    values = [1.0, None, 3.0, math.inf, 2.0]
    report = made(*values)
    other = [row | {"measure": "divergence", "value": 0.0} for row in report.rows]
    both = ip.Report([*report.rows, *other])
    layers = [row["layer"] for row in both.sort().select(measure="entropy").rows]
    assert layers == [f"layer{i}" for i in (3, 2, 4, 0, 1)]
    layers = [row["layer"] for row in both.sort(descending=False).rows[::2]]
    assert layers == [f"layer{i}" for i in (0, 4, 2, 3, 1)]
    assert repr(both.sort()).splitlines()[1].split()[0] == "layer3"
    steps = [row | {"step": 0} for row in report.rows]
    steps += [row | {"step": 5, "value": -float(row["order"])} for row in report.rows]
    assert ip.Report(steps).sort().rows[0]["layer"] == "layer0"
    with pytest.raises(ValueError, match="got 'rate'"):
        both.sort("rate")


def test_dataframe(report):
    frame = report.to_dataframe()
    assert list(frame.columns) == COLUMNS
    assert frame["value"].tolist() == [row["value"] for row in report.rows]


def test_a_file_gives_back_the_same(report, tmp_path):
    assert any(math.isinf(row["value"]) for row in report.rows)
    report.rows[0]["layer"] = "nan"  # a name, not a number
    report.rows[1]["value"] = None
    path = tmp_path / "report.json"
    report.save(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # standard JSON
    assert ip.Report.load(path).rows == report.rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a file made by Report.save"),
        ("[]", "expected a file made by Report.save"),
        ('{"rows": []}', "expected a file made by Report.save"),
        ('{"format": "infoprobe report", "version": 2}', "expected a file made by Report.save"),
        (
            '{"format": "infoprobe report", "version": 9, "rows": []}',
            "expected a report of version 2",
        ),
    ],
)
def test_other_files(tmp_path, text, message):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ip.Report.load(path)


def test_table(report):
    report = made(1.25, math.inf, findings=["look here"])
    assert repr(report).splitlines() == [
        "layer   type    direction  n  d  H(output)",
        "layer0  Linear  forward    5  2    1.2500*",
        "layer1  Linear  forward    5  2       inf*",
        "nats; E()",
        "* layer0/forward/entropy and 1 more: look here",
    ]
    several = made(*range(9), findings=["look here"])
    for i, row in enumerate(several.rows):
        row["findings"] = [f"look here at {i}"]
    many = repr(several)
    assert "* layer1/forward/entropy: look here at 1\n" in many
    assert many.endswith("* and 6 more findings of other kinds; report.findings() has all")
    assert repr(ip.Report([])) == "Report: nothing measured"


def test_values_come_with_their_errors():
    errors = [0.0123, None, 0.0, 2.0, 1234.5, 2.5e-8, math.nan]
    report = made(*[1.5] * len(errors))
    report = ip.Report(
        [row | {"stderr": error} for row, error in zip(report.rows, errors, strict=True)]
    )
    cells = [
        line.split("2  ")[-1].strip() for line in str(report).splitlines()[1 : 1 + len(errors)]
    ]
    of_errors = ["0.012", "", "0", "2.0", "1234", "2.5e-08", "nan"]
    assert cells == [f"1.5000 ± {error}" if error else "1.5000" for error in of_errors]
    # Numbers stand below each other.
    assert len({line.index("1.5000") for line in str(report).splitlines()[1:8]}) == 1


def test_a_measure_without_a_value_is_no_finding(tmp_path):
    valued, other = made(1.25, None, findings=["look here"]).rows
    report = ip.Report([valued, other | {"findings": ["it is not invertible."]}])
    closing = "– means that a measure has no value at that layer"
    assert repr(report).splitlines() == [
        "layer   type    direction  n  d  H(output)",
        "layer0  Linear  forward    5  2    1.2500*",
        "layer1  Linear  forward    5  2         –",
        "nats; E()",
        "* layer0/forward/entropy: look here",
        "– layer1/forward/entropy: it is not invertible.",
    ]
    assert "– layer1" not in repr(ip.Report([valued]))

    report.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<td title="it is not invertible.">–</td>' in text
    assert text.count("<details") == 1  # the finding at the value
    assert f"{closing}; point at it to read why.</p>" in text
    ip.Report([valued]).to_html(tmp_path / "report.html")
    assert closing not in (tmp_path / "report.html").read_text(encoding="utf-8")

    line, hollow = report.plot().lines
    assert line.get_xdata().tolist() == hollow.get_xdata().tolist() == [0]


def test_reasons_for_missing_values_are_grouped():
    reasons = ["It is one.", "It is one.", "It is two.", "", "It is four.", "It is five."]
    rows = made(*[None] * len(reasons)).rows
    report = ip.Report(
        [row | {"findings": [x] if x else []} for row, x in zip(rows, reasons, strict=True)]
    )
    assert repr(report).splitlines()[-4:] == [
        "– layer0/forward/entropy and 1 more: It is one.",
        "– layer2/forward/entropy: It is two.",
        "– layer3/forward/entropy: there is no value.",
        "– and 2 more for other reasons; report.rows has all",
    ]


def test_table_with_several_estimators_and_calls():
    report = ip.Report(made(1.0).rows + made(2.0, estimator="F()").rows + made(3.0, call=1).rows)
    assert repr(report).splitlines() == [
        "layer      type    direction  n  d  H(output) [1]  H(output) [2]",
        "layer0     Linear  forward    5  2        1.0000         2.0000",
        "layer0 #1  Linear  forward    5  2        3.0000",
        "nats; [1] E()",
        "[2] F()",
    ]


def test_a_layer_and_a_tap_of_one_name_have_a_line_each():
    rows = made(1.0).rows + made(2.0, type="tap").rows
    _, *lines, _ = repr(ip.Report(rows)).splitlines()
    assert [line.split()[:2] for line in lines] == [["layer0", "Linear"], ["layer0", "tap"]]


def test_plot_of_both_directions():
    model = InvertibleAutoencoder(mnist_inn(), 20)
    with ip.probe(model) as probe, torch.no_grad():
        model(torch.rand(5, 1, 28, 28))
    report = probe.report()
    ax = report.plot()
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert ticks[:3] == ["input", "haar_down", "conv1"]
    assert ticks[-2:] == ["haar_down⁻¹", "input⁻¹"]
    line = ax.lines[0]
    entropies = [row["value"] for row in report.rows if row["measure"] == "entropy"]
    assert line.get_ydata().tolist() == entropies
    assert ax.get_ylabel() == "H(output) (nats)"
    (shade,) = ax.patches
    assert shade.get_x() == ticks.index("output⁻¹") - 0.5
    assert shade.get_x() + shade.get_width() == len(ticks) - 0.5


def test_plot_marks_values_with_findings():
    report = ip.Report(made(1.0).rows + made(2.0, findings=["look here"], call=1).rows)
    _, noted = made(1.0, 2.0, findings=["look here"]).plot().lines
    assert noted.get_ydata().tolist() == [1.0, 2.0]
    _, noted = report.plot().lines
    assert noted.get_ydata().tolist() == [2.0]


def test_plot_of_names_with_dollar_signs():
    report = made(1.0)
    report.rows[0]["layer"] = "$x_{$"
    ax = report.plot()
    ax.figure.canvas.draw()


def test_plot_of_divergences(report):
    ax = report.plot("divergence")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "KL(previous||output)" in labels
    assert "KL(input||output) = ∞" in labels
    _, mine = pyplot.subplots()
    assert report.plot("divergence", reference="input", ax=mine) is mine
    assert mine.get_ylabel() == "KL(input||output) (nats)"


def test_plot_of_nothing(report):
    with pytest.raises(ValueError, match=r"no row has measure 'entropie'.*\('entropy', None\)"):
        report.plot("entropie")
    ax = made(None).plot()
    assert ax.get_ylabel() == "entropy (nats)"


@pytest.mark.parametrize(
    ("package", "method"), [("pandas", "to_dataframe"), ("matplotlib", "plot")]
)
def test_without_an_extra(report, monkeypatch, package, method):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=f"needs {package}: pip install 'infoprobe"):
        getattr(report, method)()


class TestSteps:
    @pytest.fixture
    def tracked(self):
        parts = [made(1.0, 2.0, step=0), made(3.0, None, step=5), made(5.0, 6.0, step=10)]
        return ip.Report([row for part in parts for row in part.rows])

    def test_one_of_them(self, tracked):
        assert tracked.steps == [0, 5, 10]
        assert [row["value"] for row in tracked.at(5).rows] == [3.0, None]
        with pytest.raises(ValueError, match="step: expected one of the report's steps, got 7"):
            tracked.at(7)
        with pytest.raises(ValueError, match="none, since no steps were tracked"):
            made(1.0).at(0)

    def test_scalars_and_text_are_of_the_last(self, tracked):
        expected = {"layer0/forward/entropy": 5.0, "layer1/forward/entropy": 6.0}
        assert tracked.scalars() == expected
        text = repr(tracked)
        assert text.startswith("3 steps, 0 to 10; the last:\n")
        assert "5.0000" in text
        assert "1.0000" not in text

    def test_a_figure_has_a_line_a_layer(self, tracked):
        ax = tracked.plot()
        lines = {line.get_label(): line for line in ax.get_lines()}
        assert lines["layer0"].get_xydata().tolist() == [[0, 1], [5, 3], [10, 5]]
        assert lines["layer1"].get_xydata().tolist() == [[0, 2], [10, 6]]
        assert ax.get_xlabel() == "step"
        assert ax.get_ylabel() == "H(output) (nats)"

    def test_several_series(self, tracked):
        others = [row | {"estimator": "F()", "reference": "input"} for row in tracked.rows]
        ax = ip.Report(tracked.rows + others).plot()
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == ["H(output), E()", "H(output), F()", "layer0", "layer1"]
        assert ax.get_ylabel() == "entropy (nats)"

    def test_a_file(self, tracked, tmp_path):
        tracked.save(tmp_path / "report.json")
        assert ip.Report.load(tmp_path / "report.json").rows == tracked.rows


class TestManyLayers:
    def test_each_second_name_is_shown_where_there_is_no_room_for_all(self):
        ax = made(*map(float, range(100))).plot()
        names = [text.get_text() for text in ax.get_xticklabels()]
        assert names == [f"layer{i}" for i in range(0, 100, 2)]
        assert ax.figure.get_figwidth() == 14

    def test_their_steps_are_a_map(self):
        rows = [
            line | {"step": step, "value": line["value"] + step}
            for step in (0, 10, 20)
            for line in made(*map(float, range(30))).rows
        ]
        rows[31]["value"] = None
        ax = ip.Report(rows).plot()
        (image,) = ax.get_images()
        shown = image.get_array()
        assert shown.shape == (30, 3)
        assert shown[2, 2] == 22
        assert shown.mask.sum() == 1
        assert shown.mask[1, 1]
        assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "10", "20"]
        bar = ax.figure.axes[1]
        assert bar.get_ylabel() == "H(output) (nats)"


class TestPage:
    def test_it_holds_everything(self, report, tmp_path):
        report.to_html(tmp_path / "report.html", title="a < b")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "<h1>a &lt; b</h1>" in text
        assert text.count("<svg") == 2  # entropies and divergences
        assert text.count('<th scope="row">') == 3 + len(report.settings)
        for row in report.rows:
            shown = "inf" if math.isinf(row["value"]) else f"{row['value']:.4f}"
            assert f">{shown}<" in text
            assert all(str(escape(finding)) in text for finding in row["findings"])
        assert not re.search("(src|href)=.?http", text)

    def test_names_are_escaped(self, tmp_path):
        rows = made(1.0, findings=["<script>"]).rows
        rows[0]["layer"] = "<b>"
        ip.Report(rows).to_html(tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert '<th scope="row">&lt;b&gt;</th>' in text
        assert text.count("<script>") == 1  # our own

    def test_nothing_measured_and_no_value(self, tmp_path):
        ip.Report([]).to_html(tmp_path / "report.html")
        made(None, findings=["why"]).to_html(tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert '<td title="why">–</td>' in text
        assert "<svg" not in text

    def test_without_matplotlib(self, report, tmp_path, monkeypatch):
        actual = builtins.__import__

        def without(name, *args, **kwargs):
            if name.startswith("matplotlib"):
                raise ImportError
            return actual(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        report.to_html(tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "no figures, since matplotlib is not installed" in text
        assert text.count('<th scope="row">') == 3 + len(report.settings)
        assert "<svg" not in text


class TestNotebook:
    def test_the_table_stands_in_a_notebook(self, report):
        text = report._repr_html_()
        assert text.startswith('<div class="ip-report">')
        assert text.count('<th scope="row">') == 3
        for row in report.rows:
            assert all(str(escape(finding)) in text for finding in row["findings"])
        assert " id=" not in text  # several may stand in one notebook
        assert "<script" not in text

    def test_of_several_steps_the_last_one(self):
        rows = [row | {"step": step} for step in (0, 5) for row in made(1.0 + step).rows]
        text = ip.Report(rows)._repr_html_()
        assert "This is step 5, the last of 2." in text
        assert "6.0000" in text
        assert "1.0000" not in text

    def test_nothing_measured(self):
        assert ip.Report([])._repr_html_() == "<p>Report: nothing measured</p>"


def test_findings_of_one_kind_are_one_note():
    odd = "Something is odd. Look at it. [odd-thing]"
    other = "Something else is odd. Look. [other-thing]"
    rows = made(1.0, 2.0, 3.0, findings=[odd]).rows
    rows[2]["findings"] = [other]
    report = ip.Report(rows)
    assert repr(report).splitlines()[-2:] == [
        f"* layer0/forward/entropy and 1 more: {odd}",
        f"* layer2/forward/entropy: {other}",
    ]
    kinds = report.findings()
    assert list(kinds) == ["odd-thing", "other-thing"]
    assert kinds["odd-thing"].rows == rows[:2]


def test_a_long_table_shows_its_first_and_last_lines():
    report = made(*map(float, range(200)))
    lines = repr(report).splitlines()
    assert len(lines) == 1 + 40 + 1 + 20 + 2
    assert [lines[i].split()[0] for i in (1, 40, 42, 61)] == [
        "layer0",
        "layer39",
        "layer180",
        "layer199",
    ]
    assert lines[41] == "… 140 more"
    assert lines[-1] == (
        "report.select(layer=...) and report.head(n) show other lines, from layer40 to layer179."
    )
    assert len(repr(report.head(60)).splitlines()) == 1 + 60 + 1
    assert [row["layer"] for row in report.head(2).rows] == ["layer0", "layer1"]


@pytest.mark.parametrize(
    ("names", "first", "last"),
    [
        (("norm", "attention", "up", "down"), "9.norm", "18.down"),
        (("a", "b", "c", "d", "e", "f", "g"), "5.a", "21.g"),
        ([f"u{i}" for i in range(70)], "0.u39", "23.u49"),  # of one block, not all lines
    ],
)
def test_a_long_table_leaves_out_whole_blocks(names, first, last):
    layers = ["stem", *(f"blocks.{i}.{name}" for i in range(24) for name in names)]
    report = made(*map(float, range(len(layers))))
    rows = [row | {"layer": layer} for row, layer in zip(report.rows, layers, strict=True)]
    text = repr(ip.Report(rows))
    assert f"from blocks.{first} to blocks.{last}." in text
    shown = re.findall(r"^(stem|blocks\S+)", text, re.MULTILINE)
    hidden = int(re.search("… ([0-9,]+) more", text)[1].replace(",", ""))
    assert len(shown) <= 60
    assert len(shown) + hidden == len(layers)
    start, end = layers.index(f"blocks.{first}"), layers.index(f"blocks.{last}")
    assert shown == layers[:start] + layers[end + 1 :]


def test_a_report_says_what_it_was_made_with(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    with ip.probe(model, measures=ip.Entropy(), seed=7) as probe:
        model(torch.randn(50, 3))
    settings = probe.report().settings
    assert settings["infoprobe"] == ip.__version__
    assert settings["torch"] == torch.__version__
    assert (settings["seed"], settings["passes"]) == ("7", "1")
    assert settings["model"] == "Sequential"
    assert settings["measures"] == repr(ip.Entropy())
    probe.report().save(tmp_path / "report.json")
    again = ip.Report.load(tmp_path / "report.json")
    assert again.settings == settings
    assert again.select(layer="0").settings == settings


def test_the_width_of_the_bins_is_told_everywhere(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    with ip.probe(model) as probe:
        model(torch.randn(50, 3))
    report = probe.report()
    (width,) = [text for key, text in report.settings.items() if key.startswith("bin width")]
    told = f"bins of width {width} at every layer"
    report.to_html(tmp_path / "report.html")
    assert told in repr(report)
    assert told in report._repr_html_()
    assert told in (tmp_path / "report.html").read_text(encoding="utf-8")
