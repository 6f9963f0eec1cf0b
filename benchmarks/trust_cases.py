"""Estimates where the truth is known and an estimator fails: is the number right, or does it say?

pip install -e .
python benchmarks/trust_cases.py --out docs/trust/cases.json

A case is told if a finding comes with the value, or if the estimator refuses the data; it is right
if the value is within 0.1 nats and three standard errors of the truth. What is
neither is silent. The clean cases must be quiet: of 30 draws, at most one with a finding.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from trust_bins import BINS
from trust_clean import CLEAN
from trust_copies import COPIES
from trust_data import Case
from trust_entropies import ENTROPIES
from trust_features import FEATURES
from trust_information import INFORMATION

from infoprobe.estimators.protocols import estimate
from infoprobe.trust.choose import choose

HARD = [*INFORMATION, *ENTROPIES, *BINS, *COPIES, *FEATURES]
DRAWS = 30


def measured(case: Case, seed: int = 0) -> dict[str, Any]:
    """Makes one estimate, with the codes of what is found on it."""
    tensors = case.draw(torch.Generator().manual_seed(seed))
    start = time.process_time()
    try:
        estimator = case.estimator or choose(case.measure, *tensors).estimator
        found = estimate(estimator, case.measure, *tensors)
    except ValueError as error:
        return {"value": None, "refused": str(error), "verdict": "told", "codes": ["refused"]}
    value = float(found.value)
    stderr = None if found.stderr is None else float(found.stderr)
    within = abs(value - case.truth) <= 0.1 + 3 * (stderr or 0.0) and math.isfinite(case.truth)
    codes = [finding.code for finding in found.findings]
    verdict = "right" if within else "told" if codes else "SILENT"
    seconds = round(time.process_time() - start, 2)
    return {
        "value": value,
        "stderr": stderr,
        "verdict": verdict,
        "codes": codes,
        "seconds": seconds,
    }


def hard(case: Case) -> dict[str, Any]:
    row = measured(case)
    about = {"kind": case.kind, "case": case.name, "truth": case.truth}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return {**about, **rounded}


def clean(case: Case, draws: int) -> dict[str, Any]:
    rows = [measured(case, seed) for seed in range(draws)]
    codes = sorted({code for row in rows for code in row["codes"]})
    found = sum(bool(row["codes"]) for row in rows)
    wrong = sum(row["verdict"] == "SILENT" for row in rows)
    return {"case": case.name, "draws": draws, "found": found, "wrong": wrong, "codes": codes}


def line(row: dict[str, Any]) -> str:
    if "draws" in row:
        return f"{row['case']:58} {row['found']:3} of {row['draws']} {' '.join(row['codes'])}"
    value = math.nan if row["value"] is None else row["value"]
    stderr = row.get("stderr")
    error = "" if stderr is None else f"± {stderr:.3f}"
    name = f"{row['kind']}: {row['case']}"
    return (
        f"{row['verdict']:6} {name:70.70} {row['truth']:9.3f} {value:9.3f} {error:8} "
        f"{' '.join(dict.fromkeys(row['codes']))} ({row.get('seconds', 0)} s)"
    )


def written(out: Path | None, found: dict[str, list[dict[str, Any]]]) -> None:
    """Writes what was found up to now."""
    if out:
        lists = [
            f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
            for name, rows in found.items()
        ]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("{" + ", ".join(lists) + "}\n")


def main() -> None:
    """Prints each case and a summary, and writes them; an interrupted run continues."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each clean case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {"hard": [], "clean": []}
    if arguments.out and arguments.out.exists():
        found = json.loads(arguments.out.read_text())
    makers: dict[str, tuple[list[Case], Callable[[Case], dict[str, Any]]]] = {
        "hard": (HARD, hard),
        "clean": (CLEAN, lambda case: clean(case, arguments.draws)),
    }
    for name, (cases, make) in makers.items():
        rows = found[name]
        done = {(row.get("kind", "clean"), row["case"]) for row in rows}
        for case in cases:
            if (case.kind, case.name) in done or arguments.only not in f"{case.kind}: {case.name}":
                continue
            rows.append(make(case))
            print(line(rows[-1]), flush=True)
            written(arguments.out, found)
    print(Counter(row["verdict"] for row in found["hard"]))


if __name__ == "__main__":
    main()
