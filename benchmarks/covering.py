"""Measures how often value ± 1.96 standard errors covers the truth.

pip install -e .
python benchmarks/covering.py --out docs/benchmarks/coverage.json

Of each case it also says how often a finding warns that the value is off, the bias, the spread of
the values, and the mean standard error, in nats.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import infoprobe as ip
from infoprobe.estimators.protocols import estimate

SIZES = (200, 1_000, 4_000)
# The findings which warn of a bias.
SAID = {
    "bias-beyond-error",
    "too-few-values",
    "undersampled-information",
    "negentropy-left",
    "above-bound",
}
# What takes a second or so each time is repeated a quarter as often.
SLOW = ("entropy, Gaussianization", "information, k-NN, conditional")
Draw = Callable[[int, torch.Generator], tuple[Tensor, ...]]
GAUSSIAN = math.log(2 * math.pi * math.e) / 2
# Of a pair of normal variables with a correlation of 0.75.
INFORMATION = -math.log(1 - 0.75**2) / 2
# Between normal data of scale 1 and of scale 1.3.
DIVERGENCE = math.log(1.3) + 1 / (2 * 1.3**2) - 1 / 2


def normal(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(n, 1, generator=generator, dtype=torch.float64),)


def uniform(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.rand(n, 1, generator=generator, dtype=torch.float64),)


def exponential(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    (x,) = uniform(n, generator)
    return (-(1 - x).log(),)


def student(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draws from Student's distribution with 3 degrees of freedom."""
    z = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return (z[:, :1] / z[:, 1:].square().mean(1, keepdim=True).sqrt(),)


