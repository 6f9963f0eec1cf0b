import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SITE = "https://infoprobe.readthedocs.io/en/latest/"
FILES = (
    "https://github.com/infoprobe/infoprobe/blob/main/",
    "https://raw.githubusercontent.com/infoprobe/infoprobe/main/",
)


def test_the_quickstart_runs(capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names = {}
    exec(block, names)
    printed = capsys.readouterr().out
    assert "total          forward" in printed
    ledger = names["report"].ledger()
    exact = ledger.totals["forward"]
    # The two directions cancel, and the estimate is off by more than the exact error.
    assert abs(exact["exact"] + ledger.totals["inverse"]["exact"]) < 1e-3
    (estimate,) = exact["estimates"].values()
    assert abs(estimate - exact["exact"]) > 3 * exact["stderr"]


def test_links_work_on_any_page_and_lead_to_what_is_here():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert link.startswith("https://"), link
        path = None
        if link.startswith(SITE):
            path = Path("docs") / link.removeprefix(SITE).replace(".html", ".md")
        for start in FILES:
            if link.startswith(start):
                path = Path(link.removeprefix(start))
        assert path is None or (ROOT / path).exists(), link


def test_it_stays_short():
    assert len(README.splitlines()) <= 120


def test_both_commands_are_there():
    commands = [line for line in README.splitlines() if line.startswith("pip install -c")]
    assert [command.split(" && ") for command in commands] == [
        [
            'pip install -c constraints.txt -e ".[examples]"',
            "python examples/compare_autoencoders.py",
        ],
        ['pip install -c constraints.txt -e ".[test]"', "pytest"],
    ]
