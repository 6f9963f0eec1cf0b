"""Samples that came one after the other, and are not independent of those before them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.ranks import standard_ranks
from infoprobe.findings import Finding

# From how many dependent samples on, in place of one independent one, there is a finding.
_INFLATED = 2.0
# With fewer, independent samples of hundreds of features come near that by chance.
_LEAST = 128
# The most classes that labels may have, and how many standard deviations of chance do not count.
_CLASSES, _CHANCE = 64, 4.0


def dependent_samples(x: Any, y: Any) -> Iterator[Finding]:
    """A finding if samples resemble those before them in both x and y, (n, ...) each.

    Both may be the same, for a measure of one variable. Labels often come class by class, which
    says nothing of time. So one of the two may be labels, and then the other must resemble what
    comes before it within each class, as tokens of one sequence do, which have one label.

    Trends and slow oscillations of two variables that have nothing to do with each other coincide
    by chance, which looks like information. By Bartlett's formula, the variance of the
    correlation of two series is 1 + 2 sum_k r(k) s(k) times what it is for independent samples,
    where r(k) and s(k) are the correlations of each series with itself, k samples earlier.

    Source: M. S. Bartlett, "Some aspects of the time-correlation problem in regard to tests of
    significance", Journal of the Royal Statistical Society 98 (1935).
    """
    variables = [checks.as_tensor(x, "x"), checks.as_tensor(y, "y")]
    n = checks.length(variables[0])
    if n < _LEAST:
        return
    labels = [v for v in variables if not v.is_floating_point()]
    if labels:
        samples = [checks.samples(v, "x") for v in variables if v.is_floating_point()]
        classes = _classes(labels[0]) if len(samples) == 1 else None
        if classes is None:
            return
        means = (classes.T @ samples[0].double()) / classes.sum(0).unsqueeze(1)
        variables = [samples[0].double() - classes @ means, classes]
    of_x = of_y = _autocorrelations(checks.samples(variables[0], "x"))
    if x is not y:
        of_y = _autocorrelations(checks.samples(variables[1], "y")).to(of_x.device)
    # Labels in long blocks resemble each other for long, and by chance the others do, too.
    chance = 2 * _CHANCE * float(of_y.norm(dim=1).max()) / math.sqrt(n) if labels else 0.0
    inflation = 1 + 2 * float((of_x @ of_y.T).max()) - chance
    if inflation >= _INFLATED:
        yield Finding(
            "warning",
            f"samples resemble those before them{'' if x is y else ' in both variables'}, and "
            f"count like about {n / inflation:,.0f} independent ones"
            f"{'' if x is y else ', whose trends may look like information'}",
            inflation,
            "Take samples that are further apart. If independent samples were only sorted, "
            "nothing needs to be done.",
            "x" if x is y else "x, y",
            code="dependent-samples",
        )


def _classes(labels: Tensor) -> Tensor | None:
    """The class of each sample, (n, classes) of 0 and 1; ``None`` if each class is one piece."""
    if labels[0].numel() != 1:
        return None
    kinds, inverse = torch.unique(labels.flatten(), return_inverse=True)
    pieces = 1 + int((inverse.diff() != 0).sum())
    if not 1 < len(kinds) <= min(_CLASSES, pieces - 1):
        return None
    return torch.nn.functional.one_hot(inverse, len(kinds)).double()


def _autocorrelations(x: Tensor) -> Tensor:
    """The rank correlations of each feature with itself, 1 to n / 4 samples earlier: (d, lags).

    They are 0 for a feature that never falls or never rises, since it was sorted.
    """
    n = len(x)
    ranks = standard_ranks(x)
    steps = ranks.diff()
    ranks[(steps >= 0).all(1) | (steps <= 0).all(1)] = 0
    spectrum = torch.fft.rfft(ranks, 2 * n)
    lagged: Tensor = torch.fft.irfft(spectrum.abs().square(), 2 * n) / n
    return lagged[:, 1 : n // 4 + 1]
