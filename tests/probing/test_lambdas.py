import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.probing.functions import OwnFunction


def shown(function):
    return repr(OwnFunction(function))


def column(i):
    return lambda x: x[:, i]


def test_rows_have_the_text_of_a_lambda():
    model, x = nn.Linear(3, 4), torch.randn(20, 3)
    measures = [ip.Entropy(select=lambda x: x[:, 0]), ip.Entropy(select=lambda x: x[:, 1])]
    with ip.probe(model, measures=measures) as probe:
        model(x)
    report = probe.report()
    assert [row["measure"] for row in report.rows] == [
        "entropy@lambda x: x[:, 0]",
        "entropy@lambda x: x[:, 1]",
    ]
    assert "H(output) @ lambda x: x[:, 1]" in repr(report)
    chosen = report.select(measure="entropy@lambda x: x[:, 1]")
    assert chosen.rows == report.rows[1:]


def test_what_a_lambda_takes_from_around_it_is_filled_in():
    assert shown(column(2)) == "lambda x: x[:, 2]"
    assert shown(lambda x, i=3: x[:, i]) == "lambda x, i=3: x[:, i]"
    name, k = "row", 1
    assert shown(lambda x: x[name][k]) == "lambda x: x['row'][1]"
    assert shown(lambda x: torch.cat([x, x])) == "lambda x: torch.cat([x, x])"
    assert (
        shown(
            lambda x: x[
                0  # over several lines
            ]
        )
        == "lambda x: x[0]"
    )


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_a_checksum_tells_apart_what_the_text_does_not(kind):
    many = [0] * 5000
    one, other = (column(kind([*many, end, *many])) for end in (1, 2))
    assert shown(one)[:-4] == "lambda x: x[:, i] "
    assert shown(one) != shown(other)
    assert ip.Entropy(select=one).identity != ip.Entropy(select=other).identity
    same = column(kind([*many, 1, *many]))
    assert ip.Entropy(select=one).identity == ip.Entropy(select=same).identity
    first, last = (lambda x, i=i: x[i] for i in (one, other))
    assert shown(first)[:-4] == "lambda x, i=i: x[i] "
    assert shown(first) != shown(last)
    long = shown(lambda x: x[:, [0, 1, 2, 3, 4, 5]].flatten(1).double())
    assert long[:-4] == "lambda x: x[:, [0, 1, 2, 3, 4, 5]].flat… "


def test_settings_that_only_have_a_name_count():
    one, other = (eval(f"lambda x, *, i={i}: x[:, i]") for i in (0, 1))
    assert shown(one) != shown(other)


def test_without_a_text_there_is_a_checksum(tmp_path):
    one, other = eval("lambda x: x[:, 0]"), eval("lambda x: x[:, 1]")
    assert shown(one).startswith("lambda ")
    assert len({shown(one), shown(other), shown(eval("lambda x: x[:, 0]"))}) == 2
    # Two of one line do the same with different values, and which is which is not known.
    first, second = (lambda x, i=0: x[:, i]), (lambda x, i=1: x[:, i])  # fmt: skip
    assert shown(first) != shown(second)
    # The file has changed since it was run.
    path = tmp_path / "changed.py"
    names = {}
    exec(compile("f = lambda x: x[:, 0]", path, "exec"), names)
    path.write_text("f = lambda x: x[:, 7]", encoding="utf-8")
    assert shown(names["f"]) == shown(one)
    path = tmp_path / "broken.py"
    exec(compile("f = lambda x: x[:, 0]", path, "exec"), names)
    path.write_text("%magic\n(", encoding="utf-8")
    assert shown(names["f"]) == shown(one)
