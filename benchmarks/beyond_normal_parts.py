"""Takes the errors of the default on Beyond Normal apart: where do they come from?

pip install -e .
python benchmarks/beyond_normal_parts.py --out docs/benchmarks/beyond_normal_parts.json

The error of ``KNN(calibration="copula")`` is that of neighbours alone, less that of neighbours on
surrogates, less what is extrapolated from how the estimate changes with k. Spirals are drawn with
several numbers of samples, and at the other speeds that a turn may have.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from beyond_normal_tasks import TASKS, Task, mapped, spiral, two_pairs

import infoprobe as ip

KNN, CALIBRATED = ip.KNN(), ip.KNN(calibration="copula", repeats=2)
# The tasks whose errors exceed 0.03 nats.
HARD = "Spiral", "Swiss", "additive"


def cases() -> Iterator[tuple[Task, int]]:
    """What is taken apart, and by how many samples."""
    for task in TASKS:
        if any(word in task.name for word in HARD):
            yield task, 10_000
    for d in (3, 5):
        task = two_pairs(d)
        slow = mapped(task, slower(0), slower(1), f"Spiral of half the speed @ {task.name}")
        still = mapped(task, torch.clone, torch.clone, f"No spiral @ {task.name}")
        yield from ((other, 10_000) for other in (slow, still))
        (turned,) = (other for other in TASKS if other.name == f"Spiral @ {task.name}")
        yield from ((turned, n) for n in (1_250, 2_500, 5_000, 20_000))


def slower(plane: int) -> Any:
    """The map of a spiral at half its speed."""
    turn = spiral(plane)

    def turned(x: torch.Tensor) -> torch.Tensor:
        # A turn's angle is the mean square, which is halved here.
        return turn(x / 2**0.5) * 2**0.5

    return turned


def taken_apart(task: Task, n: int, seeds: int) -> dict[str, Any]:
    """The means of the parts of an error over seeds, in nats."""
    rows = []
    for seed in range(seeds):
        x, y = task.draw(n, torch.Generator().manual_seed(seed))
        x, y = x.float(), y.float()
        neighbors = float(KNN.mutual_information(x, y)) - task.truth
        bias = CALIBRATED.bias("mutual_information", x, y)
        extrapolated = float(bias.extrapolated)
        rows.append(
            {
                "neighbors": neighbors,
                "surrogates": float(bias.value) - extrapolated,
                "extrapolated": extrapolated,
                "error": neighbors - float(bias.value),
            }
        )
    means = {part: round(statistics.fmean(row[part] for row in rows), 4) for part in rows[0]}
    return {"task": task.name, "n": n, "seeds": seeds, "truth": round(task.truth, 4), **means}


def main() -> None:
    """Prints the parts of each error, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for task, n in cases():
        rows.append(taken_apart(task, n, arguments.seeds))
        print(rows[-1], flush=True)
        if arguments.out:
            content = ",\n ".join(map(json.dumps, rows))
            arguments.out.write_text(f"[{content}]\n")


if __name__ == "__main__":
    main()
