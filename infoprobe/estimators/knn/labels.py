"""Mutual information of a continuous variable and integer labels."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.knn import ksg
from infoprobe.estimators.knn.atoms import require_no_copies
from infoprobe.neighbors import Metric


def is_discrete(x: object, name: str) -> bool:
    """Whether an argument holds integers or booleans."""
    return not checks.as_tensor(x, name).is_floating_point()


def terms_with_labels(
    x: object, y: object, k: int, metric: Metric, calibration: str | None
) -> Tensor:
    """A term (n,) for each sample, whose mean is Ross' estimate of the information of x and y.

    One of them holds labels.

    Raises:
        TypeError: Both are discrete.
        ValueError: There is a calibration; labels are no vector; samples are not finite, or
            copies of others; a label has no more than k samples; or x and y differ in n.
    """
    if is_discrete(x, "x") and is_discrete(y, "y"):
        raise ArgumentTypeError(
            "x, y",
            "expected at least one continuous variable, got integers on both sides. "
            "Use ip.Histogram(over='samples') for two discrete variables.",
        )
    if calibration is not None:
        raise ArgumentValueError(
            "calibration",
            f"expected None with labels, got {calibration!r}, which knows "
            "no surrogates of them. Use KNN(calibration=None).",
        )
    if is_discrete(x, "x"):
        names, (labels, samples) = "xy", (x, y)
    else:
        names, (samples, labels) = "yx", (x, y)
    labels = checks.as_tensor(labels, names[0])
    if labels.dim() == 0 or labels.numel() != len(labels):
        raise ArgumentValueError(
            names[0],
            f"expected a vector of integer labels (n,), got integers of shape "
            f"{tuple(labels.shape)}. Of one-hot labels pass argmax(1); of integers that stand "
            "for continuous values, x.double().",
        )
    samples = checks.continuous(samples, names[1])
    labels = labels.to(samples.device).reshape(-1)
    checks.require_same_length(**dict(sorted({names[1]: samples, names[0]: labels}.items())))
    require_no_copies([samples, labels.double().unsqueeze(1)], k, names[1])
    values, sizes = torch.unique(labels, return_counts=True)
    rare = values[sizes <= k].tolist()
    if rare:
        raise ArgumentValueError(
            names[0],
            f"expected more than k={k} samples of each label, but "
            f"{len(rare)} of {len(values)} have no more than that: {', '.join(map(str, rare[:5]))}"
            f"{', ...' if rare[5:] else ''}. Leave them out, or use a smaller k.",
        )
    return ksg.with_labels(samples, labels, k, metric)
