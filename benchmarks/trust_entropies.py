"""Hard cases of entropies and divergences: dimensions, thin data, bins, and data far apart.

Each kind has several cases, as those of information have.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from trust_data import (
    CMI,
    COPULA,
    GAUSS,
    GAUSSIAN,
    KL,
    KNN,
    MI,
    TC,
    Case,
    Draw,
    H,
    circle,
    laplace,
    mixture,
    normal,
    of_circle,
    of_laplace,
    of_pairs,
    of_pixels,
    of_student,
    pair,
    pixels,
    planted,
    scales,
    single,
    spiral,
    student,
    student_pair,
    uniform,
)

import infoprobe as ip
from infoprobe.estimators.knn.student import excess_entropy


def _dimensions() -> list[Case]:
    kind = "dimensions"
    scales50, of50 = scales(50, [0.5, 2.0])
    scales20, of20 = scales(20, [0.3, 1.0, 3.0])
    scales8, of8 = scales(8, [0.1, 1.0])

    def student_entropy(d: int, freedom: int) -> float:
        return d * GAUSSIAN + excess_entropy(d, freedom)

    return [
        Case(
            kind, "MI, 40 + 40, 0.6", MI, KNN, lambda g: pair(2000, 40, 0.6, g), of_pairs(0.6, 40)
        ),
        Case(
            kind, "MI, 20 + 20, 0.8", MI, KNN, lambda g: pair(1000, 20, 0.8, g), of_pairs(0.8, 20)
        ),
        Case(kind, "MI, 7 + 7, 0.8", MI, KNN, lambda g: pair(4000, 7, 0.8, g), of_pairs(0.8, 7)),
        Case(
            kind,
            "CMI, 8 + 8 + 2, 0.7",
            CMI,
            KNN,
            lambda g: (*pair(2000, 8, 0.7, g), normal(2000, 2, g)),
            of_pairs(0.7, 8),
        ),
        Case(
            kind,
            "TC, 20 + 20 side by side, 0.7",
            TC,
            KNN,
            lambda g: (torch.cat(pair(2000, 20, 0.7, g), 1),),
            of_pairs(0.7, 20),
        ),
        Case(
            kind,
            "KL, 25 features, 1.3 times as wide",
            KL,
            KNN,
            lambda g: (normal(2000, 25, g), 1.3 * normal(2000, 25, g)),
            12.5 * (1 / 1.3**2 - 1 + math.log(1.3**2)),
        ),
        Case(
            kind, "entropy, 30 Laplace", H, KNN, lambda g: (laplace(3000, 30, g),), of_laplace(30)
        ),
        Case(kind, "entropy, scales 50", H, GAUSS, lambda g: (scales50(3000, g),), of50),
        Case(kind, "entropy, scales 50, copula", H, COPULA, lambda g: (scales50(3000, g),), of50),
        Case(kind, "entropy, scales 20", H, GAUSS, lambda g: (scales20(3000, g),), of20),
        Case(kind, "entropy, scales 20, copula", H, COPULA, lambda g: (scales20(3000, g),), of20),
        Case(kind, "entropy, scales 8", H, GAUSS, lambda g: (scales8(3000, g),), of8),
        Case(
            kind,
            "entropy, Student 2, d=30",
            H,
            GAUSS,
            lambda g: (student(3000, 30, 2, g),),
            student_entropy(30, 2),
        ),
        Case(
            kind,
            "entropy, Student 3, d=30, copula",
            H,
            COPULA,
            lambda g: (student(3000, 30, 3, g),),
            student_entropy(30, 3),
        ),
        Case(
            kind,
            "entropy, 20 Laplace",
            H,
            GAUSS,
            lambda g: (laplace(3000, 20, g),),
            of_laplace(20),
        ),
        Case(
            kind,
            "KL, calibrated, 15 Laplace and shifted",
            KL,
            GAUSS,
            lambda g: (laplace(3000, 15, g), laplace(3000, 15, g) + 1),
            15 * math.exp(-1),
        ),
        Case(
            kind,
            "total correlation, Gaussian, scales 20",
            TC,
            ip.Gaussian(),
            lambda g: (scales20(3000, g),),
            20 * scales(1, [0.3, 1.0, 3.0])[1] - of20,
        ),
        Case(
            kind,
            "MI, Gaussian, of a circle",
            MI,
            ip.Gaussian(),
            lambda g: circle(3000, 0.1, g),
            of_circle(0.1),
        ),
    ]


def _shapes() -> list[Case]:
    """Densities that fill less than they seem to."""
    kind, inf = "thin", -math.inf

    def rank(n: int, r: int, d: int, noise: float = 0.0) -> Draw:
        mixing = planted(r, d, 1.0, 5)
        return lambda g: (normal(n, r, g) @ mixing + noise * normal(n, d, g),)

    def sphere(g: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(3000, 5, g)
        return (x / x.norm(dim=1, keepdim=True),)

    def bent(g: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(3000, 2, g)
        return (torch.cat([x, x.square(), x.sin()], 1),)

    def function(g: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(2000, 3, g)
        return x, (x @ planted(3, 1, 1.0, 3)).tanh()

    return [
        Case(kind, "MI of x and tanh of it, 3 + 1", MI, KNN, function, math.inf),
        Case(kind, "MI of x and tanh of it, 3 + 1, chosen", MI, None, function, math.inf),
        *(
            Case(kind, f"rank {r} in {d}, {name}", H, estimator, rank(2000, r, d), inf)
            for r, d, name, estimator in (
                (3, 10, "raw", KNN),
                (3, 10, "calibrated", GAUSS),
                (5, 8, "copula", COPULA),
                (2, 6, "transport", ip.Gaussianization()),
                (2, 6, "Gaussian", ip.Gaussian()),
            )
        ),
        Case(
            kind,
            "rank 3 in 10, float32",
            H,
            KNN,
            lambda g: (rank(2000, 3, 10)(g)[0].float(),),
            inf,
        ),
        Case(kind, "rank 4 in 6, copula", H, COPULA, rank(2000, 4, 6), inf),
        Case(kind, "a sphere in 5", H, KNN, sphere, inf),
        Case(kind, "a sphere in 5, copula", H, COPULA, sphere, inf),
        Case(kind, "x, x^2 and sin x", H, KNN, bent, inf),
        Case(kind, "x, x^2 and sin x, copula", H, COPULA, bent, inf),
        Case(kind, "x, x^2 and sin x, transport", H, ip.Gaussianization(), bent, inf),
        *(
            Case(
                kind,
                f"pixels {d}, {levels} levels, {name}",
                H,
                estimator,
                single(partial(pixels, 3000, d, 0.9, levels)),
                of_pixels(d, 0.9, levels),
            )
            for d, levels, name, estimator in (
                (36, 2, "calibrated", GAUSS),
                (36, 2, "copula", COPULA),
                (36, 16, "calibrated", GAUSS),
                (16, 4, "calibrated", GAUSS),
                (16, 4, "copula", COPULA),
                (25, 3, "raw", KNN),
                (16, 4, "transport", ip.Gaussianization()),
                (16, 4, "Gaussian", ip.Gaussian()),
            )
        ),
    ]


def _far() -> list[Case]:
    kind = "far apart"

    def shifted(n: int, d: int, by: float) -> Draw:
        return lambda g: (normal(n, d, g), normal(n, d, g) + by)

    def widened(n: int, d: int, by: float) -> Draw:
        return lambda g: (by * normal(n, d, g), normal(n, d, g))

    return [
        Case(kind, "N(0) and N(20), d=4", KL, KNN, shifted(2000, 4, 20), 800),
        Case(kind, "N(0) and N(10), d=2", KL, KNN, shifted(1000, 2, 10), 100),
        Case(kind, "N(0) and N(7), d=1", KL, KNN, shifted(2000, 1, 7), 24.5),
        Case(kind, "N(0) and N(20), d=4, calibrated", KL, GAUSS, shifted(2000, 4, 20), 800),
        Case(kind, "50 times as wide", KL, KNN, widened(2000, 2, 50), 2499 - 2 * math.log(50)),
        Case(kind, "6 times as wide", KL, KNN, widened(2000, 2, 6), 35 - 2 * math.log(6)),
        Case(
            kind,
            "uniform on neighbouring boxes",
            KL,
            KNN,
            lambda g: (uniform(2000, 2, g), uniform(2000, 2, g) + 1),
            math.inf,
        ),
        Case(
            kind,
            "uniform on overlapping boxes",
            KL,
            KNN,
            lambda g: (uniform(3000, 1, g), uniform(3000, 1, g) + 0.3),
            math.inf,
        ),
        Case(
            kind,
            "critic, N(0) and N(8), d=2",
            KL,
            ip.Critic("dv", steps=1000),
            shifted(3000, 2, 8),
            64,
        ),
        Case(
            kind,
            "Gaussianization, boxes",
            KL,
            ip.Gaussianization(),
            lambda g: (uniform(3000, 2, g), uniform(3000, 2, g) + 1),
            math.inf,
        ),
        Case(
            kind,
            "histogram, N(0) and N(5)",
            KL,
            ip.Histogram(64, (-8.0, 13.0)),
            shifted(5000, 1, 5),
            12.5,
        ),
        Case(
            kind,
            "cross-entropy, N(0) and N(20), d=4",
            "cross_entropy",
            KNN,
            shifted(2000, 4, 20),
            800 + 4 * GAUSSIAN,
        ),
    ]


def _transport() -> list[Case]:
    kind, found = "transport", []
    g9, flow = ip.Gaussianization(), ip.Flow(steps=400)
    for clusters, d, width, name, estimator in (
        (10, 30, 3.0, "Gaussianization", g9),
        (10, 30, 3.0, "Flow", flow),
        (5, 20, 2.0, "Gaussianization", g9),
        (30, 10, 4.0, "Gaussianization", g9),
    ):
        sample, truth = mixture(planted(clusters, d, width, 7))
        found.append(
            Case(
                kind,
                f"mixture of {clusters} in {d}, {name}",
                H,
                estimator,
                single(partial(sample, 5000)),
                truth,
            )
        )

    def banana(n: int, d: int, g: torch.Generator) -> Tensor:
        x = normal(n, d, g)
        x[:, 1::2] += x[:, ::2] ** 2
        return x

    def turned_banana(n: int, d: int, g: torch.Generator) -> Tensor:
        rotation: Tensor = torch.linalg.qr(planted(d, d, 1.0, 3)).Q
        return banana(n, d, g) @ rotation

    def rings(n: int, d: int, g: torch.Generator) -> Tensor:
        x = normal(n, d, g)
        thick: Tensor = x / x.norm(dim=1, keepdim=True) * (1 + 0.05 * normal(n, 1, g))
        return thick

    area = math.log(2) + 2.5 * math.log(math.pi) - math.lgamma(2.5)
    return [
        *found,
        Case(kind, "banana 30", H, g9, lambda g: (turned_banana(4000, 30, g),), 30 * GAUSSIAN),
        Case(kind, "banana 10", H, g9, lambda g: (turned_banana(4000, 10, g),), 10 * GAUSSIAN),
        Case(
            kind,
            "a thick sphere in 5",
            H,
            g9,
            lambda g: (rings(4000, 5, g),),
            area + GAUSSIAN + math.log(0.05),
        ),
        Case(kind, "spiral 3 + 3", MI, g9, lambda g: spiral(4000, 3, 1 / 3, g), of_pairs(0.8, 2)),
        Case(
            kind,
            "Student 5 + 5, 2",
            MI,
            g9,
            lambda g: student_pair(4000, 5, 2, g),
            of_student(5, 2),
        ),
    ]


ENTROPIES = [*_dimensions(), *_shapes(), *_far(), *_transport()]
