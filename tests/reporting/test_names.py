"""Two estimators of one measure have short names, and no value is lost."""

import warnings

import pytest
import torch
from matplotlib import pyplot
from torch import nn

import infoprobe as ip
from infoprobe.reporting.names import different, printable, short_names, shortened
from tests.reporting.rows import report


def names(*estimators):
    return list(short_names(map(repr, estimators)).values())


def test_a_class_alone_goes_by_its_name():
    assert names(ip.Histogram(), ip.KNN(), ip.Flow()) == ["Histogram()", "KNN()", "Flow()"]


def test_of_one_class_the_names_say_what_differs():
    assert names(ip.KNN(), ip.KNN(k=5), ip.Gaussian()) == ["KNN(k=3)", "KNN(k=5)", "Gaussian()"]
    # An exact grid has a comma within its range.
    assert names(ip.Histogram(range=(0, 1)), ip.Histogram(range=(0, 2), bins=9)) == [
        "Histogram(bins=256, range=(0.0, 1.0))",
        "Histogram(bins=9, range=(0.0, 2.0))",
    ]


def test_estimators_within_estimators():
    inner = [ip.KNN(calibration="gaussian"), ip.KNN(k=9), ip.Gaussian()]
    assert names(*(ip.Flow(residual=x) for x in inner[:2])) == [
        "Flow(residual=KNN(k=3, calibration='gaussian'))",
        "Flow(residual=KNN(k=9, calibration=None))",
    ]
    assert names(ip.Flow(residual=inner[0]), ip.Flow(residual=inner[2])) == [
        "Flow(residual=KNN())",
        "Flow(residual=Gaussian())",
    ]


@pytest.mark.parametrize(
    "texts",
    [
        ["<Box object at 0x1>", "<Box object at 0x2>"],
        ["f(x='a, b=(', y=1)", "f(x='a, b=(', y=2)"],
        ["x" * 500 + "1" + "y" * 500, "x" * 500 + "2" + "y" * 500],
        ["f(", "f)", "f()", "f(x)", "f(x=)", "f(=)", "", ",", "'", "f('", "f(\\'=1)"],
        ["F(x=" * 5000, "F(x=" * 5000 + ")" * 5000, "F(x=" * 5000 + "1" + ")" * 5000],
        ["a\x1b", "a\\x1b", "a [2]", "a"],
    ],
)
def test_names_are_short_and_differ(texts):
    short = short_names(texts)
    assert list(short) == texts
    assert len(set(short.values())) == len(texts)
    assert all(len(name) <= 54 and name.isprintable() for name in short.values())


def test_helpers():
    assert different(["a", "b", "a", "a [2]", "a"]) == ["a", "b", "a [3]", "a [2]", "a [4]"]
    assert shortened("abcdefgh", 5) == "ab…gh"
    assert printable("a\x1b[2J\n\ud800é") == "a\\x1b[2J\\n\\ud800é"


@pytest.fixture
def two_estimators():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    with ip.probe(model, measures=[ip.Entropy(), ip.Entropy(ip.KNN())]) as probe:
        model(torch.randn(50, 6))
    return probe.report()


def test_two_estimators_in_plot_page_and_scalars(two_estimators, tmp_path):
    ax = two_estimators.plot()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that of a layout without room
        ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "H(output), Histogram()",
        "H(output), KNN()",
    ]
    assert ax.get_position().width > 0.5
    pyplot.close("all")

    assert list(two_estimators.scalars())[:2] == [
        "0/forward/entropy[Histogram()]",
        "0/forward/entropy[KNN()]",
    ]
    two_estimators.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '">H(output), KNN()</th>' in page
    assert "<li>H(output), Histogram(): <code>Histogram(bins=256, range=" in page
    assert "bins=256" in repr(two_estimators)


@pytest.mark.parametrize(
    "rows",
    [
        [{"layer": "a#1"}, {"layer": "a", "call": 1}, {"layer": "a"}],
        [{"layer": "a"}, {"layer": "a", "type": "tap"}],
        [{"layer": "a/forward", "direction": "inverse"}, {"layer": "a"}],
        [{"measure": "entropy_input"}, {"measure": "entropy", "reference": "input"}],
        [{"layer": "a"}, {"layer": "a", "order": 3}],
        [
            {"layer": "a#1"},
            {"layer": "a", "call": 1, "estimator": "F()"},
            {"layer": "a", "call": 1, "estimator": "F()", "type": "tap"},
            {"layer": "a", "call": 1, "measure": "entropy[E()]"},
        ],
    ],
)
def test_scalars_lose_no_value(rows):
    made = report(*({**row, "value": float(i)} for i, row in enumerate(rows)))
    assert list(made.scalars().values()) == [float(i) for i in range(len(rows))]


def test_scalars_say_what_tells_them_apart():
    rows = [{"layer": "a"}, {"layer": "a", "type": "tap"}, {"layer": "b#1"}]
    assert list(report(*rows, {"layer": "b", "call": 1}).scalars()) == [
        "a/forward/entropy[Linear]",
        "a/forward/entropy[tap]",
        "b#1/forward/entropy",
        "b#1/forward/entropy [2]",
    ]
