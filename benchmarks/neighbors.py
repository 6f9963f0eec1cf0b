"""Measures searches for nearest neighbours: trees and tiles, peers, and data with many ties.

python benchmarks/neighbors.py --out docs/benchmarks/neighbors.json

The parts can be run alone: ``--only engines``, ``peers``, ``ties`` or ``large``. Times are process
times, but for those of two threads, which are times on the wall.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from timing import about, ratios, table, write
from torch import Tensor

import infoprobe as ip
from infoprobe.neighbors import nearest_neighbors, tiles
from infoprobe.neighbors.points import METRICS, Points
from infoprobe.neighbors.trees import Tree

K = 3
ROUNDS = 3
DIMENSIONS = (2, 4, 6, 7, 8, 10, 12, 14)


def normal(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    run()
    return clock() - start


def _by_tree(points: Points) -> object:
    return Tree(points).search(points, K)


def _by_peer(array: npt.NDArray[np.float64]) -> object:
    return cKDTree(array).query(array, K + 1)


def engines() -> dict[str, object]:
    """Microseconds per point of trees and tiles, by metric, n and d."""
    found: dict[str, object] = {}
    for metric in METRICS:
        print(f"{metric}, tree / tiles\n{'n':>8}" + "".join(f"{f'd={d}':>14}" for d in DIMENSIONS))
        for n in (500, 2_000, 10_000, 30_000):
            cells = []
            for d in DIMENSIONS:
                points = Points([normal(n, d)], metric)
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(ROUNDS):
                    times[0].append(seconds(partial(_by_tree, points)))
                    times[1].append(seconds(partial(tiles.search, points, points, K)))
                tree, brute = (1e6 * statistics.median(own) / n for own in times)
                found[f"{metric}, n={n}, d={d}"] = [tree, brute]
                cells.append(f"{f'{tree:.1f} / {brute:.1f}':>14}")
            print(f"{n:>8}" + "".join(cells), flush=True)
    return found


def peers() -> dict[str, object]:
    """Ratios to cKDTree's query, and to the product of all points with each other."""
    columns = {}
    for n in (10_000, 100_000):
        x = normal(n, 2)
        array = x.double().numpy()
        tree = cKDTree(array)
        runs: dict[str, Callable[[], object]] = {
            "cKDTree's query alone, or the product": partial(tree.query, array, K + 1),
            "cKDTree, built and queried": partial(_by_peer, array),
            "ip.nearest_neighbors": partial(nearest_neighbors, x, K),
        }
        columns[f"n={n}, d=2"] = ratios(runs, 7)
    x = normal(10_000, 784)
    runs = {
        "cKDTree's query alone, or the product": lambda: x @ x.T,
        "ip.nearest_neighbors": lambda: nearest_neighbors(x, K),
    }
    columns["n=10000, d=784"] = ratios(runs, 5)
    print(table("ratios, 1 thread", columns), flush=True)
    return {"ratios": columns}


def threads() -> dict[str, object]:
    """The ratio to the product of all points with each other, on the wall, of two threads."""
    x = normal(10_000, 784)
    torch.set_num_threads(2)
    walls = [
        [
            seconds(partial(torch.mm, x, x.T), time.perf_counter),
            seconds(partial(nearest_neighbors, x, K), time.perf_counter),
        ]
        for _ in range(6)
    ]
    torch.set_num_threads(1)
    two = statistics.median(search / product for product, search in walls[1:])
    print(f"two threads, on the wall, n=10,000, d=784: {two:.2f} of the product", flush=True)
    return {"n=10000, d=784": two}


def ties() -> dict[str, object]:
    """Seconds for data with atoms, copies and equal distances, and for as many normal samples."""
    generator = torch.Generator().manual_seed(1)

    def zeroed(n: int, d: int) -> Tensor:
        return normal(n, d) * (torch.rand(n, d, generator=generator) > 0.8)

    rotation = torch.linalg.qr(normal(2_000, 2_000))[0]
    cases = {
        "2,000 axes": torch.eye(2_000),
        "2,000 axes, rotated": rotation,
        "10,000 one-hot labels of 300": torch.eye(300)[torch.randint(300, (10_000,))],
        "10,000 samples of 40 bits": (torch.rand(10_000, 40, generator=generator) > 0.5).float(),
        "10,000 x 40 from five levels": torch.randint(5, (10_000, 40), generator=generator) / 10,
        "40,000 x 2, 80 % zeros": zeroed(40_000, 2),
        "10,000 x 30, 80 % zeros": zeroed(10_000, 30),
        "two groups of 50,000 equal points": normal(2, 3).repeat(50_000, 1),
        "10,000 x 30 of rank 3": normal(10_000, 3) @ normal(3, 30),
        "10,000 x 30, all twice": normal(5_000, 30).repeat(2, 1),
    }
    found: dict[str, object] = {}
    for name, x in cases.items():
        plain = normal(*x.shape)
        times = [
            [seconds(partial(nearest_neighbors, each, K)) for each in (x, plain)]
            for _ in range(ROUNDS)
        ]
        own, usual = (statistics.median(each) for each in zip(*times, strict=True))
        found[name] = {"seconds": own, "seconds of normal samples": usual}
        print(f"{name:40}{own:8.2f} s, normal samples {usual:8.2f} s", flush=True)
    x, y = zeroed(10_000, 2), zeroed(10_000, 2)
    found["information of 2 + 2, 80 % zeros"] = own = seconds(
        lambda: ip.KNN().mutual_information(x, y)
    )
    print(f"{'information of 2 + 2, 80 % zeros':40}{own:8.2f} s")
    return found


def large() -> dict[str, object]:
    """Seconds for 100,000 samples, and the peak of memory beyond the data."""
    import resource

    found: dict[str, object] = {}
    for d in (2, 20, 784):
        x = normal(100_000, d)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        own = seconds(partial(nearest_neighbors, x, K))
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
        found[f"n=100000, d={d}"] = {"seconds": own, "MiB": more}
        print(f"n=100,000, d={d}: {own:.1f} s, {more:,.0f} MiB more", flush=True)
    return found


PARTS: dict[str, Callable[[], dict[str, object]]] = {
    "peers": peers,
    "ties": ties,
    "threads": threads,
    "large": large,
    "engines": engines,
}


def main() -> None:
    """Prints and writes the results of all parts, or of some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(0)
    torch.manual_seed(0)
    found: dict[str, object] = {"about": about(1)}
    for name in arguments.only:
        found[name] = PARTS[name]()
        write(arguments.out, found)


if __name__ == "__main__":
    main()
