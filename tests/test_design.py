"""The recipes of the design page run as they stand there."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
PACKAGE = Path(__file__).parents[1] / "infoprobe"


def recipe(title):
    """What the code of one section defines."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    names = {"__name__": "recipe"}
    exec(block, names)
    return names


def rows(names):
    return names["probe"].report().rows


def test_adding_an_estimator(capsys):
    names = recipe("Adding an estimator")
    x, model, estimator = names["x"], names["model"], names["Box"]()
    printed = capsys.readouterr().out
    assert str(estimator.entropy(x)) in printed
    assert "Box(margin=0.0)" in printed
    assert rows(names)[0]["value"] == float(estimator.entropy(model[0](x).detach()))
    assert {row["kind"] for row in rows(names)} == {"differential"}


def test_adding_a_measure(capsys):
    names = recipe("Adding a measure")
    assert "share of zeros" in capsys.readouterr().out
    values = [row["value"] for row in rows(names) if row["measure"] == "sparsity"]
    assert values[0] == 0
    assert 0.2 < values[1] < 0.8


def test_adding_a_library(capsys):
    names = recipe("Adding a library of flows")
    printed = capsys.readouterr().out
    assert "its log-determinants are" in printed
    forward, inverse = rows(names)
    assert forward["direction"] == "forward"
    assert forward["value"] == pytest.approx(2 * 1.0986123)
    assert inverse["direction"] == "inverse"
    assert inverse["value"] == pytest.approx(-2 * 1.0986123)


def test_every_room_is_on_the_page():
    picture = PAGE.split("```\ninfoprobe/\n")[1].split("```")[0]
    named = set(re.findall(r"(\w+(?:\.py|/))", picture))
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in PACKAGE.iterdir()
        if path.name not in ("__pycache__", "py.typed")
    }
    assert there <= named


def test_paths_on_the_page_exist():
    paths = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", PAGE))
    assert len(paths) > 15
    for path in paths:
        places = (PACKAGE / path, PACKAGE.parent / path)
        assert any(place.exists() for place in places), path
