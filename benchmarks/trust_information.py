"""Hard cases of information: other units, curved dependence, few samples and copies.

Each kind has several cases: other distributions, scales, dimensions, numbers of samples and
estimators with the same flaw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from trust_data import (
    CMI,
    COPULA,
    GAUSSIAN,
    KL,
    KNN,
    MI,
    TC,
    Case,
    Draw,
    H,
    blobs,
    channel,
    circle,
    groups,
    labels,
    mapped,
    normal,
    of_channel,
    of_circle,
    of_pairs,
    of_student,
    pair,
    planted,
    same,
    some_twice,
    spiral,
    student_pair,
    times,
    twice,
    uniform,
)

import infoprobe as ip


def _simple() -> list[Case]:
    """The plainest call, of pairs and of independent variables."""
    kind = "plain"

    def asked(name: str, draw: Draw, truth: float) -> Case:
        return Case(kind, name, MI, None, draw, truth)

    exp, ndtr = torch.exp, torch.special.ndtr
    return [
        asked("normal pair 0.75, n=10,000", lambda g: pair(10_000, 1, 0.75, g), of_pairs(0.75)),
        asked(
            "lognormal and uniform pair 0.9, n=1,000",
            mapped(lambda g: pair(1000, 1, 0.9, g), exp, ndtr),
            of_pairs(0.9),
        ),
        asked(
            "normal pair 0.5 times 1e-6, n=300",
            mapped(lambda g: pair(300, 1, 0.5, g), lambda x: x * 1e-6, same),
            of_pairs(0.5),
        ),
        asked("normal pair 0.999, n=2,000", lambda g: pair(2000, 1, 0.999, g), of_pairs(0.999)),
        *(
            asked(f"independent, n={n:,}", partial(pair, n, 1, 0.0), 0.0)
            for n in (200, 1000, 10_000)
        ),
        asked(
            "independent uniform 3 and normal 2, n=500",
            lambda g: (uniform(500, 3, g), normal(500, 2, g)),
            0.0,
        ),
        asked(
            "5 + 5, two pairs, n=10,000", lambda g: pair(10_000, 5, 0.8, g, 2), of_pairs(0.8, 2)
        ),
        asked(
            "15 + 15, four pairs, n=3,000", lambda g: pair(3000, 15, 0.7, g, 4), of_pairs(0.7, 4)
        ),
        asked(
            "8 + 8 cubed, three pairs, n=5,000",
            mapped(lambda g: pair(5000, 8, 0.8, g, 3), lambda x: x**3, torch.asinh),
            of_pairs(0.8, 3),
        ),
        asked(
            "two labels that tell nothing", lambda g: (normal(1000, 3, g), labels(1000, 2, g)), 0
        ),
        asked(
            "integers: a noisy channel",
            lambda g: channel(5000, 4, 0.7, g),
            of_channel(4, 0.7),
        ),
    ]


def _units() -> list[Case]:
    """Quantities that do not depend on units."""
    kind, found = "units", []
    for name, factor in (
        ("1,000", 1e3),
        ("1e-11", 1e-11),
        ("1e12", 1e12),
        ("-3 (mirrored)", -3.0),
    ):
        draw = mapped(lambda g: pair(3000, 1, 0.8, g), times(factor), same)
        found.append(Case(kind, f"MI, x times {name}", MI, KNN, draw, of_pairs(0.8)))
    units = torch.tensor([1e4, 1.0, 1e-5], dtype=torch.float64)
    shift = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64)
    return [
        *found,
        Case(
            kind,
            "KL, features scaled by 1e4, 1, 1e-5",
            KL,
            KNN,
            lambda g: (normal(3000, 3, g) * units, (normal(3000, 3, g) + shift) * units),
            3 / 8,
        ),
        Case(
            kind,
            "KL, one feature scaled by 1e4, 1.5 times as wide",
            KL,
            KNN,
            lambda g: (normal(3000, 2, g) * units[:2], 1.5 * normal(3000, 2, g) * units[:2]),
            math.log(1.5**2) + 1 / 1.5**2 - 1,
        ),
        Case(
            kind,
            "CMI, z scaled by 1e6",
            CMI,
            KNN,
            lambda g: (*pair(3000, 1, 0.8, g), 1e6 * normal(3000, 1, g)),
            of_pairs(0.8),
        ),
        Case(
            kind,
            "TC, features scaled by 1e4, 1",
            TC,
            KNN,
            lambda g: (torch.cat(pair(3000, 1, 0.8, g), 1) * units[:2],),
            of_pairs(0.8),
        ),
        Case(
            kind,
            "entropy, features scaled by 1e4, 1, 1e-5",
            H,
            KNN,
            lambda g: (normal(3000, 3, g) * units,),
            3 * GAUSSIAN + float(units.log().sum()),
        ),
        Case(
            kind,
            "labels, features scaled by 1e3 and 1",
            MI,
            KNN,
            mapped(groups(3000, 3, 2, 20), lambda x: x * units[:2], same),
            math.log(3),
        ),
        Case(
            kind,
            "critic, x times 1e5",
            MI,
            ip.Critic(steps=1500),
            mapped(lambda g: pair(4000, 1, 0.8, g), lambda x: x * 1e5 + 7, same),
            of_pairs(0.8),
        ),
    ]


def _told_perfectly() -> list[Case]:
    kind = "told perfectly"
    return [
        Case(kind, "ten labels", MI, KNN, groups(2000, 10, 1, 30), math.log(10)),
        Case(kind, "three labels, 5 features", MI, KNN, groups(900, 3, 5, 30), math.log(3)),
        Case(kind, "forty labels", MI, KNN, groups(2000, 40, 2, 30), math.log(40)),
        Case(
            kind,
            "ten labels by bins",
            MI,
            ip.Histogram(64, over="samples"),
            groups(2000, 10, 1, 60),
            math.log(10),
        ),
    ]


def _critic() -> list[Case]:
    kind, short = "critic", ip.Critic(steps=2000)

    def cubed(g: torch.Generator) -> tuple[Tensor, ...]:
        x, y = pair(6000, 1, 0.8, g)
        return x**5, y**5

    return [
        Case(
            kind,
            "Student 2 + 2, 1",
            MI,
            short,
            lambda g: student_pair(10_000, 2, 1, g),
            of_student(2, 1),
        ),
        Case(
            kind,
            "Student 1 + 1, 1",
            MI,
            short,
            lambda g: student_pair(10_000, 1, 1, g),
            of_student(1, 1),
        ),
        Case(kind, "fifth powers of a pair 0.8", MI, short, cubed, of_pairs(0.8)),
        Case(
            kind,
            "pairs 10 + 10, 0.9",
            MI,
            short,
            lambda g: pair(3000, 10, 0.9, g),
            of_pairs(0.9, 10),
        ),
        Case(kind, "copies 4", MI, short, twice(lambda g: pair(500, 1, 0, g), 4), 0),
        Case(kind, "copies 8", MI, short, twice(lambda g: pair(500, 2, 0, g), 8), 0),
        Case(
            kind,
            "a third comes twice",
            MI,
            short,
            some_twice(lambda g: pair(900, 2, 0, g), 0.33),
            0,
        ),
        Case(
            kind,
            "few samples of 20 + 20",
            MI,
            short,
            lambda g: pair(300, 20, 0.5, g),
            of_pairs(0.5, 20),
        ),
    ]


def _copulas() -> list[Case]:
    kind, found = "copula", []
    for d, freedom, n in ((5, 2, 10_000), (3, 1, 3000), (8, 3, 4000)):
        for name, estimator in (("raw", KNN), ("copula", COPULA)):
            found.append(
                Case(
                    kind,
                    f"Student {d} + {d}, {freedom}, {name}",
                    MI,
                    estimator,
                    partial(student_pair, n, d, freedom),
                    of_student(d, freedom),
                )
            )
    for d, speed, n in ((3, 1 / 3, 10_000), (5, 1 / 5, 10_000), (3, 1.0, 3000), (4, 0.5, 5000)):
        for name, estimator in (("raw", KNN), ("copula", COPULA)):
            found.append(
                Case(
                    kind,
                    f"spiral {d} + {d}, speed {speed:.2f}, n={n:,}, {name}",
                    MI,
                    estimator,
                    partial(spiral, n, d, speed),
                    of_pairs(0.8, 2),
                )
            )
    for name, estimator in (("raw", KNN), ("copula", COPULA)):
        found += [
            Case(
                kind,
                f"circle, {name}",
                MI,
                estimator,
                lambda g: circle(3000, 0.1, g),
                of_circle(0.1),
            ),
            Case(kind, f"clusters and which, {name}", MI, estimator, blobs, math.log(6)),
        ]
    return found


def _functions() -> list[Case]:
    """Variables of which one is a function of the other, in many dimensions."""
    kind, ndtr = "functions", torch.special.ndtr

    def told(d: int, f: Callable[[Tensor], Tensor], first: Callable[[Tensor], Tensor]) -> Draw:
        mixing = torch.linalg.qr(planted(d, d, 1.0, 3)).Q

        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x = first(normal(2000, d, g))
            return x, f(x @ mixing)

        return drawn

    def among(d: int, g: torch.Generator) -> tuple[Tensor, ...]:
        x, y = normal(2000, d, g), normal(2000, d, g)
        y[:, 0] = x[:, 1].tanh()
        return x, y

    leaky = partial(torch.nn.functional.leaky_relu, negative_slope=0.1)
    draws: dict[str, Draw] = {
        "tanh of 10 mixed features": told(10, torch.tanh, same),
        "tanh of 10 mixed uniform features": told(10, torch.tanh, ndtr),
        "10 features and a rotation of them": told(10, same, same),
        "leaky ReLU of 20 mixed features": told(20, leaky, same),
        "a feature and tanh of it among noise, 4 + 4": partial(among, 4),
        "a feature and tanh of it among noise, 12 + 12": partial(among, 12),
    }
    return [
        Case(kind, f"{name}, {how}", MI, estimator, draw, math.inf)
        for name, draw in draws.items()
        for how, estimator in (("raw", KNN), ("chosen", None))
    ]


INFORMATION = [
    *_simple(),
    *_units(),
    *_told_perfectly(),
    *_critic(),
    *_copulas(),
    *_functions(),
]
