"""A report may come from somebody else: its page runs nothing, and what would fail is refused."""

import json
import math
import os
import threading
from html.parser import HTMLParser

import pytest
from matplotlib import pyplot

import infoprobe as ip
from tests.reporting.rows import report, row

PAYLOADS = [
    '"><img src=x onerror=alert(1)>',
    "'><script>alert(1)</script>",
    "</title></style></code><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "-->]]><svg onload=alert(1)>",
    "javascript:alert(1)",
]
ODD = [*PAYLOADS, "$x_{$", "\\$$", "_hidden", "\x00\x1b[2J\r\n\u202e", "\ud800", "x" * 10_000, ""]
TEXTS = ["layer", "type", "measure", "estimator", "reference", "unit"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


def everything(made, tmp_path):
    """All that shows a report."""
    made.to_html(tmp_path / "page.html")
    text = repr(made)
    assert "\x1b" not in text
    text.encode()
    made.scalars()
    made.to_dataframe()
    for measure in {line["measure"] for line in made.rows}:
        made.plot(measure).figure.canvas.draw()
    return (tmp_path / "page.html").read_text(encoding="utf-8")


class Seen(HTMLParser):
    """The tags of a page with their attributes, as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {f"{name}={value}" if name == "href" else name for name, value in attrs}


def require_harmless(page, plain):
    """No text of a report adds a tag, an attribute or a link to what a plain page has."""
    seen, expected = Seen(page), Seen(plain)
    assert seen.tags <= expected.tags
    assert {x for x in seen.attributes if "#" not in x} <= expected.attributes


def tame(value, text):
    return ["a"] if value == [text] else "a" if value == text else value


@pytest.mark.parametrize("text", ODD)
def test_every_field_is_escaped(tmp_path, text):
    fields = dict.fromkeys(TEXTS, text) | {"findings": [text]}
    steps = [{"step": 3, **fields}, {"step": 4, **fields, "layer": "b"}]
    for rows in ([fields, {**fields, "estimator": "E()"}, {**fields, "value": None}], steps):
        made = ip.Report(report(*rows).rows, {"seed": text, text: "0"})
        made.save(tmp_path / "report.json")
        again = ip.Report.load(tmp_path / "report.json")
        assert again == made
        tamed = report(*({key: tame(x, text) for key, x in line.items()} for line in rows))
        plain = ip.Report(tamed.rows, {"seed": "a", "a": "0"})
        require_harmless(everything(again, tmp_path), everything(plain, tmp_path))
    made.to_html(tmp_path / "page.html", title=text)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    require_harmless(page, everything(plain, tmp_path))


def test_a_direction_runs_no_script(tmp_path):
    # Not a row that a probe makes or a file gives back, but one made by hand.
    made = report({"direction": PAYLOADS[0]})
    made.to_html(tmp_path / "page.html")
    assert "<img" not in (tmp_path / "page.html").read_text()


def written(tmp_path, rows, **fields):
    path = tmp_path / "report.json"
    document = {"format": "infoprobe report", "version": 2, "settings": {}, "rows": rows}
    document |= fields
    path.write_text(json.dumps(document))
    return path


NUMBERS = [True, "1", "NaN", "infinity", [1], {}, "1_0", 10**400]
NATURAL = [-1, 1.5, True, "1", 2**63, [0], {}]
HOSTILE = {
    "layer": [None, 1, ["a"], {}, True],
    "type": [None, 1, ["a"]],
    "direction": ["", "sideways", None, 1, ["forward"], PAYLOADS[0]],
    "call": [*NATURAL, None],
    "order": [*NATURAL, None],
    "step": NATURAL,
    "measure": [None, 1, ["a"]],
    "estimator": [None, 1, ["a"]],
    "reference": [1, ["a"], {}],
    "value": NUMBERS,
    "stderr": [*NUMBERS, -1.0, "-inf"],
    "unit": [None, 1, ["a"]],
    "kind": ["", "continuous", 1],
    "n": [*NATURAL, None],
    "d": [-1, True, "2", "inf", 10**400, [2]],
    "findings": [None, "text", [1], [None], [["a"]], {}, {"a": 1}],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in HOSTILE.items() for value in values],
    ids=lambda x: str(x)[:20],
)
def test_a_field_of_another_kind_is_refused_by_name(tmp_path, key, value):
    path = written(tmp_path, [row(), row() | {key: value}])
    with pytest.raises(ValueError, match=rf"report\.json: rows\[1\]\['{key}'\]: expected"):
        ip.Report.load(path)
    if value not in ("NaN", "infinity"):
        with pytest.raises(ValueError, match=rf"report\.rows\[0\]\['{key}'\]: expected"):
            ip.Report([row() | {key: value}]).save(tmp_path / "other.json")
        assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize(
    "rows", [[1], [[]], [{}], ["row"], [row() | {"more": 1}], [dict(list(row().items())[1:])]]
)
def test_rows_of_another_form_are_refused_by_name(tmp_path, rows):
    with pytest.raises(ValueError, match=r"rows\[0\]: expected the columns"):
        ip.Report.load(written(tmp_path, rows))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": "infoprobe report", "version": 2, "rows": ' + b"[" * 100_000,
        b'{"format": "infoprobe report", "version": 2, "rows": {}}',
        b'{"format": "infoprobe report", "version": 2, "rows": [1e999]}',
        b'{"format": "infoprobe report", "version": 2, "rows": [NaN]}',
        b'{"format": "infoprobe report", "version": 2, "rows": [' + b"9" * 5000 + b"]}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
    ],
)
def test_other_documents_are_refused_by_name(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"report\.json: expected a file made by Report\.save"):
        ip.Report.load(path)


@pytest.mark.parametrize("settings", [None, [], "text", {"seed": 0}, {"a": None}, {"a": ["b"]}])
def test_settings_of_another_kind_are_refused_by_name(tmp_path, settings):
    with pytest.raises(ValueError, match=r"report\.json: settings: expected a dictionary"):
        ip.Report.load(written(tmp_path, [], settings=settings))
    with pytest.raises(ValueError, match=r"report\.settings: expected a dictionary of texts"):
        ip.Report([], settings).save(tmp_path / "other.json")


@pytest.mark.parametrize("version", [None, 1, "2", 2.0, True, [2]])
def test_other_versions(tmp_path, version):
    with pytest.raises(ValueError, match="expected a report of version 2, got"):
        ip.Report.load(written(tmp_path, [], version=version))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -0.0, 3])
def test_all_numbers_come_back_and_are_drawn(tmp_path, value):
    made = report({"value": value, "stderr": abs(value)}, {"value": -value, "layer": "b"})
    made.save(tmp_path / "report.json")
    again = ip.Report.load(tmp_path / "report.json")
    assert repr(again.rows[0]["value"]) == repr(float(value))
    everything(again, tmp_path)


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for use in (report({}).save, report({}).to_html, ip.Report.load):
        raised = []

        def run(use=use, raised=raised):
            try:
                use(pipe)
            except ValueError as error:
                raised.append(str(error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
        assert raised == [
            f"path: expected the path of a file, got {str(pipe)!r}, which is a pipe."
        ]
