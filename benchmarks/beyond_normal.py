"""Measures the errors of mutual information on the 40 tasks of Beyond Normal, in nats.

pip install -e ".[benchmarks]"
python benchmarks/beyond_normal.py --out docs/benchmarks/beyond_normal.json

An interrupted run continues where it was: what is in the file is not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from beyond_normal_tasks import TASKS, Task
from torch import Tensor

import infoprobe as ip

N = 10_000
GOAL = 0.03
DEFAULT = 'KNN(calibration="copula")'


def npeet(x: Tensor, y: Tensor) -> float:
    import npeet_plus

    return float(npeet_plus.mi(x.numpy(), y.numpy(), k=3, base=math.e))


def ennemi(x: Tensor, y: Tensor) -> float:
    if x.shape[1] > 1 or y.shape[1] > 1:
        return math.nan  # It takes single numbers only.
    import ennemi

    return float(ennemi.estimate_mi(y.numpy()[:, 0], x.numpy(), k=3).squeeze())


def sklearn(x: Tensor, y: Tensor) -> float:
    if x.shape[1] > 1 or y.shape[1] > 1:
        return math.nan  # It takes single numbers only.
    from sklearn.feature_selection import mutual_info_regression

    return float(mutual_info_regression(x.numpy(), y.numpy()[:, 0], random_state=0)[0])


def infomeasure(x: Tensor, y: Tensor) -> float:
    import infomeasure

    options = {"approach": "ksg", "k": 3, "noise_level": 0}
    return float(infomeasure.mutual_information(x.numpy(), y.numpy(), **options))


OURS: dict[str, Any] = {
    DEFAULT: ip.KNN(calibration="copula"),
    'KNN(calibration="gaussian")': ip.KNN(calibration="gaussian"),
    "KNN()": ip.KNN(),
    "Gaussian()": ip.Gaussian(),
    "Gaussianization()": ip.Gaussianization(),
    "Critic()": ip.Critic(),
}
PEERS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "npeet_plus": npeet,
    "infomeasure": infomeasure,
    "ennemi": ennemi,
    "scikit-learn": sklearn,
}


def measure(task: Task, name: str, seed: int) -> dict[str, Any]:
    """Makes one estimate; it is NaN where the estimator does not take such data."""
    x, y = task.draw(N, torch.Generator().manual_seed(seed))
    start = time.process_time()
    if name in PEERS:
        value = PEERS[name](x, y)
    else:
        value = float(OURS[name].mutual_information(x.float(), y.float()))
    seconds = round(time.process_time() - start, 2)
    about = {"task": task.name, "estimator": name, "seed": seed, "n": N, "truth": task.truth}
    return {**about, "value": value if math.isfinite(value) else None, "seconds": seconds}


def key(row: dict[str, Any]) -> tuple[str, str, int]:
    """Returns what a row is about, which identifies it."""
    return row["task"], row["estimator"], row["seed"]


def errors(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
    """Returns errors by estimator, task and seed, of those that were measured."""
    found: dict[str, dict[str, dict[int, float]]] = {name: {} for name in [*OURS, *PEERS]}
    for row in rows:
        if row["value"] is not None:
            of_task = found[row["estimator"]].setdefault(row["task"], {})
            of_task[row["seed"]] = row["value"] - row["truth"]
    return {name: of_tasks for name, of_tasks in found.items() if of_tasks}


def ahead(found: dict[str, dict[str, dict[int, float]]], name: str) -> str:
    """Returns on how many tasks one has less |error| than the default, and beyond chance.

    The difference of both is beyond chance if it is so by two standard errors, over seeds.
    """
    less = certain = 0
    for task, own in found[name].items():
        ours = found[DEFAULT][task]
        by = [abs(ours[seed]) - abs(own[seed]) for seed in ours.keys() & own.keys()]
        if len(by) > 1 and statistics.mean(by) > 0:
            less += 1
            certain += statistics.mean(by) > 2 * statistics.stdev(by) / math.sqrt(len(by))
    return f"{less} ({certain})"


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the errors of all estimators as a table in Markdown, and a summary below it."""
    of_seeds = errors(rows)
    found = {
        name: {task: statistics.mean(own.values()) for task, own in of_tasks.items()}
        for name, of_tasks in of_seeds.items()
    }
    lines = ["| task | truth | " + " | ".join(f"`{name}`" for name in found) + " |"]
    lines.append("|---|" + "---|" * (1 + len(found)))
    for task in TASKS:
        cells = [f"{own[task.name]:+.3f}" if task.name in own else "–" for own in found.values()]
        lines.append(f"| {task.name} | {task.truth:.3f} | " + " | ".join(cells) + " |")
    magnitudes = {
        name: [statistics.mean(map(abs, own.values())) for own in of_tasks.values()]
        for name, of_tasks in of_seeds.items()
    }
    seconds = {
        name: [row["seconds"] for row in rows if row["estimator"] == name and row["value"]]
        for name in found
    }
    for title, cells in (
        ("mean error, absolute", [f"{statistics.mean(m):.3f}" for m in magnitudes.values()]),
        ("largest error, absolute", [f"{max(m):.3f}" for m in magnitudes.values()]),
        ("tasks within 0.03", [str(sum(e <= GOAL for e in m)) for m in magnitudes.values()]),
        ("ahead of the default (beyond chance)", [ahead(of_seeds, name) for name in found]),
        ("tasks", [str(len(m)) for m in magnitudes.values()]),
        ("median CPU seconds", [f"{statistics.median(s):.2f}" for s in seconds.values()]),
        ("largest CPU seconds", [f"{max(s):.2f}" for s in seconds.values()]),
    ):
        lines.append(f"| **{title}** | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing, and prints and writes everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--estimators", nargs="*", default=[*OURS, *PEERS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if arguments.out and arguments.out.exists():
        rows = json.loads(arguments.out.read_text())
    done = set(map(key, rows))
    for name in arguments.estimators:
        for task in TASKS:
            for seed in range(arguments.seeds):
                if (task.name, name, seed) in done:
                    continue
                rows.append(measure(task, name, seed))
                print(rows[-1], flush=True)
                if arguments.out:
                    content = ",\n ".join(json.dumps(row) for row in sorted(rows, key=key))
                    arguments.out.write_text(f"[{content}]\n")
    print(table(rows))


if __name__ == "__main__":
    main()
