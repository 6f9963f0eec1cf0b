"""Measures the errors of differential estimates where the truth is known, in nats.

pip install -e ".[benchmarks,plot]"
python benchmarks/accuracy.py --out docs/benchmarks/accuracy.json --figure docs/transport/error.png

An interrupted run continues where it was: what is in the file is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from couplings import Couplings
from torch import Tensor

import infoprobe as ip

N = 10_000
GAUSSIAN = math.log(2 * math.pi * math.e) / 2

Sample = tuple[tuple[Tensor, ...], float]


def gaussian(d: int, generator: torch.Generator) -> Sample:
    return (torch.randn(N, d, generator=generator),), d * GAUSSIAN


def autoregressive(d: int, generator: torch.Generator) -> Sample:
    """Draws Gaussians whose coordinates are each correlated by 0.9 with the one before."""
    ((x,), _) = gaussian(d, generator)
    for i in range(1, d):
        x[:, i] = 0.9 * x[:, i - 1] + math.sqrt(0.19) * x[:, i]
    return (x,), d * GAUSSIAN + (d - 1) / 2 * math.log(0.19)


def laplace(d: int, generator: torch.Generator) -> Sample:
    sign = torch.randint(0, 2, (N, d), generator=generator) * 2 - 1
    x = sign * torch.empty(N, d).exponential_(generator=generator)
    return (x,), d * (1 + math.log(2))


def rotated(x: Tensor, generator: torch.Generator) -> Tensor:
    rotation, _ = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator))
    turned: Tensor = x @ rotation
    return turned


def rotated_laplace(d: int, generator: torch.Generator) -> Sample:
    ((x,), truth) = laplace(d, generator)
    return (rotated(x, generator),), truth


def mixture(d: int, generator: torch.Generator) -> Sample:
    """Draws from four unit Gaussians around centres from N(0, 9 I); the truth is the sample's."""
    centres = 3 * torch.randn(4, d, generator=generator)
    x = torch.randn(N, d, generator=generator)
    x += centres[torch.randint(0, 4, (N,), generator=generator)]
    logs = [-(x - c).double().square().sum(1) / 2 for c in centres]
    density = torch.logsumexp(torch.stack(logs), 0) - math.log(4) - d / 2 * math.log(2 * math.pi)
    return (x,), -float(density.mean())


def banana(d: int, generator: torch.Generator) -> Sample:
    """Draws Gaussians and shifts every second coordinate by the square of the one before."""
    ((x,), truth) = gaussian(d, generator)
    x[:, 1::2] += x[:, 0::2] ** 2
    return (x,), truth


def rotated_banana(d: int, generator: torch.Generator) -> Sample:
    ((x,), truth) = banana(d, generator)
    return (rotated(x, generator),), truth