def pair(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    (x,), (noise,) = normal(n, generator), normal(n, generator)
    return x, 0.75 * x + math.sqrt(1 - 0.75**2) * noise


def confounded(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draws such a pair, to both of which a third variable is added."""
    x, y = pair(n, generator)
    (z,) = normal(n, generator)
    return x + z, y + z, z


def exponentials(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (-(1 - torch.rand(n, 3, generator=generator, dtype=torch.float64)).log(),)


def uniforms(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.rand(n, 3, generator=generator, dtype=torch.float64),)


def independent(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return *normal(n, generator), *normal(n, generator)


def scaled(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    (p,), (q,) = normal(n, generator), normal(n, generator)
    return p, 1.3 * q


def student_entropy(degrees: float) -> float:
    half, more = torch.tensor([degrees / 2, (degrees + 1) / 2], dtype=torch.float64)
    spread = float(torch.digamma(more) - torch.digamma(half))
    beta = float(torch.lgamma(half) + math.lgamma(0.5) - torch.lgamma(more))
    return (degrees + 1) / 2 * spread + math.log(degrees) / 2 + beta


def cells(edges: Tensor, scale: float = 1.0) -> Tensor:
    """Returns the probabilities of normal data of a scale in bins; the outermost have the rest."""
    below: Tensor = torch.special.ndtr(edges / scale)
    below[0], below[-1] = 0, 1
    return below.diff()


def entropy_of(p: Tensor) -> float:
    return float(-torch.xlogy(p, p).sum())


def edges(bins: int) -> Tensor:
    return torch.linspace(-5, 5, bins + 1, dtype=torch.float64)


def divergence_of_bins(bins: int) -> float:
    p, q = cells(edges(bins)), cells(edges(bins), 1.3)
    return float((p * (p / q).log()).sum())


def information_of_bins(bins: int, correlation: float) -> float:
    """Integrates the conditional probabilities of y's bins over x, cell by cell."""
    grid = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    weights = (-grid.square() / 2).exp()
    weights /= weights.sum()
    noise = math.sqrt(1 - correlation**2)
    inner = edges(bins)
    below = torch.special.ndtr((inner - correlation * grid.unsqueeze(1)) / noise)
    below[:, 0], below[:, -1] = 0, 1
    place = torch.bucketize(grid, inner[1:-1], right=True)
    joint = torch.zeros(bins, bins, dtype=torch.float64)
    joint.index_add_(0, place, below.diff(dim=1) * weights.unsqueeze(1))
    return entropy_of(joint.sum(0)) + entropy_of(joint.sum(1)) - entropy_of(joint)


def binned(bins: int, pseudocount: float = 0.0) -> ip.Histogram:
    return ip.Histogram(bins, (-5.0, 5.0), pseudocount=pseudocount, outside="clip")


def cases() -> dict[str, tuple[object, str, Draw, float]]:
    """Returns for each case the estimator, the measure, the data and the truth."""
    knn, gauss = ip.KNN(), ip.Gaussian()
    return {
        "entropy, k-NN, normal": (knn, "entropy", normal, GAUSSIAN),
        "entropy, k-NN, uniform": (knn, "entropy", uniform, 0.0),
        "entropy, k-NN, exponential": (knn, "entropy", exponential, 1.0),
        "entropy, k-NN, Student 3": (knn, "entropy", student, student_entropy(3)),
        "entropy, Gaussian": (gauss, "entropy", normal, GAUSSIAN),
        "entropy, Gaussianization, 3 exponentials": (
            ip.Gaussianization(),
            "entropy",
            exponentials,
            3.0,
        ),
        "entropy, Gaussianization, 3 uniform": (
            ip.Gaussianization(),
            "entropy",
            uniforms,
            0.0,
        ),
        "entropy, 64 bins": (binned(64), "entropy", normal, entropy_of(cells(edges(64)))),
        "entropy, 64 bins, Miller-Madow": (
            replace(binned(64), correction="miller-madow"),
            "entropy",
            normal,
            entropy_of(cells(edges(64))),
        ),
        "entropy, 64 bins, uniform": (
            ip.Histogram(64, (0.0, 1.0)),
            "entropy",
            uniform,
            math.log(64),
        ),
        "information, k-NN": (knn, "mutual_information", pair, INFORMATION),
        "information, k-NN, independent": (knn, "mutual_information", independent, 0.0),
        "information, Gaussian": (gauss, "mutual_information", pair, INFORMATION),
        "information, 16 x 16 bins": (
            binned(16),
            "mutual_information",
            pair,
            information_of_bins(16, 0.75),
        ),
        "information, 16 x 16 bins, independent": (
            binned(16),
            "mutual_information",
            independent,
            0.0,
        ),
        "information, k-NN, conditional": (
            knn,
            "conditional_mutual_information",
            confounded,
            INFORMATION,
        ),
        "divergence, k-NN": (knn, "kl_divergence", scaled, DIVERGENCE),
        "divergence, Gaussian": (gauss, "kl_divergence", scaled, DIVERGENCE),
        "divergence, 16 bins, pseudo-count 1": (
            binned(16, pseudocount=1),
            "kl_divergence",
            scaled,
            divergence_of_bins(16),
        ),
    }


def measured(
    estimator: object, measure: str, draw: Draw, truth: float, n: int, repetitions: int
) -> dict[str, float]:
    values, errors, covered, found = [], [], 0, 0
    for seed in range(repetitions):
        drawn = draw(n, torch.Generator().manual_seed(seed))
        result = estimate(estimator, measure, *drawn)
        value = float(result.value)
        stderr = math.nan if result.stderr is None else float(result.stderr)
        values.append(value)
        errors.append(stderr)
        covered += abs(value - truth) <= 1.96 * stderr
        found += any(finding.code in SAID for finding in result.findings)
    return {
        "coverage": covered / repetitions,
        "found": found / repetitions,
        "truth": truth,
        "bias": statistics.fmean(values) - truth,
        "spread": statistics.stdev(values),
        "stderr": statistics.fmean(errors),
        "repetitions": repetitions,
    }


def main() -> None:
    """Prints the coverage of each case, and writes it; an interrupted run continues."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    parser.add_argument("--repetitions", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out: Path | None = arguments.out
    results = json.loads(out.read_text()) if out and out.exists() else {}
    for n in SIZES:
        for name, case in cases().items():
            key = f"n={n}"
            if arguments.only not in name or key in results.get(name, {}):
                continue
            repetitions = arguments.repetitions // (4 if name.startswith(SLOW) else 1)
            row = measured(*case, n, repetitions)
            results.setdefault(name, {})[key] = {k: round(v, 4) for k, v in row.items()}
            print(
                f"{name:40} {key:7} {row['coverage']:6.1%} found {row['found']:6.1%}", flush=True
            )
            if out:
                out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
