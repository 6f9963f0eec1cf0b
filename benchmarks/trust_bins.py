"""Hard cases of bins: too many, too few, squeezed by outliers, or finer than the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from trust_data import (
    GAUSSIAN,
    KL,
    MI,
    Case,
    H,
    labels,
    normal,
    of_pairs,
    own_rounding,
    pair,
    same,
    uniform,
    with_outliers,
)

import infoprobe as ip


def _bins() -> list[Case]:
    kind = "bins"
    samples = {bins: ip.Histogram(bins, over="samples") for bins in (4, 8, 16)}
    inside = (-5.0, 5.0)

    def sign(g: torch.Generator) -> tuple[Tensor, Tensor]:
        x = normal(2000, 3, g)
        return x, (x[:, :1] > 0).double()

    return [
        Case(kind, "4 + 4 independent, 8 bins", MI, samples[8], lambda g: pair(1000, 4, 0, g), 0),
        Case(kind, "6 + 6 independent, 4 bins", MI, samples[4], lambda g: pair(3000, 6, 0, g), 0),
        Case(
            kind,
            "3 + 2 independent uniform, 16 bins",
            MI,
            samples[16],
            lambda g: (uniform(2000, 3, g), uniform(2000, 2, g)),
            0,
        ),
        Case(
            kind,
            "1 + 1 independent, 256 bins",
            MI,
            ip.Histogram(),
            lambda g: pair(500, 1, 0, g),
            0,
        ),
        Case(
            kind,
            "labels and 5 binned features, nothing told",
            MI,
            samples[8],
            lambda g: (normal(1000, 5, g), labels(1000, 10, g)),
            0,
        ),
        *(
            Case(
                kind, f"outliers {outliers}", H, ip.Histogram(), with_outliers(n, outliers), truth
            )
            for n, outliers, truth in (
                (20_000, [1e6], GAUSSIAN - math.log(10 / 256)),
                (50_000, [-3e4, 2e5], GAUSSIAN - math.log(10 / 256)),
                (5000, [1e9] * 4, GAUSSIAN - math.log(10 / 256)),
            )
        ),
        Case(
            kind,
            "outliers in both, KL",
            KL,
            ip.Histogram(pseudocount=1),
            lambda g: (*with_outliers(9999, [1e6])(g), 2 * with_outliers(9999, [1e6])(g)[0] + 2),
            1.5,
        ),
        Case(
            kind,
            "an outlier, MI",
            MI,
            ip.Histogram(32),
            lambda g: tuple(torch.cat([x, x[:1] * 0 + 1e6]) for x in pair(20_000, 1, 0.8, g)),
            of_pairs(0.8),
        ),
        *(
            Case(
                kind,
                f"KL of {name} and itself in {dtype}, {bins} bins".replace("torch.", ""),
                KL,
                ip.Histogram(bins, pseudocount=1),
                own_rounding(f, dtype),
                0.0,
            )
            for name, f, dtype, bins in (
                ("sigmoid", torch.sigmoid, torch.bfloat16, 512),
                ("tanh", torch.tanh, torch.bfloat16, 1000),
                ("normal", same, torch.float16, 4096),
                ("exp", torch.exp, torch.bfloat16, 1024),
            )
        ),
        Case(kind, "I(X; sign) by 30 bins", MI, samples[8], sign, math.log(2)),
        Case(
            kind,
            "KL, edge at zero, mass near it",
            KL,
            ip.Histogram(64, (-1.0, 1.0), pseudocount=1),
            lambda g: (1e-4 * normal(5000, 1, g).abs(), -1e-4 * normal(5000, 1, g).abs()),
            0.0,
        ),
        Case(
            kind,
            "200 bins for 300 values",
            H,
            ip.Histogram(200, (0.0, 1.0)),
            lambda g: (uniform(300, 1, g),),
            math.log(200),
        ),
        Case(
            kind, "16 x 16, n=200", MI, ip.Histogram(16, inside), lambda g: pair(200, 1, 0, g), 0
        ),
        Case(
            kind,
            "12 x 12, n=300, uniform",
            MI,
            ip.Histogram(12, (0.0, 1.0)),
            lambda g: (uniform(300, 1, g), uniform(300, 1, g)),
            0,
        ),
        Case(
            kind,
            "samples: entropy of 6 features, 16 bins",
            H,
            samples[16],
            lambda g: (normal(2000, 6, g),),
            6 * (GAUSSIAN + math.log(16 / 8)),
        ),
    ]


BINS = [*_bins()]
