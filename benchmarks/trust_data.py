"""Data of known truth on which estimators fail, and clean data on which they do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import infoprobe as ip
from infoprobe.estimators.knn.student import excess_entropy

COPULA, KNN, GAUSS = ip.KNN(calibration="copula"), ip.KNN(), ip.KNN(calibration="gaussian")

Draw = Callable[[torch.Generator], tuple[Tensor, ...]]

GAUSSIAN = math.log(2 * math.pi * math.e) / 2

MI, H, KL = "mutual_information", "entropy", "kl_divergence"
CMI, TC = "conditional_mutual_information", "total_correlation"


@dataclass(frozen=True)
class Case:
    """An estimate whose truth is known.

    Attributes:
        kind: What goes wrong.
        name: Where.
        measure: The name of the measure.
        estimator: ``None`` for the one that is chosen by the data.
        draw: Gives the tensors.
        truth: What the estimate should be.
    """

    kind: str
    name: str
    measure: str
    estimator: Any
    draw: Draw
    truth: float


def normal(n: int, d: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, d, generator=g, dtype=torch.float64)


def uniform(n: int, d: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, d, generator=g, dtype=torch.float64)


def pair(n: int, d: int, rho: float, g: torch.Generator, shared: int | None = None) -> Any:
    """Draws x and y, (n, d) each, of which the first few features are correlated."""
    x, noise = normal(n, d, g), normal(n, d, g)
    rhos = torch.full((d,), rho, dtype=torch.float64)
    rhos[d if shared is None else shared :] = 0
    return x, rhos * x + (1 - rhos * rhos).sqrt() * noise


def of_pairs(rho: float, number: int = 1) -> float:
    return -number * math.log(1 - rho * rho) / 2


def mapped(draw: Draw, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor]) -> Draw:
    def both(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, y, *rest = draw(generator)
        return f(x), g(y), *rest

    return both


def times(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: factor * x


def single(draw: Callable[[torch.Generator], Tensor]) -> Draw:
    return lambda g: (draw(g),)


def same(x: Tensor) -> Tensor:
    return x


def student(n: int, d: int, freedom: int, g: torch.Generator) -> Tensor:
    squares = normal(n, freedom, g).square().mean(1, keepdim=True)
    return normal(n, d, g) / squares.sqrt()


def student_pair(n: int, d: int, freedom: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    both = student(n, 2 * d, freedom, g)
    return both[:, :d], both[:, d:]


def of_student(d: int, freedom: int) -> float:
    return 2 * excess_entropy(d, freedom) - excess_entropy(2 * d, freedom)


def turned(x: Tensor, plane: int, speed: float) -> Tensor:
    angle = speed * x.square().sum(1)
    a, b, out = x[:, plane], x[:, plane + 1], x.clone()
    out[:, plane] = angle.cos() * a - angle.sin() * b
    out[:, plane + 1] = angle.sin() * a + angle.cos() * b
    return out


def spiral(n: int, d: int, speed: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = pair(n, d, 0.8, g, shared=2)
    return turned(x, 0, speed), turned(y, 1, speed)


def entropy_by(log_density: Callable[[Tensor], Tensor], sample: Callable[..., Tensor]) -> float:
    """The entropy of a density by many samples of it."""
    x = sample(100_000, torch.Generator().manual_seed(12345))
    return -float(log_density(x).mean())


def mixture(centres: Tensor) -> tuple[Callable[[int, torch.Generator], Tensor], float]:
    """Unit Gaussians at places; and the entropy."""
    k, d = centres.shape

    def sample(n: int, g: torch.Generator) -> Tensor:
        return normal(n, d, g) + centres[torch.randint(0, k, (n,), generator=g)]

    def log_density(x: Tensor) -> Tensor:
        logs = [-(x - c).square().sum(1) / 2 for c in centres]
        total: Tensor = torch.stack(logs).logsumexp(0)
        return total - math.log(k) - d / 2 * math.log(2 * math.pi)

    return sample, entropy_by(log_density, sample)


def scales(d: int, widths: list[float]) -> tuple[Callable[[int, torch.Generator], Tensor], float]:
    """A Gaussian whose width is one of several for each sample; and the entropy."""
    widths_of = torch.tensor(widths, dtype=torch.float64)

    def sample(n: int, g: torch.Generator) -> Tensor:
        chosen = torch.randint(0, len(widths), (n, 1), generator=g)
        return normal(n, d, g) * widths_of[chosen]

    def log_density(x: Tensor) -> Tensor:
        squares = x.square().sum(1, keepdim=True)
        logs = -squares / (2 * widths_of**2) - d * widths_of.log()
        total: Tensor = logs.logsumexp(1)
        return total - math.log(len(widths)) - d / 2 * math.log(2 * math.pi)

    return sample, entropy_by(log_density, sample)


def pixels(n: int, d: int, stay: float, levels: int, g: torch.Generator) -> Tensor:
    """Neighbouring numbers are mostly equal; noise as wide as one of 256 steps is added."""
    values = torch.empty(n, d, dtype=torch.float64)
    values[:, 0] = torch.randint(0, levels, (n,), generator=g).double()
    for i in range(1, d):
        new = torch.randint(0, levels, (n,), generator=g).double()
        stays = torch.rand(n, generator=g) < stay
        values[:, i] = torch.where(stays, values[:, i - 1], new)
    return values / levels + uniform(n, d, g) / 256


def of_pixels(d: int, stay: float, levels: int) -> float:
    again, other = stay + (1 - stay) / levels, (1 - stay) / levels
    step = -again * math.log(again) - (levels - 1) * other * math.log(other)
    return math.log(levels) + (d - 1) * step - d * math.log(256)


def planted(centres: int, d: int, width: float, seed: int) -> Tensor:
    return width * normal(centres, d, torch.Generator().manual_seed(seed))


def twice(draw: Draw, times: int) -> Draw:
    return lambda g: tuple(torch.cat([x] * times) for x in draw(g))


def some_twice(draw: Draw, share: float) -> Draw:
    def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
        tensors = draw(g)
        n = int(share * len(tensors[0]))
        return tuple(torch.cat([x, x[:n]]) for x in tensors)

    return drawn


def with_outliers(n: int, outliers: list[float]) -> Draw:
    return lambda g: (torch.cat([normal(n, 1, g)[:, 0], torch.tensor(outliers).double()]),)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).to(x.dtype)


def own_rounding(f: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Draw:
    def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
        x = f(normal(20_000, 1, g)).float()
        return x, rounded(x, dtype)

    return drawn


def groups(n: int, k: int, d: int, apart: float) -> Draw:
    """Clusters that hardly overlap, and which of them each sample is from."""

    def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
        labels = torch.arange(n) % k
        place = torch.zeros(n, d, dtype=torch.float64)
        place[:, 0] = apart * labels
        return place + normal(n, d, g), labels

    return drawn


def labels(n: int, k: int, g: torch.Generator) -> Tensor:
    return torch.randint(0, k, (n,), generator=g)


def channel(n: int, k: int, keep: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    x, other = labels(n, k, g), labels(n, k, g)
    return x, torch.where(torch.rand(n, generator=g) < keep, x, other)


def of_channel(k: int, keep: float) -> float:
    again, other = keep + (1 - keep) / k, (1 - keep) / k
    return math.log(k) + again * math.log(again) + (k - 1) * other * math.log(other)


def circle(n: int, width: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    angle = 2 * math.pi * uniform(n, 1, g)
    return angle.cos() + width * normal(n, 1, g), angle.sin() + width * normal(n, 1, g)


def of_circle(width: float) -> float:
    """Twice the entropy of a coordinate less that of both, on a grid."""
    line = torch.linspace(-2.2, 2.2, 2201, dtype=torch.float64)
    step = float(line[1] - line[0])
    angles = 2 * math.pi * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    bumps = (-(line - angles.cos().unsqueeze(1)).square() / (2 * width**2)).exp()
    alone = bumps.mean(0)
    alone /= alone.sum() * step
    radius = torch.linspace(1e-4, 2.5, 5001, dtype=torch.float64)
    bessel = torch.special.i0e(radius / width**2)
    ring = bessel * (-(radius - 1).square() / (2 * width**2)).exp() / width**2
    ring /= float((radius * ring).sum()) * float(radius[1] - radius[0]) * 2 * math.pi
    weight = 2 * math.pi * radius * float(radius[1] - radius[0])
    return 2 * step * float(-torch.xlogy(alone, alone).sum()) + float(
        (weight * torch.xlogy(ring, ring)).sum()
    )


def laplace(n: int, d: int, g: torch.Generator) -> Tensor:
    sign = torch.randint(0, 2, (n, d), generator=g) * 2 - 1
    return -sign * (1 - uniform(n, d, g)).log()


def of_laplace(d: int) -> float:
    return d * (1 + math.log(2))


def blobs(g: torch.Generator) -> tuple[Tensor, ...]:
    """Both in six dimensions in one of six clusters, the same for both, and nothing else."""
    cluster = torch.randint(0, 6, (3000,), generator=g)
    a, b = planted(6, 6, 8.0, 1), planted(6, 6, 8.0, 2)
    return a[cluster] + normal(3000, 6, g), b[cluster] + normal(3000, 6, g)
