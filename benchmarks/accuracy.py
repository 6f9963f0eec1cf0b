"""How far nearest-neighbour entropies are off, with and without calibration, in nats.

python benchmarks/accuracy.py --out docs/benchmarks/accuracy.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import infoprobe as ip

N = 10_000
GAUSSIAN = math.log(2 * math.pi * math.e) / 2

ESTIMATORS: dict[str, Any] = {
    "KNN()": ip.KNN(),
    "KNN(calibration='gaussian')": ip.KNN(calibration="gaussian"),
    "KNN(calibration='copula')": ip.KNN(calibration="copula"),
    "Gaussian()": ip.Gaussian(),
}


def gaussian(d: int, generator: torch.Generator) -> tuple[Tensor, float]:
    return torch.randn(N, d, generator=generator), d * GAUSSIAN


def autoregressive(d: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Gaussian, each coordinate correlated by 0.9 with the one before."""
    x, _ = gaussian(d, generator)
    for i in range(1, d):
        x[:, i] = 0.9 * x[:, i - 1] + math.sqrt(0.19) * x[:, i]
    return x, d * GAUSSIAN + (d - 1) / 2 * math.log(0.19)


def laplace(d: int, generator: torch.Generator) -> tuple[Tensor, float]:
    sign = torch.randint(0, 2, (N, d), generator=generator) * 2 - 1
    return sign * torch.empty(N, d).exponential_(generator=generator), d * (1 + math.log(2))


def rotated_laplace(d: int, generator: torch.Generator) -> tuple[Tensor, float]:
    x, truth = laplace(d, generator)
    rotation, _ = torch.linalg.qr(torch.randn(d, d, generator=generator))
    return x @ rotation, truth


def mixture(d: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Four unit Gaussians around centres drawn from N(0, 9 I)."""
    centres = 3 * torch.randn(4, d, generator=generator)
    x = torch.randn(N, d, generator=generator)
    x += centres[torch.randint(0, 4, (N,), generator=generator)]
    logs = [-(x - c).double().square().sum(1) / 2 for c in centres]
    density = torch.logsumexp(torch.stack(logs), 0) - math.log(4) - d / 2 * math.log(2 * math.pi)
    return x, -float(density.mean())


def banana(d: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Every second coordinate is shifted by the square of the one before."""
    x, truth = gaussian(d, generator)
    x[:, 1::2] += x[:, 0::2] ** 2
    return x, truth


DATA: list[tuple[Callable[[int, torch.Generator], tuple[Tensor, float]], tuple[int, ...]]] = [
    (gaussian, (2, 20, 784)),
    (autoregressive, (20, 784)),
    (laplace, (20, 784)),
    (rotated_laplace, (20,)),
    (mixture, (20,)),
    (banana, (20,)),
]


def main() -> None:
    """Prints the mean errors and their spread over seeds, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dimensions", type=int, nargs="*", default=[2, 20, 784])
    arguments = parser.parse_args()
    rows = []
    for make, dimensions in DATA:
        for d in (d for d in dimensions if d in arguments.dimensions):
            samples = [make(d, torch.Generator().manual_seed(s)) for s in range(arguments.seeds)]
            row: dict[str, Any] = {"data": make.__name__, "d": d, "n": N}
            for name, estimator in ESTIMATORS.items():
                errors = [float(estimator.entropy(x)) - truth for x, truth in samples]
                row[name] = [statistics.mean(errors), statistics.pstdev(errors)]
            rows.append(row)
            cells = "  ".join(f"{name} {row[name][0]:+.2f}" for name in ESTIMATORS)
            print(f"{make.__name__:16} d={d:<4} {cells}", flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
