import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
    assert "KL(input||output)" in capsys.readouterr().out
    assert "1/forward/mutual_information_target" in names["scalars"]
    h, x, total = names["h"], names["x"], names["total"]
    assert h.entropy(total) == h.entropy(names["torch"].cat([x, 2 * x]))


def test_linked_files_exist():
    links = re.findall(r"\]\(((?!http)[^)]+)\)", README)
    assert len(links) >= 3
    for link in links:
        assert (Path(__file__).parents[1] / link).exists(), link


def test_both_commands_are_there():
    commands = [line for line in README.splitlines() if line.startswith("pip install -c")]
    assert [command.split(" && ") for command in commands] == [
        [
            'pip install -c constraints.txt -e ".[examples]"',
            "python examples/compare_autoencoders.py",
        ],
        ['pip install -c constraints.txt -e ".[test]"', "pytest"],
    ]
