"""Clean cases, on which nothing should be found."""

from __future__ import annotations

import math
from typing import Any

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
    H,
    groups,
    normal,
    of_pairs,
    pair,
    uniform,
)

import infoprobe as ip


def _clean() -> list[Case]:
    kind, odd = "clean", ip.Histogram(65, (-6.0, 6.0), pseudocount=1)
    of_odd = math.log(1.3) + 1 / (2 * 1.3**2) - 0.5
    h = ip.Histogram(512, (0.0, 1.0), over="samples")

    def symbols(g: torch.Generator) -> tuple[Tensor, ...]:
        x = torch.randint(0, 512, (20_000, 1), generator=g)
        return (x.double() / 512,)

    def gaussian(d: int, estimator: Any, n: int = 2000) -> Case:
        name = f"entropy, N(0, I), d={d}, {estimator!r:.40}"
        return Case(kind, name, H, estimator, lambda g: (normal(n, d, g),), d * GAUSSIAN)

    return [
        gaussian(2, KNN),
        gaussian(3, KNN),
        gaussian(1, KNN, 500),
        gaussian(50, GAUSS),
        gaussian(10, GAUSS, 500),
        gaussian(50, COPULA),
        gaussian(5, ip.Gaussian()),
        gaussian(100, ip.Gaussian()),
        gaussian(5, ip.Gaussianization()),
        gaussian(10, ip.Gaussianization(), 500),
        Case(
            kind,
            "default histogram of 100,000 values",
            H,
            ip.Histogram(),
            lambda g: (normal(100_000, 1, g),),
            GAUSSIAN + math.log(16),  # on bins of 1/16
        ),
        Case(kind, "k-NN MI 1 + 1, 0.8", MI, KNN, lambda g: pair(1000, 1, 0.8, g), of_pairs(0.8)),
        Case(kind, "k-NN MI 1 + 1, independent", MI, KNN, lambda g: pair(400, 1, 0, g), 0),
        Case(
            kind,
            "chosen MI 3 + 3, 0.5",
            MI,
            None,
            lambda g: pair(1000, 3, 0.5, g),
            of_pairs(0.5, 3),
        ),
        Case(kind, "chosen MI 20 + 20, independent", MI, None, lambda g: pair(1000, 20, 0, g), 0),
        Case(
            kind,
            "chosen MI 10 + 10, 0.8",
            MI,
            None,
            lambda g: pair(800, 10, 0.8, g),
            of_pairs(0.8, 10),
        ),
        Case(kind, "k-NN TC of 3", TC, KNN, lambda g: (normal(1000, 3, g),), 0),
        Case(
            kind,
            "k-NN CMI",
            CMI,
            KNN,
            lambda g: (*pair(1000, 1, 0.5, g), normal(1000, 1, g)),
            of_pairs(0.5),
        ),
        Case(
            kind,
            "k-NN KL, d=2",
            KL,
            KNN,
            lambda g: (normal(1000, 2, g), normal(1200, 2, g) + 0.5),
            0.25,
        ),
        Case(
            kind,
            "calibrated KL, d=10",
            KL,
            GAUSS,
            lambda g: (normal(1000, 10, g), 1.2 * normal(1000, 10, g)),
            5 * (1 / 1.44 - 1 + math.log(1.44)),
        ),
        Case(kind, "k-NN entropy, uniform, d=2", H, KNN, lambda g: (uniform(2000, 2, g),), 0),
        Case(
            kind,
            "k-NN entropy, exponential",
            H,
            KNN,
            lambda g: (-(1 - uniform(2000, 1, g)).log(),),
            1,
        ),
        Case(
            kind,
            "histogram KL, odd bins",
            KL,
            odd,
            lambda g: (
                normal(20_000, 1, g).clamp(-6, 6),
                (1.3 * normal(20_000, 1, g)).clamp(-6, 6),
            ),
            of_odd,
        ),
        Case(kind, "Ross MI of ten classes", MI, KNN, groups(1000, 10, 1, 10), math.log(10)),
        Case(
            kind,
            "critic at 0.57",
            MI,
            ip.Critic(steps=800),
            lambda g: pair(4000, 2, 0.659, g),
            of_pairs(0.659, 2),
        ),
        Case(kind, "samples with 512 symbols", H, h, symbols, math.log(512)),
        Case(
            kind,
            "pairs of 8 x 8 symbols",
            MI,
            ip.Histogram(8, (0.0, 1.0), over="samples"),
            lambda g: (uniform(5000, 1, g), uniform(5000, 1, g)),
            0,
        ),
    ]


CLEAN = _clean()
