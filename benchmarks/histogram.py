"""Measures the cost of a histogram entropy, relative to the sum of the same values.

The sum reads the memory once. Every estimator counts twice: with compiled kernels, for which numba
must be installed, and with torch alone. ``estimate`` counts 32 random groups of samples apart.

python benchmarks/histogram.py --out docs/benchmarks/histogram.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import scipy.stats
import torch
from timing import about, ratios, table, write
from torch import Tensor

import infoprobe as ip
from infoprobe.estimators.histogram import compiled

BINS = 256
N = 10_000_000
# The samples of ``estimate`` have so many values.
WIDTH = 100


def histc(x: Tensor) -> float:
    low, high = x.aminmax()
    counts = torch.histc(x, BINS, low.item(), high.item())
    return float(scipy.stats.entropy(counts.numpy()))


def torch_histogram(x: Tensor) -> float:
    return float(scipy.stats.entropy(torch.histogram(x, BINS).hist.numpy()))


def numpy_histogram(x: Tensor) -> float:
    return float(scipy.stats.entropy(np.histogram(x.numpy(), BINS)[0]))


def ours(x: Tensor) -> dict[str, Callable[[], object]]:
    low, high = float(x.min()) - 0.1, float(x.max()) + 0.1
    estimators = {
        "Histogram()": ip.Histogram(BINS),
        "Histogram(range=(low, high))": ip.Histogram(BINS, (low, high)),
        'Histogram(range="minmax")': ip.Histogram(BINS, "minmax"),
        'Histogram(range="own")': ip.Histogram(BINS, "own"),
    }
    found: dict[str, Callable[[], object]] = {}
    for name, estimator in estimators.items():
        found[name] = partial(estimator.entropy, x)
    samples, plain = x.view(-1, WIDTH), estimators["Histogram()"]
    found["Histogram().estimate"] = lambda: plain.estimate("entropy", samples)
    found["Histogram().count_blocks"] = lambda: plain.count_blocks(samples, 32)
    return found


def without_kernels(run: Callable[[], object]) -> object:
    with mock.patch.object(compiled, "_loaded", return_value=None):
        return run()


def contenders(x: Tensor) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {"x.sum()": lambda: x.sum()}
    found["x.aminmax()"] = lambda: x.aminmax()
    for name, run in ours(x).items():
        found[f"ip.{name}"] = run
    for name, run in ours(x).items():
        found[f"ip.{name}, torch alone"] = partial(without_kernels, run)
    found["torch.histc (float32 counts)"] = lambda: histc(x.float())
    if x.dtype == torch.float32:
        found["numpy.histogram"] = lambda: numpy_histogram(x)
        found["torch.histogram (float32 counts)"] = lambda: torch_histogram(x)
    return found


def main() -> None:
    """Prints the ratios, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(N, generator=generator)
    cases = {
        "Gaussian": gaussian,
        "after ReLU": gaussian.relu(),
        "bfloat16": gaussian.bfloat16(),
        "float64": gaussian.double(),
    }
    with mock.patch.object(compiled, "_ENOUGH", 0):
        if compiled._loaded() is None:
            raise SystemExit("numba is not installed: pip install 'infoprobe[fast]'.")
        columns = {name: ratios(contenders(x), arguments.rounds) for name, x in cases.items()}
    print(table(f"{N:,} values, {BINS} bins, 1 thread", columns))
    write(arguments.out, {"about": about(1), "values": N, "bins": BINS, "ratios": columns})


if __name__ == "__main__":
    main()
