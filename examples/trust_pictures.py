"""Draws the figures of docs/trust.md: estimates beside truths that are known.

    python examples/trust_pictures.py
    python examples/trust_pictures.py --only layers --out figures

Each figure is made from data with seeds of its own; the coverage of intervals is read from
docs/benchmarks/coverage.json, which benchmarks/covering.py writes. All figures take about five
minutes on one core.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from command_line import parser_for
from drawing import tidy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import infoprobe as ip

ROOT = Path(__file__).parents[1]
TRUTH: dict[str, Any] = {
    "color": "black",
    "linestyle": "--",
    "linewidth": 1,
    "label": "truth",
    "zorder": 1,
}
SEEDS = range(3)
BINNED = ip.Histogram(bins=8, over="samples")


def main(arguments: list[str] | None = None) -> None:
    """Draws the figures that the command line asks for."""
    parser = parser_for(__doc__)
    parser.add_argument("--only", choices=FIGURES, help="the one figure to draw")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "trust", help="folder")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        if options.only in (None, name):
            figure = draw()
            figure.savefig(options.out / f"{name}.png", dpi=100)
            pyplot.close(figure)
            print(f"{name}.png")


def generator(seed: int) -> torch.Generator:
    """A generator of its own for each data set."""
    return torch.Generator().manual_seed(seed)


def gaussian_pair(n: int, d: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    """Two variables of d features, each feature correlated with its partner."""
    x, noise = torch.randn(2, n, d, dtype=torch.float64, generator=generator(seed))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def curve(
    ax: Axes, xs: Sequence[float], estimate: Callable[[float, int], float], **style: Any
) -> None:
    """Draws the mean of an estimate over the seeds, with the range of the seeds as a bar."""
    values = [[estimate(x, seed) for seed in SEEDS] for x in xs]
    means = [statistics.fmean(each) for each in values]
    below = [mean - min(each) for mean, each in zip(means, values, strict=True)]
    above = [max(each) - mean for mean, each in zip(means, values, strict=True)]
    ax.errorbar(xs, means, [below, above], marker="o", markersize=4, capsize=2.5, **style)


def axes(number: int = 2) -> tuple[Figure, Sequence[Axes]]:
    """Axes side by side."""
    figure, found = pyplot.subplots(1, number, figsize=(10, 3.6), layout="constrained")
    for ax in found:
        tidy(ax)
    return figure, found


def front_door() -> Figure:
    """What ip.mutual_information answers, over correlation and over dimension."""
    figure, (left, right) = axes()
    correlations = [0.0, 0.3, 0.6, 0.8, 0.9, 0.97]
    left.plot(correlations, [-math.log(1 - rho**2) / 2 for rho in correlations], **TRUTH)
    curve(left, correlations, lambda rho, seed: plain(1, rho, seed), label="default")
    curve(
        left, correlations, lambda rho, seed: binned(1, rho, seed), label="8 × 8 bins", color="C2"
    )
    left.set_xlabel("correlation of two Gaussian variables, n = 1,000")
    left.set_ylabel("mutual information (nats)")
    dimensions = [1, 2, 4, 8, 16]
    right.plot(dimensions, [-d * math.log(1 - 0.36) / 2 for d in dimensions], **TRUTH)
    curve(right, dimensions, lambda d, seed: plain(int(d), 0.6, seed), label="default")
    curve(right, dimensions, lambda d, seed: raw(int(d), 0.6, seed), label="KNN()", color="C1")
    curve(
        right,
        [1, 2, 4],
        lambda d, seed: binned(int(d), 0.6, seed),
        label="8 bins a feature",
        color="C2",
    )
    right.set_xlabel("features of each variable, correlations of 0.6, n = 1,000")
    right.set_xscale("log", base=2)
    right.set_xticks(dimensions, list(map(str, dimensions)))
    for ax in (left, right):
        ax.legend(frameon=False)
    return figure


def plain(d: int, rho: float, seed: int) -> float:
    """The plain function without an estimator."""
    return float(ip.mutual_information(*gaussian_pair(1000, d, rho, seed)))


def raw(d: int, rho: float, seed: int) -> float:
    """Nearest neighbours without calibration."""
    return float(ip.KNN().mutual_information(*gaussian_pair(1000, d, rho, seed)))


def binned(d: int, rho: float, seed: int) -> float:
    """A joint histogram of whole samples."""
    return float(BINNED.mutual_information(*gaussian_pair(1000, d, rho, seed)))


def calibration() -> Figure:
    """The error of the joint entropy as the number of features grows."""
    figure, found = axes(3)
    dimensions = [1, 2, 5, 10, 20, 50]
    data: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
        "Gaussian": (lambda z: z, math.log(2 * math.pi * math.e) / 2),
        "Laplace": (laplace, 1 + math.log(2)),
        "banana": (banana, math.log(2 * math.pi * math.e) / 2),
    }
    estimators = {
        "KNN()": ip.KNN(),
        'calibration="gaussian"': ip.KNN(calibration="gaussian"),
        'calibration="copula"': ip.KNN(calibration="copula"),
    }
    for ax, (name, (made, h)) in zip(found, data.items(), strict=True):
        ax.axhline(0, **TRUTH)
        for label, estimator in estimators.items():
            error = error_of_entropy(estimator, made, h)
            curve(ax, dimensions[name == "banana" :], error, label=label)
        ax.set_xscale("log")
        ax.set_xticks(dimensions, list(map(str, dimensions)), minor=False)
        ax.minorticks_off()
        ax.set_xlabel("features")
        ax.set_title(name)
    found[0].set_ylabel("error of the entropy (nats), n = 1,000")
    found[0].legend(frameon=False)
    return figure


def error_of_entropy(
    estimator: ip.KNN, made: Callable[[Tensor], Tensor], h: float
) -> Callable[[float, int], float]:
    """The error for a number of features, each of which adds h nats, and for a seed."""

    def error(d: float, seed: int) -> float:
        z = torch.randn(1000, int(d), dtype=torch.float64, generator=generator(seed))
        return float(estimator.entropy(made(z))) - d * h

    return error


def laplace(z: Tensor) -> Tensor:
    """Independent Laplace features from Gaussian ones."""
    u: Tensor = torch.special.ndtr(z) - 0.5
    return torch.log1p(-2 * u.abs()) * -u.sign()


def banana(z: Tensor) -> Tensor:
    """Every second feature shifted by the square of the one before it; volumes stay."""
    curved = z.clone()
    pairs = z.shape[1] // 2
    curved[:, 1 : 2 * pairs : 2] += z[:, 0 : 2 * pairs : 2].square()
    return curved


def coverage() -> Figure:
    """How often the intervals of 95 % hold the truth."""
    rows = json.loads((ROOT / "docs" / "benchmarks" / "coverage.json").read_text("utf-8"))
    figure, ax = pyplot.subplots(figsize=(10, 0.5 + 0.3 * len(rows)), layout="constrained")
    tidy(ax)
    ax.axvspan(90, 98, color="0.92", zorder=0)
    ax.axvline(95, **{**TRUTH, "label": "95 %"})
    names = list(rows)[::-1]
    sizes = list(dict.fromkeys(n for row in rows.values() for n in row))
    for i, n in enumerate(sizes):
        there = [(y, rows[name][n]) for y, name in enumerate(names) if n in rows[name]]
        told = [cell["found"] >= 0.5 for _, cell in there]
        for (y, cell), found in zip(there, told, strict=True):
            ax.plot(
                100 * cell["coverage"],
                y + 0.2 * (1 - i),
                "o",
                color=f"C{i}",
                markersize=5,
                markerfacecolor="white" if found else f"C{i}",
                label=None if y < len(names) - 1 else n.replace("=", " = "),
            )
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("intervals that hold the truth (%); hollow: a finding says that bias exceeds it")
    figure.legend(frameon=False, loc="outside upper center", ncols=4)
    return figure


def copies() -> Figure:
    """Information between independent variables whose samples come twice, and of other units."""
    figure, (left, right) = axes()
    shares = [0.0, 0.05, 0.1, 0.2, 0.5, 1.0]
    left.axhline(0, **TRUTH)
    for kind, color in (("KNN()", "C1"), ('KNN(calibration="copula")', "C0")):
        estimator = ip.KNN(calibration=None if color == "C1" else "copula")
        for share in shares:
            for seed in SEEDS:
                x, y = (t[:, 0] for t in gaussian_pair(500, 1, 0.0, seed))
                again = torch.arange(int(share * 500))
                x, y = torch.cat([x, x[again]]), torch.cat([y, y[again]])
                try:
                    value = float(estimator.mutual_information(x, y))
                except ValueError:  # it refuses too many copies
                    left.plot(100 * share, -0.08, "x", color=color, markersize=5)
                    continue
                told = bool(ip.diagnose(x, y, estimator))
                left.plot(
                    100 * share,
                    value,
                    "o",
                    color=color,
                    markersize=5,
                    markerfacecolor="white" if told else color,
                    label=kind if (share, seed) == (0, 0) else None,
                )
    left.set_xlabel("samples that come twice (%); hollow: a finding says so; ×: refused")
    left.set_ylabel("information of independent variables (nats)")
    scales = [10.0**i for i in range(-9, 10, 3)]
    right.axhline(-math.log(1 - 0.64) / 2, **TRUTH)

    def scaled(estimator: Any) -> Callable[[float, int], float]:
        def estimate(scale: float, seed: int) -> float:
            x, y = gaussian_pair(1000, 1, 0.8, seed)
            return float(ip.mutual_information(scale * x, y, estimator))

        return estimate

    curve(right, scales, scaled(None), label="default")
    curve(right, scales, scaled(ip.KNN()), label="KNN()")
    curve(right, scales, scaled(ip.Histogram(bins=16)), label="16 × 16 bins, the same for both")
    right.set_xscale("log")
    right.set_ylim(0.2, 0.8)
    right.set_xlabel("factor by which one of the two variables is multiplied")
    for ax in (left, right):
        ax.legend(frameon=False)
    return figure


def layers() -> Figure:
    """The entropies of a small trained network on bins of their own and on one width."""
    images, labels = ip.datasets.load("digits")
    x, torch_labels = images.float() / images.max(), labels.long()
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, 10), nn.Softmax(1)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        batch = torch.randperm(len(x), generator=generator(step))[:128]
        loss = -(model(x[batch]).gather(1, torch_labels[batch, None]) + 1e-9).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with ip.probe(model, measures=ip.Entropy()) as probe, torch.no_grad():
        for some in torch.split(x, 100):
            model(some)
    report = probe.report()
    figure, ax = pyplot.subplots(figsize=(10, 4), layout="constrained")
    tidy(ax)
    report.plot("entropy", ax=ax)
    h = ip.Histogram()
    own = [float(h.entropy(probe.counts(row["layer"]))) for row in report.rows]
    ax.plot(range(len(own)), own, "s:", color="C1", markersize=4, label="bins of its own width")
    ax.lines[0].set_label("ip.Entropy(): bins of one width")
    ax.set_xticks(range(len(own)), [row["type"] for row in report.rows], rotation=30)
    ax.legend(handles=[ax.lines[0], ax.lines[-1]], frameon=False)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "layers": layers,
    "coverage": coverage,
    "copies": copies,
    "front_door": front_door,
    "calibration": calibration,
}

if __name__ == "__main__":
    main()
