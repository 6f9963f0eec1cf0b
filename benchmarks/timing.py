"""Medians of interleaved runs, as ratios to the first contender, and how results are written."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def ratios(
    contenders: dict[str, Callable[[], object]], rounds: int, twice: bool = False
) -> dict[str, float]:
    """Returns the process time of each contender as a ratio to that of the first one.

    All contenders take turns in each round, so that a machine that slows down slows all of them;
    the ratio is the median over the rounds. The first round is a warm-up and does not count. With
    ``twice``, each contender runs twice in its turn and the second run counts, so that none pays
    for the caches that another one left: short runs after a heavy contender are 10 to 15 percent
    slower.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            if twice:
                run()
            start = time.process_time()
            run()
            if round_:
                times[name].append(time.process_time() - start)
    first = next(iter(times.values()))
    return {
        name: statistics.median(t / base for t, base in zip(own, first, strict=True))
        for name, own in times.items()
    }


def about(threads: int) -> dict[str, object]:
    """Returns what the figures were measured with."""
    return {"threads": threads, "torch": torch.__version__, "processor": _processor()}


def _processor() -> str:
    details = Path("/proc/cpuinfo")  # on Linux, platform does not know the name
    lines = details.read_text().splitlines() if details.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(title: str, columns: dict[str, dict[str, float]]) -> str:
    """Returns ratios as text: a line for each contender, a column for each case.

    A "-" stands where a contender did not take part.
    """
    lines = [f"{title:48}" + "".join(f"{case:>18}" for case in columns)]
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = [f"{c[name]:.2f}" if name in c else "-" for c in columns.values()]
        lines.append(f"{name:48}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def write(path: Path | None, content: dict[str, object]) -> None:
    """Writes results as JSON, if there is a path to write them to."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
