"""Medians of interleaved runs, as ratios to the first contender."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def ratios(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Process time of each contender, relative to the first one's.

    All take turns in every round, so that a machine that slows down slows all of them; the ratio
    is the median over the rounds. The first round warms up and does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            if round_:
                times[name].append(time.process_time() - start)
    first = next(iter(times.values()))
    return {
        name: statistics.median(t / base for t, base in zip(own, first, strict=True))
        for name, own in times.items()
    }


def table(title: str, columns: dict[str, dict[str, float]]) -> str:
    """Ratios as text: a line a contender, a column a case."""
    names = list(next(iter(columns.values())))
    lines = [f"{title:48}" + "".join(f"{case:>16}" for case in columns)]
    lines += [f"{n:48}" + "".join(f"{c[n]:16.2f}" for c in columns.values()) for n in names]
    return "\n".join(lines)
