import builtins
import json
import math

import pytest
import torch
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
        ('{"format": "infoprobe report", "version": 1}', "expected a file made by Report.save"),
        (
            '{"format": "infoprobe report", "version": 9, "rows": []}',
            "expected a report of version 1",
        ),
    ],
)
def test_other_files(tmp_path, text, message):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ip.Report.load(path)


def test_table(report):
    report = made(1.25, math.inf, None, findings=["look here"])
    assert repr(report).splitlines() == [
        "layer   type    direction  n  d  H(output)",
        "layer0  Linear  forward    5  2    1.2500*",
        "layer1  Linear  forward    5  2       inf*",
        "layer2  Linear  forward    5  2         -",
        "nats; E()",
        "* layer0/forward/entropy: look here",
        "* layer1/forward/entropy: look here",
        "* layer2/forward/entropy: look here",
    ]
    many = repr(made(*range(9), findings=["look here"]))
    assert many.endswith("* and 6 more values with findings in report.rows")
    assert repr(ip.Report([])) == "Report: nothing measured"


def test_table_with_several_estimators_and_calls():
    report = ip.Report(made(1.0).rows + made(2.0, estimator="F()").rows + made(3.0, call=1).rows)
    assert repr(report).splitlines() == [
        "layer      type    direction  n  d  H(output) [1]  H(output) [2]",
        "layer0     Linear  forward    5  2        1.0000         2.0000",
        "layer0 #1  Linear  forward    5  2        3.0000              -",
        "nats; [1] E()",
        "[2] F()",
    ]


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
