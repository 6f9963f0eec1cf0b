"""The 40 tasks of Czyż et al., samples of pairs whose mutual information is known.

P. Czyż, F. Grabowski, J. Vogt, N. Beerenwinkel & A. Marx (2023). Beyond Normal: On the Evaluation
of Mutual Information Estimators. NeurIPS 36.

Most are one of a few distributions whose information has a closed form, followed by a map of x and
a map of y that keep it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.special import digamma, gammaln, ndtr
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Map = Callable[[Tensor], Tensor]

_CORRELATION = 0.75  # of the pairs of single numbers
_DENSE = 0.5  # of all coordinates, where all are correlated
_SHARED = 0.8  # of the two pairs of coordinates, where no others are correlated


@dataclass(frozen=True)
class Task:
    """A distribution of pairs.

    Attributes:
        name: What the paper calls it.
        draw: Gives n samples of x (n, d) and y (n, e), in float64.
        truth: The mutual information in nats.
    """

    name: str
    draw: Callable[[int, torch.Generator], Pair]
    truth: float


def student_entropy(d: int, freedom: float) -> float:
    """Returns the entropy of a Student vector of d dimensions and unit dispersion."""
    half = (freedom + d) / 2
    log_terms = gammaln(freedom / 2) - gammaln(half) + d / 2 * math.log(freedom * math.pi)
    return float(log_terms + half * (digamma(half) - digamma(freedom / 2)))


def normal(dispersion: Tensor, d: int, name: str, freedom: float = math.inf) -> Task:
    """Returns the task of normal vectors, or Student vectors, the first d numbers of them x."""
    width = len(dispersion)
    root = torch.linalg.cholesky(dispersion)

    def draw(n: int, generator: torch.Generator) -> Pair:
        z = _normal(n, width, generator) @ root.T
        if freedom < math.inf:
            # A chi-squared number of a whole number of degrees is a sum of squares.
            squares = _normal(n, int(freedom), generator).square().sum(1, keepdim=True)
            z /= (squares / freedom).sqrt()
        return z[:, :d], z[:, d:]

    blocks = dispersion[:d, :d], dispersion[d:, d:]
    truth = float(sum(block.logdet() for block in blocks) - dispersion.logdet()) / 2
    if freedom < math.inf:
        widths = d, width - d
        truth += sum(student_entropy(part, freedom) for part in widths)
        truth -= student_entropy(width, freedom)
    return Task(name, draw, truth)


def dense(d: int) -> Task:
    """Returns vectors of which all coordinates are correlated."""
    dispersion = (1 - _DENSE) * torch.eye(2 * d, dtype=torch.float64) + _DENSE
    return normal(dispersion, d, f"Multinormal {d} × {d} (dense)")


def two_pairs(d: int) -> Task:
    """Returns vectors of which the first two coordinates of x and of y are correlated."""
    dispersion = torch.eye(2 * d, dtype=torch.float64)
    for i in range(2):
        dispersion[i, d + i] = dispersion[d + i, i] = _SHARED
    return normal(dispersion, d, f"Multinormal {d} × {d} (2-pair)")


def student(d: int, freedom: int) -> Task:
    """Returns Student vectors without any correlation."""
    dispersion = torch.eye(2 * d, dtype=torch.float64)
    return normal(dispersion, d, f"Student-t {d} × {d} (dof={freedom})", freedom)


def additive_noise(width: float) -> Task:
    """Returns a uniform number and the same with uniform noise."""

    def draw(n: int, generator: torch.Generator) -> Pair:
        x, noise = torch.rand(2, n, 1, generator=generator, dtype=torch.float64)
        return x, x + width * (2 * noise - 1)

    truth = 1 / (4 * width) if width > 0.5 else width - math.log(2 * width)
    return Task(f"Uniform 1 × 1 (additive noise={width})", draw, truth)


def mapped(task: Task, map_x: Map, map_y: Map, name: str) -> Task:
    """Returns a task whose x and y are carried by maps that keep their information."""

    def draw(n: int, generator: torch.Generator) -> Pair:
        x, y = task.draw(n, generator)
        return map_x(x), map_y(y)

    return Task(name, draw, task.truth)


def both(task: Task, of_both: Map, name: str) -> Task:
    """Returns a task whose x and y are carried by one map, which the name tells."""
    return mapped(task, of_both, of_both, f"{name} @ {task.name}")


def normal_cdf(x: Tensor) -> Tensor:
    return torch.as_tensor(ndtr(x.numpy()))


def half_cube(x: Tensor) -> Tensor:
    return x * x.abs().sqrt()


def wiggly_x(x: Tensor) -> Tensor:
    waves: Tensor = 0.4 * x.sin() + 0.2 * (1.7 * x + 1).sin() + 0.03 * (3.3 * x - 2.5).sin()
    return x + waves


def wiggly_y(y: Tensor) -> Tensor:
    slow, fast = 0.4 * (0.4 * y).sin(), 0.17 * (1.3 * y + 3.5).sin()
    return y - slow + fast + 0.02 * (4.3 * y - 2.5).sin()


def two_modes(weight: float, first: float, second: float) -> Map:
    """Returns the map from normal numbers to a mixture of two unit normal distributions."""

    def quantile(x: Tensor) -> Tensor:
        goal = normal_cdf(x)
        low, high = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
        for _ in range(60):
            middle = (low + high) / 2
            below = (
                weight * normal_cdf(middle - first) + (1 - weight) * normal_cdf(middle - second)
                < goal
            )
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    return quantile


def swiss_roll(x: Tensor) -> Tensor:
    """Rolls up a normal number, made uniform, in a plane."""
    angle = 1.5 * math.pi * (1 + 2 * normal_cdf(x))
    return torch.cat([angle * angle.cos(), angle * angle.sin()], 1) / 21


def spiral(first: int) -> Map:
    """Returns a map that turns two coordinates, by an angle that grows with the radius."""

    def turned(x: Tensor) -> Tensor:
        angle = x.square().sum(1) / x.shape[1]
        a, b = x[:, first], x[:, first + 1]
        result = x.clone()
        result[:, first] = angle.cos() * a - angle.sin() * b
        result[:, first + 1] = angle.sin() * a + angle.cos() * b
        return result

    return turned


def spiralled(task: Task) -> Task:
    """Returns a task whose x is turned in its first plane, and y in the next one."""
    return mapped(task, spiral(0), spiral(1), f"Spiral @ {task.name}")


def _normal(n: int, d: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def _tasks() -> list[Task]:
    matrix = torch.tensor([[1, _CORRELATION], [_CORRELATION, 1]], dtype=torch.float64)
    pair = normal(matrix, 1, "Bivariate normal 1 × 1")
    bimodal = mapped(pair, two_modes(0.3, 0, 5), two_modes(0.5, -1, 3), "Bimodal 1 × 1")
    of_one = [
        pair,
        mapped(pair, normal_cdf, normal_cdf, "Uniform 1 × 1"),
        additive_noise(0.1),
        additive_noise(0.75),
        bimodal,
        mapped(pair, wiggly_x, wiggly_y, "Wiggly @ Bivariate normal 1 × 1"),
        both(pair, half_cube, "Half-cube"),
        student(1, 1),
        both(student(1, 1), torch.asinh, "Asinh"),
        mapped(pair, swiss_roll, normal_cdf, "Swiss roll 2 × 1"),
    ]
    normals = [dense(d) for d in (2, 3, 5, 25, 50)] + [two_pairs(d) for d in (2, 3, 5, 25)]
    students = [student(d, f) for d, f in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))]
    bases = [two_pairs(d) for d in (3, 5, 25)]
    uniforms = [both(base, normal_cdf, "Normal CDF") for base in bases]
    cubes = [both(base, half_cube, "Half-cube") for base in bases]
    spirals = [spiralled(base) for base in [*bases, *uniforms]]
    tails = [both(student(d, f), torch.asinh, "Asinh") for d, f in ((2, 1), (3, 2), (5, 2))]
    return of_one + normals + students + uniforms + cubes + spirals + tails


TASKS = _tasks()
