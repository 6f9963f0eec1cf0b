import ast
import re
from pathlib import Path

import infoprobe as ip
from infoprobe.findings import code_of
from infoprobe.libraries.log_determinants import CONDITIONAL

ROOT = Path(__file__).parents[1]


def codes_in_the_source():
    """The codes of all findings that the package makes, and where one has none."""
    codes, without = set(), []
    for path in (ROOT / "infoprobe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                given = [each.value for each in node.keywords if each.arg == "code"]
                if given and isinstance(given[0], ast.Constant):
                    codes.add(given[0].value)
                else:
                    without.append(f"{path.name}:{node.lineno}")
    return codes | {CONDITIONAL}, without


def test_every_code_is_explained_and_every_explained_code_exists():
    codes, without = codes_in_the_source()
    assert not without, "findings without a literal code"
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert explained == sorted(codes)


def test_a_code_can_be_read_from_the_sentences():
    finding = ip.Finding("warning", "it is off", 1.0, "Do not trust it.", "x", "my-code")
    assert str(finding) == "x: it is off. Do not trust it. [my-code]"
    assert code_of(str(finding)) == "my-code"
    assert code_of(str(finding._replace(code=""))) == ""
    assert code_of("values in [0, 1]") == ""
