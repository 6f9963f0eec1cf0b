"""What may stand in the way of any estimate from samples, whatever the estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.arguments import (
    ENTROPY,
    KL_DIVERGENCE,
    MUTUAL_INFORMATION,
    TOTAL_CORRELATION,
    Arguments,
)
from infoprobe.estimators.feature_pairs import unseen_dependence
from infoprobe.estimators.feature_subsets import dependence_of_few, difference_of_few
from infoprobe.estimators.serial import dependent_samples
from infoprobe.estimators.surfaces import on_a_surface
from infoprobe.findings import Finding


def with_doubts(
    own: Sequence[Finding],
    arguments: Arguments,
    tensors: Sequence[Any],
    value: float,
    *,
    has_density: bool,
) -> list[Finding]:
    """The findings of an estimator, and those on samples that any estimator has.

    Arguments:
        own: What the estimator has found.
        arguments: The arguments of the measure.
        tensors: What they are.
        value: The estimate, in nats.
        has_density: Whether the estimator takes the variables for continuous ones.
    """
    found = list(own)
    if arguments.of_pairs:
        found += dependent_samples(*tensors[:2])
    elif isinstance(tensors[0], Tensor):
        for name, x in zip(arguments.names, tensors, strict=True):
            found += (each._replace(argument=name) for each in dependent_samples(x, x))
        if has_density and arguments in (ENTROPY, TOTAL_CORRELATION):
            certain = list(on_a_surface(checks.samples(tensors[0], "x"), "x"))
            found = [x for x in found if not certain or x.code != "thin-data"] + certain
        if arguments is KL_DIVERGENCE and has_density and math.isfinite(value):
            found += difference_of_few(value, *tensors)
    below = any(finding.code == "below-bound" for finding in found)
    if arguments is MUTUAL_INFORMATION and not below:
        unseen = list(unseen_dependence(value, *tensors))
        found += unseen or dependence_of_few(value, *tensors)
    return found
