"""What each sample contributes to an entropy or an information of symbols."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.arguments import ENTROPY, MUTUAL_INFORMATION, arguments_of
from infoprobe.estimators.histogram.binning import Binning
from infoprobe.estimators.histogram.tabulation import symbols_of

_MEASURES = (ENTROPY.measure, MUTUAL_INFORMATION.measure)


def pointwise(binning: Binning, measure: str, tensors: Sequence[object]) -> Tensor:
    r"""A term (n,) for each sample, whose mean is the plug-in estimate.

    It is :math:`-\ln \hat p(x_i)` for a single variable, whose mean is the entropy, and
    :math:`\ln \hat p(x_i, y_i) - \ln \hat p(x_i) - \ln \hat p(y_i)` for two, whose mean is their
    mutual information.

    Raises:
        TypeError: There are too many or too few tensors.
        ValueError: There is no such measure, the random variable is not a whole sample, or
            samples would be left out.
    """
    arguments = arguments_of(measure, _MEASURES, tensors)
    if binning.over != "samples":
        raise ArgumentValueError(
            "over",
            f"expected 'samples', whose terms are those of samples, got {binning.over!r}. Use "
            "Histogram(over='samples').",
        )
    if binning.outside == "drop":
        raise ArgumentValueError(
            "outside",
            "expected 'raise' or 'clip', got 'drop', by which some samples have no term. Leave "
            "those samples out beforehand.",
        )
    symbols = symbols_of(binning, **dict(zip(arguments.names, tensors, strict=True)))
    alone = torch.stack([_log_frequency(column) for column in symbols]).sum(0)
    return _log_frequency(torch.cat(symbols, 1)) - alone if len(symbols) > 1 else -alone


def _log_frequency(rows: Tensor) -> Tensor:
    """The logarithm of the share of all rows (n, d) that are equal to each."""
    _, inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    logarithms: Tensor = (counts.double() / len(rows)).log()
    return logarithms[inverse]
