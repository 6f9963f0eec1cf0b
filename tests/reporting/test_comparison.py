import math

import pytest

import infoprobe as ip
from tests.reporting.rows import report


@pytest.fixture
def two():
    first = report(
        {"layer": "a", "value": 1.0, "stderr": 0.3},
        {"layer": "b", "value": 2.0},
        {"layer": "d", "value": 4.0, "stderr": 0.1},
    )
    second = report(
        {"layer": "a", "value": 1.5, "stderr": 0.4},
        {"layer": "b", "value": None},
        {"layer": "c", "value": 3.0},
        {"layer": "d", "value": math.inf, "stderr": 0.1},
    )
    return first.compare(second, names=("before", "after"))


def test_values_stand_side_by_side_with_the_difference_and_its_error(two):
    a, *_ = two.rows
    assert (a["first"], a["second"], a["difference"]) == (1.0, 1.5, 0.5)
    assert a["difference_stderr"] == pytest.approx(0.5)  # the root of 0.09 + 0.16


def test_what_only_one_of_them_has_stays_where_it_was(two):
    assert [row["layer"] for row in two.rows] == ["a", "b", "c", "d"]
    assert [row["first"] for row in two.rows] == [1.0, 2.0, None, 4.0]
    assert [row["difference"] for row in two.rows] == [0.5, None, None, math.inf]
    assert two.rows[3]["difference_stderr"] == pytest.approx(math.hypot(0.1, 0.1))


def test_measures_and_estimators_are_not_mixed():
    first = report({"estimator": "E()"}, {"measure": "divergence", "reference": "input"})
    second = report({"estimator": "F()"}, {"measure": "divergence", "reference": "previous"})
    comparison = first.compare(second)
    assert len(comparison.rows) == 4
    assert all(row["difference"] is None for row in comparison.rows)


def test_it_prints_as_a_table_for_each_measure(two):
    title, head, a, b, _c, _d = repr(two).splitlines()
    assert title == "H(output) in nats, E()"
    assert head.split() == ["layer", "direction", "before", "after", "difference", "stderr"]
    assert a.split() == ["a", "forward", "1.0000", "1.5000", "0.5000", "0.5000"]
    assert b.split() == ["b", "forward", "2.0000", "–", "–", "–"]


def test_the_last_steps_are_compared():
    tracked = report({"step": 0, "value": 1.0}, {"step": 10, "value": 2.0})
    (row,) = tracked.compare(report({"value": 5.0})).rows
    assert row["difference"] == 3.0


def test_it_becomes_a_data_frame_and_a_figure(two):
    frame = two.to_dataframe()
    assert list(frame["layer"]) == ["a", "b", "c", "d"]
    axes = two.plot()
    assert axes.get_xlabel() == "relative depth"
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["before", "after", "after = ∞"]


def test_equal_layers_share_an_axis_of_names():
    first = report({"layer": "a"}, {"layer": "b", "direction": "inverse"})
    axes = first.compare(first).plot()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b⁻¹"]


def test_a_measure_with_several_references_must_be_told_apart():
    several = report(
        {"measure": "divergence", "reference": "input"},
        {"measure": "divergence", "reference": "previous"},
    )
    comparison = several.compare(several)
    comparison.plot("divergence", "input")
    with pytest.raises(ValueError, match="expected one measure, got 'divergence'"):
        comparison.plot("divergence")
    with pytest.raises(ValueError, match="expected one measure, got 'entropy'"):
        comparison.plot()


def test_bad_arguments_are_named(two):
    with pytest.raises(TypeError, match=r"other: expected an ip\.Report, got 3"):
        report({}).compare(3)
    for names in (("a",), ("a", "a"), "ab", (1, 2), 3):
        with pytest.raises(ValueError, match="names: expected two different texts"):
            report({}).compare(report({}), names)


def test_two_real_reports(tmp_path):
    import torch

    reports = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
        with ip.probe(model) as probe:
            model(torch.randn(200, 3))
        reports.append(probe.report())
    comparison = reports[0].compare(reports[1])
    values = [row["value"] for row in reports[1].rows]
    assert sorted(row["second"] for row in comparison.rows) == sorted(values)
    assert all(row["difference_stderr"] > 0 for row in comparison.rows)
