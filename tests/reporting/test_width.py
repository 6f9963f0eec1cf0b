"""Tables as wide as the terminal that shows them."""

import pytest

from tests.reporting.rows import report

MEASURES = [("entropy", None), ("divergence", "previous"), ("divergence", "input")]


def network(layers, **columns):
    return report(
        *(
            {
                "layer": f"encoder.layer.{i // 8}.attention.linear{i % 8}",
                "measure": measure,
                "reference": reference,
                "value": i + 0.5,
                **columns,
            }
            for i in range(layers)
            for measure, reference in MEASURES
        )
    )


def table_of(text):
    """The lines before the notes."""
    return text[: text.index("\nnats")].splitlines()


@pytest.mark.parametrize("n", [5, 40, 200])
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider(n, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = table_of(repr(network(n)))
    assert max(map(len, lines)) <= width
    heads = " ".join(line for line in lines if line.startswith("layer"))
    assert all(
        head in heads for head in ("H(output)", "KL(previous||output)", "KL(input||output)")
    )


def test_what_is_the_same_in_all_lines_is_a_note(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    head, first, *_, note, _ = repr(network(2, n=1000, d=12)).splitlines()
    assert head.split() == ["layer", "H(output)", "KL(previous||output)", "KL(input||output)"]
    assert first.split() == ["linear0", "0.5000", "0.5000", "0.5000"]
    assert note == (
        "type Linear, direction forward, n 1,000, d 12 in all lines; names leave out "
        "'encoder.layer.0.attention.'"
    )


def test_columns_without_room_follow_beside_the_names(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = table_of(repr(network(2)))
    heads = [line.split() for line in lines if line.startswith("layer")]
    assert heads == [
        ["layer", "H(output)", "KL(previous||output)"],
        ["layer", "KL(input||output)"],
    ]
    assert lines.count("") == 1


def test_without_a_terminal_lines_are_as_long_as_they_are(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    head = repr(network(5)).splitlines()[0]
    assert head.split()[:5] == ["layer", "type", "direction", "n", "d"]


def test_a_wide_terminal_changes_nothing(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = repr(network(200))
    monkeypatch.setenv("COLUMNS", "1000")
    assert repr(network(200)) == text
