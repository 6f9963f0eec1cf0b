"""The recipes of the design page run as they stand there."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
PACKAGE = Path(__file__).parents[1] / "infoprobe"


def recipe(title):
    """What the code of one section defines."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    names = {"__name__": "recipe"}
    exec(block, names)
    return names
