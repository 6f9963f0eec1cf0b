"""What may stand in the way of any estimate from samples, whatever the estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.arguments import (
    ENTROPY,
    MUTUAL_INFORMATION,
    TOTAL_CORRELATION,
    Arguments,
)
from infoprobe.estimators.feature_pairs import unseen_dependence
from infoprobe.estimators.few_features import beyond_few_features
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
    below = any(finding.code == "below-bound" for finding in found)
    if arguments is MUTUAL_INFORMATION and not below:
        unseen = list(unseen_dependence(value, *tensors))
        if has_density and not unseen:
            x, y = (checks.samples(v, name) for v, name in zip(tensors, "xy", strict=True))
            unseen += beyond_few_features(value, x, y)
        found += unseen
    return found
