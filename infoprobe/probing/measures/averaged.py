"""What the measures that are averages over prompts or over positions have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.sequences.outcomes import Outcome
from infoprobe.findings import Finding
from infoprobe.probing.kept.averages import Average
from infoprobe.probing.measures.base import Reading


def findings_on(average: Average, what: str, needed: int = 0) -> Iterator[Finding]:
    """What a reader should know of numbers that were left out.

    Arguments:
        average: The average of the others.
        what: What the numbers are about, in the plural: ``"prompts"`` or ``"positions"``.
        needed: How many tokens a prompt must have, if those with fewer are worth a finding.
    """
    total = int(average.kinds.sum())
    few, empty, improper, not_finite = (
        average.of_outcome(kind)
        for kind in (Outcome.FEW, Outcome.EMPTY, Outcome.IMPROPER, Outcome.NOT_FINITE)
    )
    if few and needed:
        yield Finding(
            "warning",
            f"{few:,} of {total:,} {what} have fewer than {needed} tokens that count, and were "
            "left out",
            few / total,
            "Pass longer ones.",
            code="few-tokens",
        )
    if empty:
        yield Finding(
            "warning",
            f"{empty:,} of {total:,} {what} were left out, for their tokens are all zero, or do "
            "not differ",
            empty / total,
            "Choose layers at which tokens differ.",
            code="tokens-without-extent",
        )
    if improper:
        yield Finding(
            "error",
            f"the attention of {improper:,} of {total:,} {what} does not add up to 1, as under "
            "dropout, and they were left out",
            improper / total,
            "Call model.eval() before.",
            code="no-distribution",
        )
    if not_finite:
        yield Finding(
            "error",
            f"{not_finite:,} of {total:,} {what} hold NaN or infinite values, and were left out",
            not_finite / total,
            "Find the first layer with this finding: the values arise there.",
            code="not-finite",
        )


def reading_of(average: Average, what: str) -> Reading:
    """The average as a reading.

    Raises:
        ValueError: There is nothing to average.
    """
    if not math.isfinite(average.mean):
        raise ArgumentValueError("x", f"It has no value: no {what} are left.")
    if average.groups < 2:
        return Reading(average.mean, ["It has no standard error: there is one prompt only."])
    return Reading(average.mean, [], average.stderr)
