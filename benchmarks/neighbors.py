"""Measures from where on tiles beat KD-trees: microseconds per point of each, by n and d.

python benchmarks/neighbors.py
"""

from __future__ import annotations

import statistics
import time

import torch

from infoprobe.neighbors import tiles
from infoprobe.neighbors.points import METRICS, Points
from infoprobe.neighbors.trees import Tree

K = 3
ROUNDS = 3
DIMENSIONS = (2, 4, 6, 7, 8, 10, 12, 14)


def main() -> None:
    """Prints a table for each metric, with the times of trees and tiles."""
    torch.set_num_threads(1)
    for metric in METRICS:
        print(f"{metric}, tree / tiles\n{'n':>8}" + "".join(f"{f'd={d}':>14}" for d in DIMENSIONS))
        for n in (500, 2_000, 10_000, 30_000):
            cells = []
            for d in DIMENSIONS:
                x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
                points = Points([x], metric)
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(ROUNDS):
                    start = time.process_time()
                    Tree(points).search(points, K)
                    middle = time.process_time()
                    tiles.search(points, points, K)
                    times[0].append(middle - start)
                    times[1].append(time.process_time() - middle)
                tree, brute = (1e6 * statistics.median(own) / n for own in times)
                cells.append(f"{f'{tree:.1f} / {brute:.1f}':>14}")
            print(f"{n:>8}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
