"""Writes the two pages of a data set, from all parts that have been run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from paper import checks, companion, digit, honest, summary
from paper.figures import DATASETS
from paper.plan import MEASURED, Plan


class Part(Protocol):
    """A part of the reproduction, one section of the page."""

    def run(self, plan: Plan) -> dict[str, Any]:
        """Measures what the part is about, or reads what an earlier run measured."""

    def figure(self, found: dict[str, Any], path: Path) -> None:
        """Draws what was found."""

    def page(self, found: dict[str, Any]) -> str:
        """Writes the section of the page, with all of its numbers from what was found."""

    def details(self, found: dict[str, Any]) -> str:
        """Writes the details, which stand on a page of their own; the text may be empty."""


PARTS: dict[str, Part] = {
    "digit": digit,
    "honest": honest,
    "companion": companion,
    "checks": checks,
}


def write(plan: Plan) -> Path:
    """Draws the figures and writes the pages of the JSON files in the plan's folder."""
    found = {
        part: json.loads((plan.out / f"{part}.json").read_text())
        for part in PARTS
        if (plan.out / f"{part}.json").exists()
    }
    sections = [_section(part, found[part], plan.out) for part in found]
    details = [PARTS[part].details(found[part]) for part in found]
    path = plan.out / "README.md"
    _write(path, [_head(plan), summary.text(found), *sections])
    _write(plan.out / "details.md", [_head_of_details(plan), *details])
    return path


def _write(path: Path, texts: list[str]) -> None:
    path.write_text("\n".join(text for text in texts if text))


def _section(part: str, found: dict[str, Any], out: Path) -> str:
    PARTS[part].figure(found, out / f"{part}.png")
    title, text = PARTS[part].page(found).split("\n\n", 1)
    return f"{title}\n\n![{title.lstrip('# ')}]({part}.png)\n\n{text}"


def _head(plan: Plan) -> str:
    return f"""# Callahan & Paskett (2021) on {DATASETS[plan.dataset]}

[The page above](../README.md) says what was measured and what it means. This page and its figures
are written from the numbers in the JSON files beside it, by

    {command(plan)}

All information quantities are in nats. [The details](details.md) have every published point, the
layers one by one, and the checks in numbers.

```{{toctree}}
:hidden:
details
```
"""


def _head_of_details(plan: Plan) -> str:
    return f"""# Details of the paper on {DATASETS[plan.dataset]}

[The page](README.md) says what these numbers mean, and which command writes them. All information
quantities are in nats.
"""


def command(plan: Plan) -> str:
    """Returns the command that writes the same page again, given the same data."""
    root = " --data-root DATA" if plan.data_root else ""
    parts = [f"python examples/reproduce_paper.py --dataset {plan.dataset}{root}"]
    for family in plan.seeds:
        parts.append(f"--{family}-epochs {plan.epochs[family]}")
        parts.append(f"--{family}-seeds {' '.join(map(str, plan.seeds[family]))}")
    parts.append(f"--bottleneck {plan.bottleneck}")
    if plan.images is not None:
        parts.append(f"--images {plan.images}")
    if plan.measured != MEASURED:
        parts.append(f"--measured {plan.measured}")
    return " \\\n        ".join([parts[0], " ".join(parts[1:])])
