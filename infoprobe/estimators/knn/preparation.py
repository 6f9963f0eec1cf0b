"""What nearest neighbours need of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.knn import measures
from infoprobe.estimators.knn.atoms import require_no_atoms, require_no_copies
from infoprobe.estimators.knn.measures import KNNMeasure
from infoprobe.estimators.ranks import normal_scores

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN


def prepared(knn: KNN, measure: KNNMeasure, tensors: Sequence[Any]) -> list[Tensor]:
    """The samples (n, d) that a measure takes, or an error that says what is wrong with them."""
    samples = measure.arguments.samples(tensors)
    names = measure.arguments.all_names
    if not measure.differentiable:
        samples = {name: x.detach() for name, x in samples.items()}
    if measure.arguments.independent:
        checks.require_spread(samples["p"], names, samples["q"])
    else:
        _require_enough(knn, names, *samples.values())
    for name, x in samples.items():
        _require_enough(knn, name, x)
        _require_continuous(knn, x, name, measure)
    if measure.arguments.of_pairs:
        require_no_copies(list(samples.values()), knn.k, names)
    if knn.calibration != "copula":
        return list(samples.values())
    if measure.arguments.independent:
        raise ArgumentValueError(
            "calibration",
            "expected None or 'gaussian' for two samples, got 'copula': no "
            "ranks are common to both. Use calibration='gaussian'.",
        )
    return [normal_scores(x) for x in samples.values()]


def _require_enough(knn: KNN, name: str, *samples: Tensor) -> None:
    n, d = len(samples[0]), sum(x.shape[1] for x in samples)
    if n <= knn.k:
        raise ArgumentValueError(
            name,
            f"expected more than k={knn.k} samples, got {n}. Pass more samples, or a smaller k.",
        )
    if knn.calibration is not None and n < d + 3:
        raise ArgumentValueError(
            name,
            f"expected at least d + 3 = {d + 3:,} samples for a calibration, got "
            f"{n:,}. Pass more samples, fewer features, or calibration=None.",
        )


def _require_continuous(knn: KNN, x: Tensor, name: str, measure: KNNMeasure) -> None:
    if measure.differentiable or knn.calibration == "gaussian":
        checks.require_spread(x, name)
    if not measure.arguments.of_pairs:
        checks.require_varying(x, name)
    if measure is measures.TOTAL_CORRELATION:
        require_no_copies(torch.split(x, 1, 1), knn.k, name)
    elif measure is measures.ENTROPY and knn.calibration == "copula":
        require_no_atoms(torch.split(x, 1, 1), knn.k, name)