def correlated(d: int, generator: torch.Generator) -> Sample:
    """Draws two variables of d / 2 dimensions, each pair of coordinates correlated by 0.6."""
    x, noise = torch.randn(2, N, d // 2, generator=generator)
    return (x, 0.6 * x + 0.8 * noise), -d / 4 * math.log(1 - 0.6**2)


def correlated_bent(d: int, generator: torch.Generator) -> Sample:
    """Bends the coordinates of the correlated variables, which keeps their information."""
    ((x, y), truth) = correlated(d, generator)
    return (x**3, y.asinh()), truth


def scaled(d: int, generator: torch.Generator) -> Sample:
    """Draws from two Gaussians, the second 1.5 times as wide."""
    p, q = torch.randn(2, N, d, generator=generator)
    return (p, 1.5 * q), d / 2 * (1 / 1.5**2 - 1 + math.log(1.5**2))


def mnist(d: int, generator: torch.Generator, root: Path | None = None) -> Sample:
    """Returns dequantised training images, whose entropy nobody knows."""
    images, _ = ip.datasets.load("mnist", root=root)
    order = torch.randperm(len(images), generator=generator)[:N]
    return (ip.dequantize(images[order], generator=generator).flatten(1),), math.nan


def infomeasure(measure: str, *tensors: Tensor) -> float:
    import infomeasure as im

    name = {"entropy": "entropy", "kl_divergence": "kld"}.get(measure, "mutual_information")
    approach = {"entropy": "metric", "kld": "metric"}.get(name, "ksg")
    norm = {} if approach == "ksg" else {"minkowski_p": 2}
    function = getattr(im, name)
    arrays = [x.numpy() for x in tensors]
    return float(function(*arrays, approach=approach, k=3, noise_level=0, **norm))


def npeet_plus(measure: str, *tensors: Tensor) -> float:
    import npeet_plus as npeet

    arrays = [x.numpy() for x in tensors]
    function = npeet.mi if len(arrays) == 2 else npeet.entropy
    return float(function(*arrays, k=3, base=math.e))


ESTIMATORS: dict[str, Any] = {
    "KNN()": ip.KNN(),
    "KNN(calibration='gaussian')": ip.KNN(calibration="gaussian"),
    "KNN(calibration='copula')": ip.KNN(calibration="copula"),
    "Gaussian()": ip.Gaussian(),
    "Critic('dv')": ip.Critic("dv"),
    "Gaussianization()": ip.Gaussianization(),
    "Flow()": ip.Flow(),
    "FrEIA couplings": Couplings(),
}
PEERS: dict[str, Callable[..., float]] = {"infomeasure": infomeasure, "NPEET-plus": npeet_plus}
TRANSPORTS = ("Gaussianization()", "Flow()", "FrEIA couplings")
# For images: in 784 dimensions, independent components and all steps of a flow take too long.
OF_IMAGES: dict[str, Any] = {
    "Gaussianization('identity')": ip.Gaussianization("identity"),
    "Flow(seconds=100)": ip.Flow(seconds=100),
}


@dataclass(frozen=True)
class Case:
    """A measure, data of some dimensions, and the error that transports should not exceed."""

    measure: str
    name: str
    make: Callable[[int, torch.Generator], Sample]
    d: int
    goal: float | None = None

    def estimators(self) -> list[str]:
        """Returns the names of the estimators that can measure it in reasonable time."""
        names = {
            "entropy": [name for name in ESTIMATORS if name != "Critic('dv')"],
            "mutual_information": list(ESTIMATORS),
            "kl_divergence": [name for name in ESTIMATORS if "copula" not in name],
        }[self.measure]
        if self.measure != "entropy" or self.d != 20:
            names.remove("FrEIA couplings")
        if self.d > 100:
            return [name for name in names if name not in TRANSPORTS]
        peers = [name for name in PEERS if self.measure != "kl_divergence" or "NPEET" not in name]
        return names + peers


GOALS = {
    ("laplace", 20): 0.1,
    ("laplace", 100): 0.5,
    ("mixture", 20): 0.3,
    ("banana", 20): 0.4,
    ("banana", 100): 6.0,
    ("rotated_banana", 20): 0.6,
    ("correlated", 20): 0.1,
    ("correlated_bent", 20): 0.15,
    ("scaled", 20): 0.1,
}
DATA: list[tuple[str, Callable[[int, torch.Generator], Sample], tuple[int, ...]]] = [
    ("entropy", gaussian, (2, 20, 784)),
    ("entropy", autoregressive, (20, 784)),
    ("entropy", laplace, (2, 10, 20, 50, 100, 784)),
    ("entropy", rotated_laplace, (20,)),
    ("entropy", mixture, (20,)),
    ("entropy", banana, (2, 10, 20, 50, 100)),
    ("entropy", rotated_banana, (20,)),
    ("mutual_information", correlated, (2, 10, 20, 40)),
    ("mutual_information", correlated_bent, (20,)),
    ("kl_divergence", scaled, (2, 10, 20, 50)),
]
CASES = [
    Case(measure, make.__name__, make, d, GOALS.get((make.__name__, d)))
    for measure, make, dimensions in DATA
    for d in dimensions
]

Job = tuple[Case, str, int]


def measure(job: Job) -> dict[str, Any]:
    """Makes one estimate, in its own process with a single thread."""
    torch.set_num_threads(1)
    case, name, seed = job
    tensors, truth = case.make(case.d, torch.Generator().manual_seed(seed))
    start = time.process_time()
    row: dict[str, Any] = {}
    if name in PEERS:
        value = PEERS[name](case.measure, *tensors)
    elif name in TRANSPORTS or name in OF_IMAGES:
        report = (ESTIMATORS | OF_IMAGES)[name].report(case.measure, *tensors)
        value = float(report.value)
        if case.measure == "entropy":
            carried = report.transported["x"]
            row["bound"] = float(carried.bound.value)
            row["bound_stderr"] = float(carried.bound.stderr)
            row["negentropy"] = carried.negentropy
        row["findings"] = len(report.findings)
    else:
        value = float(getattr(ESTIMATORS[name], case.measure)(*tensors))
    seconds = time.process_time() - start
    about = {"measure": case.measure, "data": case.name, "d": case.d, "n": N}
    about |= {"estimator": name, "seed": seed, "truth": truth, "value": value}
    return {**about, **row, "seconds": round(seconds, 2)}


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Returns what a row is about, which identifies it."""
    return row["data"], row["d"], row["estimator"], row["seed"]


def jobs(cases: Iterable[Case], seeds: int) -> list[Job]:
    """Returns the estimates to make; flows without a goal take a minute and so have one seed."""
    return [
        (case, name, seed)
        for case in cases
        for name in case.estimators()
        for seed in range(
            1 if name == "FrEIA couplings" or (name == "Flow()" and case.goal is None) else seeds
        )
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Returns mean errors by data and estimator, their median magnitude, and verdicts on goals."""
    lines = []
    for case in CASES:
        own = [row for row in rows if (row["data"], row["d"]) == (case.name, case.d)]
        for name in case.estimators():
            of_one = [row for row in own if row["estimator"] == name]
            if of_one:
                errors = [row["value"] - row["truth"] for row in of_one]
                middle = statistics.median(map(abs, errors))
                seconds = statistics.median(row["seconds"] for row in of_one)
                verdict = ""
                if case.goal is not None and name in ("Gaussianization()", "Flow()"):
                    verdict = f"goal {case.goal}: {'met' if middle <= case.goal else 'missed'}"
                lines.append(
                    f"{case.name:16} d={case.d:<4} {name:28} {statistics.mean(errors):+8.3f}  "
                    f"|{middle:.3f}|  {seconds:6.1f} s  {len(errors)} seeds  {verdict}"
                )
    return "\n".join(lines)


def entropies(rows: list[dict[str, Any]]) -> str:
    """Returns the mean errors of entropies as a table of docs/benchmarks/README.md."""
    names = [
        "KNN()",
        *(f"KNN(calibration='{name}')" for name in ("gaussian", "copula")),
        *("Gaussian()", "Gaussianization()", "Flow()"),
    ]
    lines = [["data", "d", *(f"`{name}`" for name in names)], ["---"] * (2 + len(names))]
    for case in CASES:
        own = [row for row in rows if (row["data"], row["d"]) == (case.name, case.d)]
        if case.measure != "entropy" or case.d not in (2, 20, 100, 784):
            continue
        cells = []
        for name in names:
            errors = [row["value"] - row["truth"] for row in own if row["estimator"] == name]
            cells.append(f"{statistics.mean(errors):+.2f}" if errors else "")
        lines.append([case.name.replace("_", " "), str(case.d), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# What the figure shows, with a marker and a colour that colour-blind people tell apart: the peers'
# lines would coincide with that of KNN().
SHOWN = {
    "KNN()": ("s", "#000000"),
    "KNN(calibration='gaussian')": ("^", "#e69f00"),
    "KNN(calibration='copula')": ("v", "#0072b2"),
    "Critic('dv')": ("D", "#56b4e9"),
    "Gaussianization()": ("o", "#009e73"),
    "Flow()": ("P", "#cc79a7"),
}

# Up to this error, in nats, the scale of the figure is linear, and beyond it logarithmic.
LINEAR = 0.1


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the errors with their signs: the median and the range of the seeds."""
    import matplotlib.pyplot as plt

    panels = {
        "laplace": "entropy: independent Laplace",
        "banana": "entropy: banana",
        "correlated": "mutual information: correlated Gaussians",
        "scaled": "KL divergence: Gaussians, 1 and 1.5 wide",
    }
    grid, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    shown: dict[str, Any] = {}
    for ax, (data, title) in zip(axes.flat, panels.items(), strict=True):
        own = [row for row in rows if row["data"] == data]
        ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.7)
        ax.margins(y=0.08)
        dimensions = sorted({row["d"] for row in own})
        here = [name for name in SHOWN if any(row["estimator"] == name for row in own)]
        for i, name in enumerate(here):
            errors: dict[int, list[float]] = {}
            for row in own:
                if row["estimator"] == name:
                    errors.setdefault(row["d"], []).append(row["value"] - row["truth"])
            known = [d for d in dimensions if d in errors]
            middle = [statistics.median(errors[d]) for d in known]
            low = [m - min(errors[d]) for d, m in zip(known, middle, strict=True)]
            high = [max(errors[d]) - m for d, m in zip(known, middle, strict=True)]
            marker, colour = SHOWN[name]
            beside = (i - (len(here) - 1) / 2) * 0.12  # side by side, so that none hides another
            shown[name] = ax.errorbar(
                [dimensions.index(d) + beside for d in known],
                middle,
                (low, high),
                marker=marker,
                color=colour,
                linestyle="none",
                capsize=2,
            )
        ax.axhspan(-LINEAR, LINEAR, color="0.93", zorder=0)
        ax.axhline(0, color="0.4", linewidth=0.8)
        ticks = [x for x in (-10, -1, -0.1, 0, 0.1, 1, 10, 100) if _within(x, ax.get_ylim())]
        ax.set_yticks(ticks, [f"{x:+g}".replace("-", "−") if x else "0" for x in ticks])
        ax.set_yticks([], minor=True)
        ax.set(title=title, xlabel="dimensions", ylabel="error (nats)")
        ax.set_xticks(range(len(dimensions)), map(str, dimensions))
        ax.grid(axis="y", alpha=0.3)
    grid.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.savefig(path, dpi=130)


def _within(x: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= x <= limits[1]


def main() -> None:
    """Measures what is missing, and prints, writes and draws everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="only the data whose name contains this")
    parser.add_argument(
        "--data-root", type=Path, help="folder of MNIST, which is measured if given"
    )
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.out and arguments.out.exists():
        rows = json.loads(arguments.out.read_text())
    done = set(map(key, rows))
    wanted = jobs((case for case in CASES if arguments.only in case.name), arguments.seeds)
    if arguments.data_root:
        images = Case("entropy", "mnist", functools.partial(mnist, root=arguments.data_root), 784)
        wanted += [(images, name, 0) for name in OF_IMAGES]
    missing = [job for job in wanted if (job[0].name, job[0].d, job[1], job[2]) not in done]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, context) as pool:
        for future in as_completed([pool.submit(measure, job) for job in missing]):
            rows.append(future.result())
            print(rows[-1], flush=True)
            if arguments.out:
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                content = ",\n ".join(json.dumps(row) for row in sorted(rows, key=key))
                arguments.out.write_text(f"[{content}]\n")
    print(table(rows))
    print(entropies(rows))
    if arguments.figure:
        figure(rows, arguments.figure)


if __name__ == "__main__":
    main()
