"""Hard cases of single features, small differences, labels, conditions, series and few samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
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
    Case,
    Draw,
    H,
    channel,
    normal,
    of_channel,
    of_pairs,
    pair,
    planted,
)

import infoprobe as ip

Curve = Callable[[Tensor], Tensor]


def of_channel_with(mean: Curve, width: Curve) -> float:
    """The information of a normal x and mean(x) + width(x) times noise, on a grid."""
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    x = torch.special.ndtri(u)
    m, s = mean(x), width(x) + 0 * x
    y = torch.linspace(float((m - 8 * s).min()), float((m + 8 * s).max()), 20_001).double()
    density = torch.zeros_like(y)
    for a, b in zip(torch.split(m, 50), torch.split(s, 50), strict=True):
        z = (y - a.unsqueeze(1)) / b.unsqueeze(1)
        density += ((-z.square() / 2).exp() / b.unsqueeze(1)).sum(0)
    density /= len(x) * math.sqrt(2 * math.pi)
    entropy = -torch.trapezoid(torch.xlogy(density, density), y)
    return float(entropy - s.log().mean()) - GAUSSIAN


def _single() -> list[Case]:
    """Functions of one feature among several, with noise."""
    kind, found = "single features", []
    noise = torch.full((), 0.3, dtype=torch.float64)

    def told(d: int, n: int, mean: Curve, width: Curve) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x = normal(n, d, g)
            return x, mean(x[:, :1]) + width(x[:, :1]) * normal(n, 1, g)

        return drawn

    def steady(x: Tensor) -> Tensor:
        return noise.expand_as(x)

    for name, d, n, mean, width in (
        ("sin 4x", 5, 2000, lambda x: (4 * x).sin(), steady),
        ("sin 3x", 20, 2000, lambda x: (3 * x).sin(), steady),
        ("sin 8x", 20, 2000, lambda x: (8 * x).sin(), steady),
        ("the square", 10, 1000, torch.square, steady),
        ("the square", 30, 2000, torch.square, steady),
        ("|x|", 15, 3000, torch.abs, steady),
        ("noise as wide as it", 15, 2000, torch.zeros_like, lambda x: 0.1 + x.abs()),
        ("a step", 25, 1500, lambda x: 2.0 * (x.abs() > 1), steady),
    ):
        truth = of_channel_with(mean, width)
        for how, estimator in (("chosen", None), ("raw", KNN), ("critic", ip.Critic(steps=1000))):
            draw = told(d, n, mean, width)
            found.append(Case(kind, f"{name} of one of {d}, {how}", MI, estimator, draw, truth))
    return found


def _small() -> list[Case]:
    """Information in what nearly equal features differ by."""
    kind, found = "small differences", []
    rotation = torch.linalg.qr(planted(6, 6, 1.0, 9)).Q
    widths = torch.tensor([1e3, 1e2, 10, 1, 0.1, 0.01], dtype=torch.float64)

    def difference(g: torch.Generator) -> tuple[Tensor, ...]:
        x, small = normal(1000, 1, g), normal(1000, 1, g)
        both = torch.cat([x, x + 1e-3 * small, normal(1000, 2, g)], 1)
        return both, small + 0.5 * normal(1000, 1, g)

    def axes(f: Curve) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            z = normal(1500, 6, g)
            return (z * widths) @ rotation, f(z[:, 4:]) + 0.5 * normal(1500, 2, g)

        return drawn

    half = torch.full((), 0.5, dtype=torch.float64)
    bent = of_channel_with(lambda x: (2 * x).sin(), half.expand_as)
    for name, draw, truth in (
        ("of two features", difference, math.log(5) / 2),
        ("small axes", axes(lambda z: z), math.log(5)),
        ("small axes, bent", axes(lambda z: (2 * z).sin()), 2 * bent),
    ):
        for how, estimator in (("chosen", None), ("raw", KNN), ("critic", ip.Critic(steps=1000))):
            found.append(Case(kind, f"{name}, {how}", MI, estimator, draw, truth))

    def nearly(g: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(1000, 3, g)
        return (torch.cat([x, x[:, :2] + 1e-4 * normal(1000, 2, g)], 1),)

    truth = 5 * GAUSSIAN + 2 * math.log(1e-4)
    for how, estimator in (("raw", KNN), ("calibrated", GAUSS), ("copula", COPULA)):
        found.append(
            Case(kind, f"entropy, two copies but for 1e-4, {how}", H, estimator, nearly, truth)
        )
    return found


def _classes() -> list[Case]:
    """Labels, in many dimensions."""

    def shifted(n: int, d: int, by: float, scale: float = 1.0) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            label = torch.arange(n) % 2
            x = normal(n, d, g) * torch.where(label == 1, scale, 1.0).unsqueeze(1)
            x[:, 0] += by * label
            return x, label

        return drawn

    return [
        Case("labels", "2 apart, 20 features", MI, None, shifted(1000, 20, 2), 0.3368),
        Case("labels", "2 apart, 60 features", MI, None, shifted(1000, 60, 2), 0.3368),
        Case("labels", "2 apart, 150 features", MI, None, shifted(1000, 150, 2), 0.3368),
        Case("labels", "3 times as wide, 10 features", MI, None, shifted(1000, 10, 0, 3), 0.689),
        Case("labels", "2 times as wide, 30 features", MI, None, shifted(1500, 30, 0, 2), 0.692),
        Case("labels", "independent, 20 features", MI, None, shifted(1000, 20, 0), 0.0),
    ]


def _others() -> list[Case]:
    """Conditions that bend, series in time, and few samples."""
    found = []

    def given(f: Curve, d: int, width: float) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            z = normal(1500, d, g)
            common = f(z)
            return common + width * normal(1500, 1, g), common + width * normal(1500, 1, g), z

        return drawn

    for name, draw in (
        ("sin 5z", given(lambda z: (5 * z).sin(), 1, 0.1)),
        ("the square of one of 5", given(lambda z: z[:, :1].square(), 5, 0.3)),
        ("the length of 8", given(lambda z: z.norm(dim=1, keepdim=True), 8, 0.1)),
    ):
        for how, estimator in (("chosen", None), ("raw", KNN)):
            name_of = f"both tell {name}, {how}"
            found.append(Case("conditions", name_of, CMI, estimator, draw, 0.0))

    def series(n: int, d: int, a: float, g: torch.Generator) -> Tensor:
        x = normal(n, d, g)
        for i in range(1, n):
            x[i] = a * x[i - 1] + math.sqrt(1 - a * a) * x[i]
        return x

    estimators: dict[str, Any] = {"raw": KNN, "calibrated": GAUSS, "Gaussian": ip.Gaussian()}
    for how, by in estimators.items():
        found += [
            Case(
                "series",
                f"entropy, {how}",
                H,
                by,
                lambda g: (series(400, 2, 0.98, g),),
                2 * GAUSSIAN,
            ),
            Case(
                "series",
                f"KL of the same, {how}",
                KL,
                by,
                lambda g: (series(500, 2, 0.98, g), series(500, 2, 0.98, g)),
                0.0,
            ),
        ]
    return [
        *found,
        *(
            Case("few samples", f"{d} + {d}, n={n}", MI, None, partial(pair, n, d, rho), truth)
            for n, d, rho, truth in (
                (8, 1, 0.8, of_pairs(0.8)),
                (20, 1, 0.8, of_pairs(0.8)),
                (40, 5, 0.6, of_pairs(0.6, 5)),
                (150, 60, 0.3, of_pairs(0.3, 60)),
            )
        ),
    ]


def _loose() -> list[Case]:
    """Dependence that a critic learns slowly."""
    width, keep = 0.3, 0.8

    def told(n: int, f: Curve, scale: float = width) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x = normal(n, 30, g)
            return x, f(x) + scale * normal(n, 1, g)

        return drawn

    def product(x: Tensor) -> Tensor:
        return x[:, :1] * x[:, 1:2]

    def symbols(k: int, written: Curve) -> Draw:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x, y = channel(2000, k, keep, g)
            return written(x), written((7 * y + 3) % k)

        return drawn

    def hot(k: int) -> Curve:
        return lambda x: torch.nn.functional.one_hot(x, k).double()

    # Given the first factor, a product is normal, and wide where it is large.
    y = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    a = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)
    variances = (a.square() + width**2).unsqueeze(1)
    density = ((-y.square() / (2 * variances)).exp() / (2 * math.pi * variances).sqrt()).mean(0)
    of_product = -float(torch.trapezoid(torch.xlogy(density, density), y)) - GAUSSIAN
    of_product -= math.log(width)
    critic = ip.Critic()
    return [
        Case("loose bounds", f"the product of two of 30, n={n}", MI, critic, draw, of_product)
        for n in (1000, 2000, 5000)
        for draw in [told(n, product)]
    ] + [
        Case("loose bounds", f"{k} symbols as {name}", MI, critic, draw, of_channel(k, keep))
        for k in (10, 20, 30)
        for name, draw in (
            ("numbers", symbols(k, lambda x: x.double().unsqueeze(1))),
            ("integers", symbols(k, lambda x: x.unsqueeze(1))),
            ("one-hot vectors", symbols(k, hot(k))),
        )
    ]


FEATURES = [*_single(), *_small(), *_classes(), *_others(), *_loose()]
