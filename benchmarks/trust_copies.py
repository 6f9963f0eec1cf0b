"""Hard cases of few samples and of copies."""

from __future__ import annotations

import math

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
    labels,
    laplace,
    normal,
    of_laplace,
    of_pairs,
    pair,
    planted,
    rounded,
    some_twice,
    twice,
)

import infoprobe as ip


def _few() -> list[Case]:
    kind = "few"

    def tokens(k: int, d: int, n: int, noise: float = 0.0) -> Draw:
        a, b = planted(k, d, 1.0, 1), planted(k, d, 1.0, 2)

        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            which = torch.randint(0, k, (n,), generator=g)
            return a[which] + noise * normal(n, d, g), b[which] + noise * normal(n, d, g)

        return drawn

    exact = math.log(200)
    return [
        Case(kind, "200 symbols in 48 + 48", MI, ip.Gaussian(), tokens(200, 48, 2000), exact),
        Case(kind, "200 symbols in 48 + 48, k-NN", MI, KNN, tokens(200, 48, 2000), exact),
        Case(kind, "200 symbols in 48 + 48, chosen", MI, None, tokens(200, 48, 2000), exact),
        Case(kind, "20 symbols in 10 + 10", MI, ip.Gaussian(), tokens(20, 10, 1000), math.log(20)),
        Case(
            kind,
            "50 symbols with little noise",
            MI,
            ip.Gaussian(),
            tokens(50, 30, 2000, 1e-3),
            math.log(50),
        ),
        Case(kind, "n=120 of 50 + 50", MI, ip.Gaussian(), lambda g: pair(120, 50, 0, g), 0),
        Case(
            kind,
            "n=60 of 40, shrunk",
            H,
            ip.Gaussian("ledoit-wolf"),
            lambda g: (normal(60, 40, g) @ planted(40, 40, 1.0, 4),),
            40 * GAUSSIAN + float(torch.linalg.slogdet(planted(40, 40, 1.0, 4)).logabsdet),
        ),
        Case(kind, "n=30 of 10", H, KNN, lambda g: (laplace(30, 10, g),), of_laplace(10)),
        Case(kind, "n=60 of 5 + 5", MI, None, lambda g: pair(60, 5, 0.8, g), of_pairs(0.8, 5)),
    ]


def _copies() -> list[Case]:
    kind = "copies"

    def alone(n: int, d: int = 1) -> Draw:
        return lambda g: pair(n, d, 0, g)

    def labelled(g: torch.Generator) -> tuple[Tensor, ...]:
        return normal(800, 2, g), labels(800, 3, g)

    def three(g: torch.Generator) -> tuple[Tensor, ...]:
        return normal(800, 1, g), normal(800, 1, g), normal(800, 1, g)

    def near(g: torch.Generator) -> tuple[Tensor, ...]:
        x, y = pair(800, 1, 0, g)
        return torch.cat([x, x + 1e-7]), torch.cat([y, y + 1e-7])

    def half(g: torch.Generator) -> tuple[Tensor, ...]:
        x, y = pair(800, 2, 0, g)
        return torch.cat([x, rounded(x, torch.bfloat16)]), torch.cat(
            [y, rounded(y, torch.float16)]
        )

    def noisy(n: int, d: int, share: float, noise: float) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            both = pair(n, d, 0, g)
            m = int(share * n)
            return tuple(torch.cat([v, v[:m] + noise * normal(m, d, g)]) for v in both)

        return drawn

    def first(draw: Draw) -> Draw:
        return lambda g: draw(g)[:1]

    with_noise = [
        Case(kind, f"{name} with a little noise, {how}", measure, by, draw, truth)
        for name, n, d, share, noise in (
            ("a tenth twice", 1000, 1, 0.1, 1e-3),
            ("a tenth twice in 5 + 5", 1000, 5, 0.1, 1e-2),
            ("half of them twice", 1000, 2, 0.5, 1e-3),
            ("twice", 600, 3, 1.0, 1e-2),
        )
        for how, measure, by, draw, truth in (
            ("raw", MI, KNN, noisy(n, d, share, noise), 0.0),
            ("chosen", MI, None, noisy(n, d, share, noise), 0.0),
            ("transport", MI, ip.Gaussianization(), noisy(n, d, share, noise), 0.0),
            ("critic", MI, ip.Critic(steps=1000), noisy(n, d, share, noise), 0.0),
            ("entropy", H, KNN, first(noisy(n, d, share, noise)), d * GAUSSIAN),
        )
    ]
    return [
        *with_noise,
        Case(kind, "twice", MI, KNN, twice(alone(1000), 2), 0),
        Case(kind, "twice, variant 2", MI, ip.KNN(variant=2), twice(alone(1000), 2), 0),
        Case(kind, "twice, chosen", MI, None, twice(alone(1000, 3), 2), 0),
        Case(kind, "five times, k=3", MI, KNN, twice(alone(400, 2), 5), 0),
        Case(kind, "twice, labels", MI, KNN, twice(labelled, 2), 0),
        Case(kind, "twice, conditional", CMI, KNN, twice(three, 2), 0),
        Case(
            kind, "twice, total correlation", TC, KNN, twice(lambda g: (normal(1000, 3, g),), 2), 0
        ),
        Case(kind, "twice, copula", MI, COPULA, twice(alone(1000), 2), 0),
        Case(kind, "a tenth twice", MI, KNN, some_twice(alone(1000), 0.1), 0),
        Case(kind, "half of them twice", MI, KNN, some_twice(alone(1000), 0.5), 0),
        Case(kind, "nearly twice", MI, KNN, near, 0),
        Case(kind, "twice in half precision", MI, KNN, half, 0),
        Case(
            kind, "twice, entropy", H, KNN, twice(lambda g: (normal(1000, 2, g),), 2), 2 * GAUSSIAN
        ),
        Case(
            kind,
            "twice, KL",
            KL,
            KNN,
            lambda g: twice(lambda g: (normal(900, 2, g), normal(900, 2, g)), 2)(g),
            0,
        ),
        Case(
            kind,
            "twice, transport",
            H,
            ip.Gaussianization(),
            twice(lambda g: (normal(1000, 2, g),), 2),
            2 * GAUSSIAN,
        ),
        Case(
            kind,
            "p is part of q",
            KL,
            KNN,
            lambda g: (lambda x: (x[:1000], x))(normal(2000, 2, g)),
            0,
        ),
        Case(
            kind,
            "pairs of a layer",
            KL,
            KNN,
            lambda g: (lambda x: (x, 1.1 * x))(normal(2000, 3, g)),
            1.5 * (1 / 1.21 - 1 + math.log(1.21)),
        ),
        Case(
            kind,
            "pairs of a layer, calibrated",
            KL,
            GAUSS,
            lambda g: (lambda x: (x, 1.5 * x + 0.1))(normal(2000, 10, g)),
            5 * (1 / 2.25 - 1 + math.log(2.25)) + 0.1**2 * 10 / 4.5,
        ),
        Case(
            kind,
            "pairs of a layer, critic",
            KL,
            ip.Critic("dv", steps=500),
            lambda g: (lambda x: (x, 1.5 * x))(normal(2000, 3, g)),
            1.5 * (1 / 2.25 - 1 + math.log(2.25)),
        ),
    ]


COPIES = [*_few(), *_copies()]
