"""Measures the cost of a histogram entropy, relative to the sum of the same values.

The sum reads the memory once.

python benchmarks/histogram.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.stats
import torch
from timing import ratios, table
from torch import Tensor

import infoprobe as ip

BINS = 256
N = 10_000_000


def histc(x: Tensor) -> float:
    low, high = x.aminmax()
    counts = torch.histc(x, BINS, low.item(), high.item())
    return float(scipy.stats.entropy(counts.numpy()))


def torch_histogram(x: Tensor) -> float:
    return float(scipy.stats.entropy(torch.histogram(x, BINS).hist.numpy()))


def numpy_histogram(x: Tensor) -> float:
    return float(scipy.stats.entropy(np.histogram(x.numpy(), BINS)[0]))


def contenders(x: Tensor) -> dict[str, Callable[[], object]]:
    dyadic, shared = ip.Histogram(BINS), ip.Histogram(BINS, range="minmax")
    return {
        "x.sum()": lambda: x.sum(),
        "x.aminmax()": lambda: x.aminmax(),
        "ip.Histogram()": lambda: dyadic.entropy(x),
        'ip.Histogram(range="minmax")': lambda: shared.entropy(x),
        "torch.histc (float32 counts)": lambda: histc(x),
        "numpy.histogram": lambda: numpy_histogram(x),
        "torch.histogram (float32 counts)": lambda: torch_histogram(x),
    }


def main() -> None:
    """Prints the ratios."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(N, generator=generator)
    cases = {"Gaussian": gaussian, "after ReLU": gaussian.relu()}
    columns = {name: ratios(contenders(x), rounds=7) for name, x in cases.items()}
    print(table(f"{N:,} float32, {BINS} bins, 1 thread", columns))


if __name__ == "__main__":
    main()
