"""Measures time and memory at 100,000 samples: atoms, copies, ties and redundant features.

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


def zeros(g: Generator, d: int, each: bool) -> Tensor:
    """Draws normal features of which four fifths are zero: each by itself, or all at once."""
    return normal(g, d) * (torch.rand(N, d if each else 1, generator=g) < 0.2)


def integers(g: Generator, levels: int, d: int) -> Tensor:
    return torch.randint(levels, (N, d), generator=g).float()


def clusters(g: Generator) -> Pair:
    labels = torch.randint(10, (N,), generator=g)
    return normal(g, 8) + labels.unsqueeze(1), labels


def near_copies(g: Generator) -> Pair:
    return normal(g, 5, N // 2).repeat(2, 1) + 1e-7 * normal(g, 5), normal(g, 5)


def rotated_axes(g: Generator) -> Pair:
    rotation = torch.linalg.qr(normal(g, 50, 50)).Q
    return torch.eye(50)[torch.randint(50, (N,), generator=g)] @ rotation, normal(g, 1)


DATA: dict[str, Callable[[Generator], Pair]] = {
    "normal, 2 and 2 features": lambda g: (normal(g, 2), normal(g, 2)),
    "normal, 20 and 3 features": lambda g: (normal(g, 20), normal(g, 3)),
    "80 % of rows zero, 2 features": lambda g: (zeros(g, 2, each=False), normal(g, 2)),
    "80 % of values zero, 20 features": lambda g: (zeros(g, 20, each=True), normal(g, 3)),
    "rectified, 30 features": lambda g: (normal(g, 30).relu(), normal(g, 1)),
    "each row twice, 10 features": lambda g: (
        normal(g, 10, N // 2).repeat(2, 1),
        normal(g, 10, N // 2).repeat(2, 1),
    ),
    "near copies, 5 features": near_copies,
    "one of 100": lambda g: (torch.eye(100)[torch.randint(100, (N,), generator=g)], normal(g, 2)),
    "5 levels, 10 features": lambda g: (integers(g, 5, 10), integers(g, 5, 2)),
    "a grid in 2 dimensions": lambda g: (
        torch.cartesian_prod(torch.arange(400.0), torch.arange(250.0)),
        normal(g, 1),
    ),
    "on a sphere, 40 features": lambda g: (
        torch.nn.functional.normalize(normal(g, 40)),
        normal(g, 1),
    ),
    "3 dimensions in 30": lambda g: (normal(g, 3) @ normal(g, 30, 3), normal(g, 1)),
    "Cauchy, 3 features": lambda g: (normal(g, 3) / normal(g, 1), normal(g, 3) / normal(g, 1)),
    "10 labels, 8 features": clusters,
    "a constant beside a feature": lambda g: (
        torch.cat([normal(g, 1), torch.ones(N, 1)], 1),
        normal(g, 1),
    ),
    "50 points": rotated_axes,
}

CALLS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "mutual_information(x, y)": ip.mutual_information,
    "diagnose(x, y)": ip.diagnose,
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
