"""Findings on pairs of views that are the same as others."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from infoprobe.estimators.alike import kinds
from infoprobe.estimators.knn.atoms import copies
from infoprobe.findings import Finding

# The share of pairs from which copies are worth a finding.
_COPIES = 0.005

# If no more than this share of pairs are different, and each view always comes with the same other
# one, samples have come again, or the layer has few different outputs.
_FEW = 0.5

# Views whose values differ by less than this share of them are the same up to rounding.
_ROUNDING = 8 * torch.finfo(torch.float32).eps


def of_same_pairs(pairs: Tensor) -> Iterator[Finding]:
    """Findings on pairs (n, 2, d) that do not vary, or that occur again.

    A constant view shares nothing with the other, and neither the value nor its error shows that
    no other samples were seen. Copies cannot be told from each other, and count as independent.
    """
    spread = pairs.amax(0) - pairs.amin(0)
    if bool((spread <= _ROUNDING * pairs.abs().amax(0)).all(1).any()):
        yield Finding(
            "warning",
            "a view is the same for all samples, so that the value is 0 and its error is empty",
            1.0,
            "Check whether the samples differ; if they do, the layer does not tell them apart.",
            code="constant-variable",
        )
        return
    rows = pairs.flatten(1)
    which, first, second = (kinds(x) for x in (rows, pairs[:, 0], pairs[:, 1]))
    representatives = torch.zeros_like(which)
    representatives[which] = torch.arange(len(rows), device=rows.device)
    share = float((copies([rows[representatives[which]]]) > 0).double().mean())
    if share >= _COPIES:
        yield Finding(
            "warning",
            f"{share:.1%} of the pairs are copies of others, from which no view can tell them, "
            "so that the value is too low and its error too small",
            share,
            "Remove the copies, such as those of a second epoch.",
            code="copied-samples",
        )
        return
    number = 1 + int(which.max())
    repeats = 1 < number <= _FEW * len(rows)
    if repeats and int(first.max()) == int(second.max()) == number - 1:
        yield Finding(
            "warning",
            f"only {number:,} of the {len(rows):,} pairs are different, and each view always "
            "comes with the same other one: if these are samples that came again, they count as "
            "independent, and the error is too small",
            number / len(rows),
            "Pass each sample once; of a layer with few different outputs, nothing needs to be "
            "done.",
            code="copied-samples",
        )
