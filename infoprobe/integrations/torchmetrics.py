"""Measures as objects of torchmetrics, for Lightning's ``self.log`` and its synchronisation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from infoprobe import checks, functional
from infoprobe.integrations.needed import needed

with needed("torchmetrics", "InformationMetric"):
    import torchmetrics
from infoprobe.arrays import ArrayLike

Measure = Literal[
    "entropy",
    "cross_entropy",
    "kl_divergence",
    "js_divergence",
    "mutual_information",
    "conditional_mutual_information",
    "total_correlation",
]

_ARGUMENTS = ("first", "second", "third")


class InformationMetric(torchmetrics.Metric):
    """A measure of all samples that :meth:`update` was given since the last ``reset()``.

    It keeps the samples of all batches, so its memory grows with the data. For long runs, a probe
    with :meth:`~infoprobe.Probe.track` has bounded memory.

    Arguments:
        measure: The name of a plain function, such as ``"mutual_information"``.
        estimator: The estimator, as for that function.
        settings: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> from infoprobe.integrations.torchmetrics import InformationMetric
        >>> metric = InformationMetric("mutual_information")
        >>> for _ in range(5):
        ...     x = torch.randn(200, 1)
        ...     metric.update(x, x + torch.randn(200, 1))
        >>> metric.compute() > 0.2  # the truth is 0.35
        tensor(True)
    """

    full_state_update: bool | None = False

    def __init__(self, measure: Measure, estimator: object = None, **settings: Any) -> None:
        super().__init__(**settings)
        checks.require_one_of(measure, Measure.__args__, "measure")  # type: ignore[attr-defined]
        self.measure: Measure = measure
        self.estimator = estimator
        self._function = getattr(functional, measure)
        for name in _ARGUMENTS:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, *tensors: ArrayLike) -> None:
        """Adds the samples of a batch.

        Arguments:
            tensors: The arguments of the plain function, each with samples along its first axis.
        """
        for name, tensor in zip(_ARGUMENTS, tensors, strict=False):
            getattr(self, name).append(checks.as_tensor(tensor, name).detach())

    def compute(self) -> Tensor:
        """Returns the measure of all samples, a scalar in nats."""
        parts = [getattr(self, name) for name in ("first", "second", "third")]
        joined = [
            torch.cat(part) if isinstance(part, list) else part for part in parts if len(part)
        ]
        arguments = joined if self.estimator is None else [*joined, self.estimator]
        value: Tensor = self._function(*arguments)
        return value
