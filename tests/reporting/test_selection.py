import csv
import io

import pytest

import infoprobe as ip
from tests.reporting.rows import report


@pytest.fixture
def mixed():
    return report(
        {"layer": "conv1"},
        {"layer": "conv1", "direction": "inverse"},
        {"layer": "conv2", "measure": "divergence", "reference": "input"},
        {"layer": "fc[0]", "type": "Tanh", "estimator": "KNN(k=3)"},
    )


def layers(report):
    return [row["layer"] for row in report.rows]


def test_a_pattern_selects_what_it_matches(mixed):
    assert layers(mixed.select("conv*")) == ["conv1", "conv1", "conv2"]
    assert layers(mixed.select(["conv2", "fc*"])) == ["conv2", "fc[0]"]
    assert layers(mixed.select("conv1", direction="inverse")) == ["conv1"]
    assert layers(mixed.select(type="Tanh")) == ["fc[0]"]
    assert layers(mixed.select(estimator="KNN(*")) == ["fc[0]"]


def test_a_measure_is_known_with_its_reference_and_without(mixed):
    assert layers(mixed.select(measure="divergence")) == ["conv2"]
    assert layers(mixed.select(measure="divergence_input")) == ["conv2"]
    assert layers(mixed.select(reference="input")) == ["conv2"]


def test_a_name_with_the_characters_of_a_pattern_matches_itself(mixed):
    assert layers(mixed.select("fc[0]")) == ["fc[0]"]


def test_without_patterns_all_rows_remain(mixed):
    assert mixed.select().rows == mixed.rows


def test_what_matches_nothing_is_named_with_what_is_there(mixed):
    with pytest.raises(ValueError, match=r"layer: expected .* got 'cnv\*'.*'conv1', 'conv2'"):
        mixed.select("cnv*")
    with pytest.raises(ValueError, match=r"direction: .*'forward'"):
        mixed.select("conv2", direction="inverse")
    with pytest.raises(TypeError, match="layer: expected a text or several, got 3"):
        mixed.select(3)


def test_csv_holds_every_row_and_finding(mixed, tmp_path):
    mixed.rows[0]["findings"] = ["one, with a comma", 'two "quoted"']
    mixed.rows[1]["value"] = None
    mixed.to_csv(tmp_path / "report.csv")
    text = (tmp_path / "report.csv").read_bytes().decode()
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["layer"] for line in lines] == layers(mixed)
    assert lines[0]["findings"].split("\n") == mixed.rows[0]["findings"]
    assert [line["value"] for line in lines[1:3]] == ["", "1.0"]
    assert list(lines[0]) == list(mixed.rows[0])


def test_an_empty_report_is_a_head_line(tmp_path):
    ip.Report([]).to_csv(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text().startswith("layer,type,direction,")
