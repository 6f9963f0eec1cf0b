"""Measures the bias of KSG on data of known information, by how features are prepared, in nats.

python benchmarks/scaling.py 2000 3
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from scipy.special import digamma, gammaln
from torch import Tensor

from infoprobe.estimators.knn import ksg
from infoprobe.estimators.ranks import normal_scores

Pair = tuple[Tensor, Tensor]
Draw = Callable[[int, torch.Generator], Pair]


def normal(n: int, d: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def pairs(d: int, rho: float, k: int) -> Draw:
    """Draws d + d normal features, of which k pairs are correlated."""

    def draw(n: int, generator: torch.Generator) -> Pair:
        x, y = normal(n, d, generator), normal(n, d, generator)
        y[:, :k] = rho * x[:, :k] + math.sqrt(1 - rho**2) * y[:, :k]
        return x, y

    return draw


def student(d: int, freedom: int, rho: float, k: int) -> Draw:
    def draw(n: int, generator: torch.Generator) -> Pair:
        x, y = pairs(d, rho, k)(n, generator)
        chi = normal(n, freedom, generator).square().mean(1, keepdim=True).sqrt()
        return x / chi, y / chi

    return draw


def through(bijection: Callable[[Tensor], Tensor], draw: Draw) -> Draw:
    def carried(n: int, generator: torch.Generator) -> Pair:
        x, y = draw(n, generator)
        return bijection(x), bijection(y)

    return carried


def equal_correlations(n: int, generator: torch.Generator) -> Pair:
    """Draws 5 + 5 normal features, each correlated with each other by 0.5."""
    z = math.sqrt(0.5) * (normal(n, 10, generator) + normal(n, 1, generator))
    return z[:, :5], z[:, 5:]


def uniform_noise(width: float) -> Draw:
    def draw(n: int, generator: torch.Generator) -> Pair:
        u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return u[:, :1], u[:, :1] + width * (2 * u[:, 1:] - 1)

    return draw


def spiral(x: Tensor) -> Tensor:
    """Turns points by an angle that grows with their distance from the origin."""
    angle = x.square().sum(1) / 3
    cos, sin = angle.cos(), angle.sin()
    out = x.clone()
    for i in (0, 1):
        a, b = out[:, i].clone(), out[:, i + 1].clone()
        out[:, i], out[:, i + 1] = cos * a - sin * b, sin * a + cos * b
    return out


def mixed(x: Tensor) -> Tensor:
    """Mixes the features by a matrix of condition 10."""
    generator = torch.Generator().manual_seed(3)
    d = x.shape[1]
    u, v = (torch.linalg.qr(normal(d, d, generator)).Q for _ in range(2))
    product: Tensor = x @ u @ torch.logspace(0, 1, d, dtype=torch.float64).diag() @ v
    return product


def of_normal(rho: float, k: int) -> float:
    return -k / 2 * math.log(1 - rho**2)


def of_student(freedom: int, d: int) -> float:
    def entropy(m: int) -> float:
        half = (freedom + m) / 2
        log_volume = -gammaln(half) + gammaln(freedom / 2) + m / 2 * math.log(freedom * math.pi)
        return float(log_volume + half * (digamma(half) - digamma(freedom / 2)))

    return 2 * entropy(d) - entropy(2 * d)


def of_equal_correlations(d: int, rho: float) -> float:
    def log_det(m: int) -> float:
        return math.log(1 + (m - 1) * rho) + (m - 1) * math.log(1 - rho)

    return log_det(d) - log_det(2 * d) / 2


TWO = of_normal(0.8, 2)
HALF_CUBE = through(lambda x: x * x.abs().sqrt(), pairs(1, 0.75, 1))
CASES: dict[str, tuple[Draw, float]] = {
    "1+1 normal 0.75": (pairs(1, 0.75, 1), of_normal(0.75, 1)),
    "1+1 normal 0.99": (pairs(1, 0.99, 1), of_normal(0.99, 1)),
    "5+5 normal, two pairs": (pairs(5, 0.8, 2), TWO),
    "5+5 normal, independent": (pairs(5, 0.0, 2), 0.0),
    "5+5 normal, equal": (equal_correlations, of_equal_correlations(5, 0.5)),
    "5+5 normal, mixed": (through(mixed, pairs(5, 0.8, 2)), TWO),
    "2+2 Student 1": (student(2, 1, 0.0, 1), of_student(1, 2)),
    "5+5 Student 2": (student(5, 2, 0.0, 1), of_student(2, 5)),
    "5+5 Student 3, two pairs": (student(5, 3, 0.8, 2), of_student(3, 5) + TWO),
    "1+1 Student 1, 0.75": (student(1, 1, 0.75, 1), of_student(1, 1) + of_normal(0.75, 1)),
    "5+5 asinh of Student 2": (
        through(torch.asinh, student(5, 2, 0.8, 2)),
        of_student(2, 5) + TWO,
    ),
    "1+1 half-cube": (
        through(lambda x: x * x.abs().sqrt(), pairs(1, 0.75, 1)),
        of_normal(0.75, 1),
    ),
    "5+5 half-cube": (through(lambda x: x * x.abs().sqrt(), pairs(5, 0.8, 2)), TWO),
    "1+1 uniform margins": (through(torch.special.ndtr, pairs(1, 0.75, 1)), of_normal(0.75, 1)),
    "5+5 uniform margins": (through(torch.special.ndtr, pairs(5, 0.8, 2)), TWO),
    "uniform noise 0.1": (uniform_noise(0.1), 0.1 - math.log(0.2)),
    "uniform noise 0.75": (uniform_noise(0.75), 1 / 3),
    "3+3 spiral": (through(spiral, pairs(3, 0.8, 2)), TWO),
    "5+5 spiral": (through(spiral, pairs(5, 0.8, 2)), TWO),
    "1+1 log-normal": (through(lambda x: (2 * x).exp(), pairs(1, 0.75, 1)), of_normal(0.75, 1)),
    "5+5, a feature times 1,000": (
        through(lambda x: x * x.new_tensor([1, 1, 1, 1, 1000]), pairs(5, 0.8, 2)),
        TWO,
    ),
}


def whitened(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    factor = torch.linalg.cholesky(centred.T @ centred / len(x))
    turned: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False)
    return turned.T.contiguous()


PREPARATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "as is": lambda x: x,
    "deviations": lambda x: x / x.std(0),
    "whitened": whitened,
    "uniform": lambda x: torch.special.ndtr(normal_scores(x)),
    "Gaussian": normal_scores,
}


def main() -> None:
    """Prints the mean error of each case and preparation."""
    n, seeds = map(int, sys.argv[1:])
    # The estimator itself, without the preparation that it chose by this benchmark.
    ksg.scored = list  # type: ignore[assignment]
    names = "".join(f"{name:>12s}" for name in PREPARATIONS)
    print(f"{f'n = {n:,}':28s}{'truth':>7s}{names}")
    total = dict.fromkeys(PREPARATIONS, 0.0)
    for case, (draw, truth) in CASES.items():
        mean = dict.fromkeys(PREPARATIONS, -truth)
        for seed in range(seeds):
            x, y = draw(n, torch.Generator().manual_seed(seed))
            for name, prepare in PREPARATIONS.items():
                value = ksg.multi_information([prepare(x), prepare(y)], 3, "euclidean").mean()
                mean[name] += float(value) / seeds
        for name, error in mean.items():
            total[name] += abs(error) / len(CASES)
        print(f"{case:28s}{truth:7.3f}" + "".join(f"{mean[name]:+12.3f}" for name in PREPARATIONS))
    print(f"{'mean |bias|':35s}" + "".join(f"{total[name]:12.3f}" for name in PREPARATIONS))


if __name__ == "__main__":
    main()
