"""Measures register their own labels; no list knows their names."""

import pytest
from matplotlib import pyplot

import infoprobe as ip
from infoprobe.rows import Row, label, register_label


def row(measure, reference=None, value=1.0) -> Row:
    return Row(
        layer="layer",
        type="Linear",
        direction="forward",
        call=0,
        order=0,
        step=None,
        measure=measure,
        estimator="E()",
        reference=reference,
        value=value,
        stderr=None,
        unit="nats",
        kind=None,
        n=5,
        d=2,
        findings=[],
    )


def shown(report, tmp_path):
    """The heads of the table, the label of the figure's axis, and the text of the page."""
    (column,) = repr(report).splitlines()[0].split("  ")[-1:]
    measure = report.rows[0]["measure"]
    axis = report.plot(measure).get_ylabel()
    pyplot.close("all")
    report.to_html(tmp_path / "report.html")
    return column, axis, (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_registered_label_is_in_table_figure_and_page(tmp_path):
    register_label("shared_bits", lambda reference: f"B<{reference}>")
    column, axis, page = shown(ip.Report([row("shared_bits", "input")]), tmp_path)
    assert column == "B<input>"
    assert axis == "B<input> (nats)"
    assert '<th scope="col" title="E()">B&lt;input&gt;</th>' in page


@pytest.mark.parametrize(
    ("reference", "expected"), [(None, "unheard_of"), ("input", "unheard_of(input)")]
)
def test_an_unknown_measure_is_called_by_its_name(tmp_path, reference, expected):
    column, axis, page = shown(ip.Report([row("unheard_of", reference)]), tmp_path)
    assert column == label("unheard_of", reference) == expected
    assert axis == f"{expected} (nats)"
    assert f'<th scope="col" title="E()">{expected}</th>' in page


def test_the_last_label_counts():
    register_label("renamed", lambda _: "old")
    register_label("renamed", lambda _: "new")
    assert label("renamed", None) == "new"


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (ip.Entropy(), "H(output)"),
        (ip.Divergence(reference="previous"), "KL(previous||output)"),
        (ip.MutualInformation(reference="target"), "I(target;output)"),
        (ip.EntropyChange(), "E log|det J|"),
        (ip.Rate(), "E KL(q(z|x)||p(z))"),
    ],
)
def test_our_measures(measure, expected):
    assert label(measure.name, measure.reference) == expected
