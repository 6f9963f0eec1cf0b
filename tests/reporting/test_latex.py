import re

import pytest

import infoprobe as ip


def row(layer="conv_1", value=1.23456, stderr=0.0123, **others):
    return {
        "layer": layer,
        "type": "Conv2d",
        "direction": "forward",
        "call": 0,
        "order": 0,
        "step": None,
        "measure": "entropy",
        "estimator": "Histogram(bins=256)",
        "reference": None,
        "value": value,
        "stderr": stderr,
        "unit": "nats",
        "kind": "discrete",
        "n": 10,
        "d": 4,
        "findings": [],
    } | others


def lines(*rows):
    return ip.Report(list(rows)).to_latex().splitlines()


@pytest.mark.parametrize(
    ("value", "stderr", "cell"),
    [
        (1.23456, 0.0123, r"$1.235 \pm 0.012$"),
        (1.23456, None, "$1.2346$"),
        (1234.5678, 56.0, r"$1235 \pm 56$"),
        (0.5, 0.0, r"$0.5000 \pm 0$"),
        (float("inf"), None, r"$\infty$"),
        (float("-inf"), 1.0, r"$-\infty$"),
        (None, None, "--"),
    ],
)
def test_values_have_the_digits_that_their_errors_allow(value, stderr, cell):
    table = lines(row(value=value, stderr=stderr, findings=[] if value else ["Why."]))
    assert table[4] == rf"conv\_1 & {cell} \\"


def test_stars_mark_findings():
    assert lines(row(findings=["Mind this."]))[4].endswith(r"0.012^{*}$ \\")


def test_heads_units_and_directions():
    table = lines(
        row(),
        row(measure="divergence", reference="input", value=2.0, estimator="KNN(k=3)"),
        row("fc", direction="inverse", unit="bits"),
    )
    assert table[0] == r"\begin{tabular}{llrr}"
    assert table[2] == r"layer & direction & H(output) & KL(input\textbar{}\textbar{}output) \\"
    assert table[5] == r"fc & inverse & $1.235 \pm 0.012$ &  \\"
    assert table[-1] == "% in bits, nats; a star marks a value with a finding"


def test_names_cannot_write_latex():
    hostile = r"a\input{x}_%$#&{}~^<>|" + '"\n'
    cell = lines(row(hostile))[4].split(" & ")[0]
    left = cell
    for command in re.findall(r"\\text\w+\{\}", cell):
        left = left.replace(command, "", 1)
    assert not re.search(r"(?<!\\)[%$#&_{}~^]", left)
    assert "\\input" not in cell


def test_the_last_step_of_a_tracked_report():
    table = lines(row(step=0, value=1.0), row(step=5, value=2.0))
    assert len([line for line in table if line.startswith("conv")]) == 1
    assert "2.000" in table[4]
