"""Writes the page of a data set: the sections of all parts that have been run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from paper import checks, companion, digit, honest
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


PARTS: dict[str, Part] = {
    "digit": digit,
    "honest": honest,
    "companion": companion,
    "checks": checks,
}


def write(plan: Plan) -> Path:
    """Draws the figures and writes the page of the JSON files in the plan's folder."""
    sections = [_section(part, plan.out) for part in PARTS if (plan.out / f"{part}.json").exists()]
    path = plan.out / "README.md"
    path.write_text("\n".join([_head(plan), *sections]))
    return path


def _section(part: str, out: Path) -> str:
    found: dict[str, Any] = json.loads((out / f"{part}.json").read_text())
    PARTS[part].figure(found, out / f"{part}.png")
    title, text = PARTS[part].page(found).split("\n\n", 1)
    return f"{title}\n\n![{title.lstrip('# ')}]({part}.png)\n\n{text}"


def _head(plan: Plan) -> str:
    return f"""# Callahan & Paskett (2021) on {DATASETS[plan.dataset]}

This page and its figures are written by

    {command(plan)}

from the numbers in the JSON files beside it; [the page above](../README.md) says what they
mean. All information quantities are in nats.
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
