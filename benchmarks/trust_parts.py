"""Hard cases of few features that show more than all, of fine structure and of heavy tails."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from trust_data import KL, KNN, MI, Case, H, laplace, normal, planted, uniform

import infoprobe as ip

JS = "js_divergence"


def _together() -> list[Case]:
    """Labels that a few of many features tell only together."""

    def told(n: int, d: int, of: Callable[[Tensor], Tensor]) -> Case:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x = normal(n, d, g)
            return x, of(x).long()

        return Case("together", f"n={n}, d={d}", MI, None, drawn, math.log(2))

    def named(name: str, case: Case) -> Case:
        return Case(case.kind, f"{name}, {case.name}", MI, None, case.draw, case.truth)

    def turned(x: Tensor) -> Tensor:
        z = x @ torch.linalg.qr(planted(x.shape[1], x.shape[1], 1.0, 3)).Q
        return both_signs(z)

    def both_signs(x: Tensor) -> Tensor:
        return x[:, 0] * x[:, 1] > 0

    def signs(d: int) -> Case:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x = normal(2000, d, g)
            return x, (x[:, :1] * x[:, 1:2]).sign() * normal(2000, 1, g).abs()

        return Case(
            "together", f"the sign of one is that of two of {d}", MI, None, drawn, math.log(2)
        )

    return [
        *(named("two signs", told(n, d, both_signs)) for n in (500, 2000) for d in (6, 12, 30)),
        named("three signs", told(2000, 6, lambda x: x[:, :3].prod(1) > 0)),
        named("three signs", told(2000, 12, lambda x: x[:, :3].prod(1) > 0)),
        named("two signs, rotated", told(2000, 12, turned)),
        named("a ring", told(1000, 12, lambda x: x[:, :2].square().sum(1) > 2 * math.log(2))),
        named("two waves", told(1000, 12, lambda x: (2 * x[:, :2]).sin().prod(1) > 0)),
        named("a width", told(1000, 12, lambda x: x[:, 0].abs() > 0.6744897501960817)),
        named("a fast wave", told(2000, 6, lambda x: (6 * x[:, 0]).sin() > 0)),
        signs(6),
        signs(20),
    ]


def _fine() -> list[Case]:
    """Divergences of structure that is finer than the distance of neighbours."""

    def board(n: int, fields: int, d: int, first: int = 0) -> Case:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            x = uniform(4 * n, d, g)
            black = (x[:, : first or d] * fields).floor().long().sum(1) % 2 == 0
            return x[black][:n], uniform(n, d, g)

        name = f"{first or d} of {d} features in {fields} steps, n={n}"
        return Case("fine", name, KL, KNN, drawn, math.log(2))

    def peaks(n: int, number: int, d: int, width: float) -> Case:
        centres = planted(number, d, 1.0, 99)

        def sample(n: int, g: torch.Generator) -> Tensor:
            return centres[torch.randint(0, number, (n,), generator=g)] + width * normal(n, d, g)

        x = sample(20_000, torch.Generator().manual_seed(5))
        logs = -(x.unsqueeze(1) - centres).square().sum(2) / (2 * width**2)
        of_p = logs.logsumexp(1) - math.log(number) - d * math.log(width)
        truth = float((of_p + x.square().sum(1) / 2).mean())
        name = f"{number} peaks in {d} dimensions, n={n}"
        return Case("fine", name, KL, KNN, lambda g: (sample(n, g), normal(n, d, g)), truth)

    def simplex(n: int, d: int) -> Case:
        def drawn(g: torch.Generator) -> tuple[Tensor, ...]:
            times = -(1 - uniform(n, d + 1, g)).log()
            return ((times / times.sum(1, keepdim=True))[:, :d],)

        return Case(
            "fine", f"the edges of a simplex, d={d}, n={n}", H, KNN, drawn, -math.lgamma(d + 1)
        )

    return [
        board(3000, 12, 2),
        board(3000, 16, 2),
        board(3000, 4, 3),
        board(3000, 40, 2, 1),
        board(2000, 20, 8, 1),
        peaks(1000, 200, 3, 0.1),
        peaks(3000, 200, 5, 0.3),
        simplex(1000, 5),
        simplex(3000, 5),
    ]


def _tails() -> list[Case]:
    """Heavy tails, which stretch bins, and light ones, which leave samples of p alone."""

    def cauchy(n: int, g: torch.Generator) -> Tensor:
        return (math.pi * (uniform(n, 1, g) - 0.5)).tan()

    smooth, minmax = ip.Histogram(pseudocount=1), ip.Histogram(range="minmax", pseudocount=1)
    n = 10_000
    scaled, shifted = math.log(9 / 8), math.log(1 + 0.7**2 / 4)
    of_laplace = math.log(2 * math.pi) / 2 - math.log(2)
    return [
        Case(
            "tails",
            "KL, Cauchy, wider",
            KL,
            None,
            lambda g: (cauchy(n, g), 2 * cauchy(n, g)),
            scaled,
        ),
        Case(
            "tails",
            "KL, Cauchy, smoothed",
            KL,
            smooth,
            lambda g: (cauchy(n, g), cauchy(n, g) + 0.7),
            shifted,
        ),
        Case(
            "tails",
            "KL, Cauchy, minmax",
            KL,
            minmax,
            lambda g: (cauchy(n, g), cauchy(n, g) + 0.7),
            shifted,
        ),
        Case(
            "tails",
            "KL, lognormal",
            KL,
            smooth,
            lambda g: ((3 * normal(n, 1, g)).exp(), (3 * normal(n, 1, g) + 2).exp()),
            2 / 9,
        ),
        Case(
            "tails",
            "JS, Cauchy, 10 apart",
            JS,
            None,
            lambda g: (cauchy(n, g), cauchy(n, g) + 10),
            0.5141,
        ),
        Case(
            "tails",
            "MI, Cauchy and Cauchy added",
            MI,
            ip.Histogram(32),
            lambda g: (lambda x: (x, x + cauchy(n, g)))(cauchy(n, g)),
            math.log(2),
        ),
        Case(
            "tails",
            "KL, Laplace against normal",
            KL,
            KNN,
            lambda g: (laplace(3000, 1, g), normal(3000, 1, g)),
            of_laplace,
        ),
        Case(
            "tails",
            "KL, Laplace against normal, d=2",
            KL,
            KNN,
            lambda g: (laplace(3000, 2, g), normal(3000, 2, g)),
            2 * of_laplace,
        ),
    ]


PARTS = [*_together(), *_fine(), *_tails()]
