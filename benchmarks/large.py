"""Measures time and memory at 100,000 samples in few dimensions: atoms, copies, ties, tails.

python benchmarks/large.py --out docs/benchmarks/large.json

Each data set has a process of its own, so that its peak of memory is that of the calls on it. An
interrupted run continues where it was: what is in the file is not measured again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from timing import about
from torch import Generator, Tensor

import infoprobe as ip

N = 100_000
Pair = tuple[Tensor, Tensor]


def normal(g: Generator, d: int, n: int = N) -> Tensor:
    return torch.randn(n, d, generator=g)


def zeros(g: Generator, d: int) -> Tensor:
    """Draws rows of normal features, four fifths of which are zero."""
    return normal(g, d) * (torch.rand(N, 1, generator=g) < 0.2)


def clusters(g: Generator) -> Pair:
    labels = torch.randint(10, (N,), generator=g)
    return normal(g, 8) + labels.unsqueeze(1), labels


DATA: dict[str, Callable[[Generator], Pair]] = {
    "normal, 2 and 2 features": lambda g: (normal(g, 2), normal(g, 2)),
    "80 % of rows zero, 2 features": lambda g: (zeros(g, 2), normal(g, 2)),
    "a grid in 2 dimensions": lambda g: (
        torch.cartesian_prod(torch.arange(400.0), torch.arange(250.0)),
        normal(g, 1),
    ),
    "a constant beside a feature": lambda g: (
        torch.cat([normal(g, 1), torch.ones(N, 1)], 1),
        normal(g, 1),
    ),
    "10 labels, 8 features": clusters,
    "each row twice, 10 features": lambda g: (
        normal(g, 10, N // 2).repeat(2, 1),
        normal(g, 10, N // 2).repeat(2, 1),
    ),
    "Cauchy, 3 features": lambda g: (normal(g, 3) / normal(g, 1), normal(g, 3) / normal(g, 1)),
}

CALLS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "mutual_information(x, y)": ip.mutual_information,
    "entropy(x)": lambda x, _: ip.entropy(x),
    "entropy(x, KNN())": lambda x, _: ip.entropy(x, ip.KNN()),
}


def measure(name: str) -> list[dict[str, object]]:
    """Makes all calls on one data set, with the CPU seconds and the peak of memory so far."""
    warnings.simplefilter("ignore", ip.TrustWarning)
    torch.set_num_threads(1)
    x, y = DATA[name](torch.Generator().manual_seed(0))
    rows: list[dict[str, object]] = []
    for call, run in CALLS.items():
        start = time.process_time()
        try:
            came = str(run(x, y))
        except (TypeError, ValueError) as error:
            came = f"refused: {error}"
        seconds = round(time.process_time() - start, 1)
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        row = {"data": name, "call": call, "came": came, "seconds": seconds}
        rows.append({**row, "peak_mebibytes": mebibytes})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file that the rows go to")
    out = parser.parse_args().out
    rows = json.loads(out.read_text())["rows"] if out.exists() else []
    done = {row["data"] for row in rows}
    for name in DATA:
        if name in done:
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(measure, [name])
        rows += found
        out.write_text(json.dumps({**about(threads=1), "n": N, "rows": rows}, indent=1) + "\n")
        for row in found:
            print(*(f"{key}={value}" for key, value in row.items() if key != "came"), flush=True)


if __name__ == "__main__":
    main()
