"""The page of a data set: the sections of all parts that have been run."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from paper.figures import DATASETS
from paper.plan import MEASURED, Plan

PARTS = ("digit", "honest", "companion", "checks")


def module(part: str) -> ModuleType:
    """What does a part: ``run(plan)`` measures, ``figure`` draws and ``page`` writes it up."""
    return importlib.import_module(f"paper.{part}")


def write(plan: Plan) -> Path:
    """Draws and writes what is in the JSON files of the plan's folder."""
    sections = [_section(part, plan.out) for part in PARTS if (plan.out / f"{part}.json").exists()]
    path = plan.out / "README.md"
    path.write_text("\n".join([_head(plan), *sections]))
    return path


def _section(part: str, out: Path) -> str:
    found: dict[str, Any] = json.loads((out / f"{part}.json").read_text())
    module(part).figure(found, out / f"{part}.png")
    title, text = module(part).page(found).split("\n\n", 1)
    return f"{title}\n\n![{title.lstrip('# ')}]({part}.png)\n\n{text}"


def _head(plan: Plan) -> str:
    return f"""# Callahan & Paskett (2021) on {DATASETS[plan.dataset]}

Written, with its figures, by

    {command(plan)}

from the numbers in the JSON files beside it; [the page above](..) says what they mean. Nats
throughout.
"""


def command(plan: Plan) -> str:
    """What writes the same page again, given the same data."""
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
