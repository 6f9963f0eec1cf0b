"""Estimates where the truth is known and an estimator fails: is the number right, or does it say?

pip install -e .
python benchmarks/trust_cases.py --out docs/trust/cases.json

A case is told if a finding comes with the value, or if the estimator refuses the data; it is right
if the value is within 0.1 nats and three standard errors of the truth; the row of a probe, if it
is within 0.03 nats, 5 % and three standard errors. What is neither is silent. The clean cases
must be quiet: of 30 draws, at most one with a finding.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from trust_bins import BINS
from trust_clean import CLEAN
from trust_copies import COPIES
from trust_data import Case
from trust_entropies import ENTROPIES
from trust_features import FEATURES
from trust_information import INFORMATION
from trust_parts import PARTS
from trust_rows import CLEAN_ROWS, ROWS, RowCase

from infoprobe.estimators.protocols import estimate
from infoprobe.findings import code_of
from infoprobe.trust.choose import choose

HARD = [*INFORMATION, *ENTROPIES, *BINS, *COPIES, *FEATURES, *PARTS, *ROWS]
DRAWS = 30


class Measured(NamedTuple):
    """What was measured: the value, if any, its error, the codes of findings, and the slack."""

    value: float | None
    stderr: float | None
    codes: list[str]
    refused: str
    slack: float


def measured(case: Case | RowCase, seed: int = 0) -> dict[str, Any]:
    """Makes one estimate, or one row, with the codes of what is found on it."""
    start = time.process_time()
    of = _of_row if isinstance(case, RowCase) else _of_estimate
    value, stderr, codes, refused, slack = of(case, torch.Generator().manual_seed(seed))
    seconds = round(time.process_time() - start, 2)
    if value is None:
        return {"value": None, "refused": refused, "verdict": "told", "codes": codes}
    apart = 0.0 if value == case.truth else abs(value - case.truth)
    verdict = "right" if apart <= slack + 3 * (stderr or 0.0) else "told" if codes else "SILENT"
    return {
        "value": value,
        "stderr": stderr,
        "verdict": verdict,
        "codes": codes,
        "seconds": seconds,
    }


def _of_estimate(case: Any, generator: torch.Generator) -> Measured:
    tensors = case.draw(generator)
    try:
        estimator = case.estimator or choose(case.measure, *tensors).estimator
        found = estimate(estimator, case.measure, *tensors)
    except ValueError as error:
        return Measured(None, None, ["refused"], str(error), 0.0)
    stderr = None if found.stderr is None else float(found.stderr)
    codes = [finding.code for finding in found.findings]
    return Measured(float(found.value), stderr, codes, "", 0.1)


def _of_row(case: Any, generator: torch.Generator) -> Measured:
    row = case.row(generator)
    codes = [code_of(finding) or "note" for finding in row["findings"]]
    refused = "" if row["value"] is not None else " ".join(row["findings"])
    slack = 0.03 + 0.05 * (abs(case.truth) if math.isfinite(case.truth) else 0.0)
    return Measured(row["value"], row["stderr"], codes, refused, slack)


def hard(case: Case | RowCase) -> dict[str, Any]:
    row = measured(case)
    about = {"kind": case.kind, "case": case.name, "truth": case.truth}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return {**about, **rounded}


def clean(case: Case | RowCase, draws: int) -> dict[str, Any]:
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
    makers: dict[str, tuple[list[Any], Callable[[Any], dict[str, Any]]]] = {
        "hard": (HARD, hard),
        "clean": ([*CLEAN, *CLEAN_ROWS], lambda case: clean(case, arguments.draws)),
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
