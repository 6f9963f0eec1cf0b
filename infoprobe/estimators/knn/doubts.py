"""Findings on samples that coincide, nearly coincide, or lie where there are none of the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from infoprobe.estimators.knn.atoms import copies, near_copies, tied
from infoprobe.estimators.knn.scaling import spreads
from infoprobe.findings import Finding
from infoprobe.neighbors import Metric, nearest_neighbors

# The share of samples from which copies, near copies and ties are worth a finding. Copies with a
# little noise move an estimate by about half as many nats.
_COPIES, _NEAR_COPIES = 0.005, 0.03
_TIES = 0.02
# The share of the samples of p that may lie where q has none, and from how many times the distance
# among those of q on they do; and how many more may than those of q are apart from each other,
# beyond so many standard errors.
_BEYOND, _APART, _MORE, _CERTAIN = 0.05, 3.0, 0.01, 4.0


def of_copies(variables: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Findings on rows that occur again, exactly or nearly."""
    factors, names = list(variables.values()), ", ".join(variables)
    share = float((copies(factors) > 0).double().mean())
    if share >= _COPIES:
        yield Finding(
            "warning",
            f"{share:.1%} of the rows are copies of other rows, which look like information",
            share,
            "Remove the copies, such as those of a second epoch.",
            names,
            code="copied-samples",
        )
    yield from of_near_copies(factors, names, "which look like information")


def of_near_copies(factors: Sequence[Tensor], names: str, effect: str) -> Iterator[Finding]:
    """A finding if rows nearly occur again.

    Arguments:
        factors: The variables (n, d_f) whose rows they are.
        names: The names of the arguments.
        effect: What such rows do, the end of a sentence.
    """
    share = float(near_copies(factors))
    if share >= _NEAR_COPIES:
        yield Finding(
            "warning",
            f"about {share:.1%} of the rows, or more, are copies of other rows but for rounding "
            f"or a little noise, {effect}",
            share,
            "Remove the copies, such as those of a second epoch or of augmentation.",
            names,
            code="copied-samples",
        )


def of_ties(variables: Mapping[str, Tensor], k: int) -> Iterator[Finding]:
    """Findings on variables that are constant, or not continuous."""
    for name, x in variables.items():
        share = float(tied(x, k).double().mean())
        if bool((x == x[0]).all()):
            yield Finding(
                "warning",
                "it is constant, and tells nothing",
                1.0,
                "Check where it is from.",
                name,
                code="constant-variable",
            )
        elif share >= _TIES:
            yield Finding(
                "warning",
                f"{share:.1%} of its samples equal at least k={k} others, so that it is taken for "
                "a mixture of a discrete and a continuous variable",
                share,
                "If it stands for a continuous variable that was rounded, dequantise it.",
                name,
                code="mixed-variable",
            )


def of_distance(p: Tensor, q: Tensor, k: int, metric: Metric) -> Iterator[Finding]:
    """A finding if samples of p lie where q has none.

    They are several times as far from samples of q as these are from each other. In heavy tails,
    samples of q are so far from each other, too; where more of p are, q falls off faster than its
    samples can show, as a Gaussian does against a Laplace distribution.
    """
    scale = spreads(p)
    p, q = p / scale, q / scale
    nearest = nearest_neighbors(q, k, p, metric=metric)
    own = nearest_neighbors(q, k, metric=metric)
    radii = own.distances[:, -1]

    def apart(distances: Tensor, indices: Tensor) -> float:
        return float((distances[:, -1] > _APART * radii[indices].amax(1)).double().mean())

    share, of_q = apart(*nearest), apart(*own)
    noise = math.sqrt(share / len(p) + of_q / len(q))
    if share >= _BEYOND or share - of_q > max(_MORE, _CERTAIN * noise):
        yield Finding(
            "warning",
            f"{share:.1%} of the samples of the first lie where the second has none nearby: the "
            "divergence is larger than its estimate, and may be infinite",
            share,
            "Take it for a lower bound, or compare fewer features.",
            "p, q",
            code="distant-samples",
        )
