"""What stands in the way of trusting an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentError, ArgumentTypeError
from infoprobe.estimators.arguments import (
    ARGUMENTS,
    ENTROPY,
    KL_DIVERGENCE,
    MUTUAL_INFORMATION,
    TOTAL_CORRELATION,
    Arguments,
    arguments_of,
)
from infoprobe.estimators.protocols import diagnosis, estimate_without_error, offers
from infoprobe.findings import Finding

# What the caller calls the arguments.
_NAMES = "xyz"


def diagnose(
    x: ArrayLike, *others: object, estimator: object = None, measure: str | None = None
) -> list[Finding]:
    """Findings on a measure of data: ``diagnose(x, estimator)`` or ``(x, y, estimator)``.

    Asks the estimator what stands in the way of trusting its measure of these data, and no other
    measure: whoever asks about information learns nothing of divergences.

    infoprobe's own estimators look for constant features, atoms and ties, too many dimensions for
    nearest neighbours, too few samples for the bins, data that are not Gaussian, kernels that are
    too wide or too narrow, mutual information and divergences near their ceilings, empty shared
    support, bins that a few values decide and sensitivity to the bins. ``docs/trust.md`` lists
    the codes of all findings.

    Arguments:
        x: Samples, (n, ...).
        others: Possibly the other variables or the other sample; then the estimator.
        estimator: The estimator, if not given last. One without a method ``diagnose`` only
            says what it refuses: see ``infoprobe.estimators.protocols``.
        measure: The name of the measure, such as ``"kl_divergence"``. By default, of one tensor
            it is the entropy (or else the total correlation), and of two tensors their mutual
            information if they have equally many samples and the estimator offers it, or else
            their relative entropy.

    Returns:
        Findings, the errors first; empty where nothing stands out. That is no proof, since an
        estimate may be wrong for reasons that the data do not show.

    Raises:
        TypeError: There is no estimator, or it has no measure of this many tensors.
        ValueError: The samples are empty or not finite, or there is no such measure.

    Example:
        >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        >>> ip.diagnose(x, ip.KNN())
        []
        >>> for finding in ip.diagnose(x.relu(), ip.KNN()): print(finding.severity, finding.what)
        error 12.3% of the samples coincide with at least k=3 others
        warning 51.0% of the values of a feature are equal
    """
    *given, estimator = (x, *others) if estimator is None else (x, *others, estimator)
    named = [checks.as_tensor(tensor, name) for name, tensor in zip(_NAMES, given, strict=False)]
    asked = _asked(estimator, given, named, measure)
    for name, tensor in zip(_NAMES, named, strict=False):
        checks.samples(tensor, name)
    with torch.no_grad():
        found, refusal = _answer(estimator, asked, named)
    if refusal and all(finding.severity == "warning" for finding in found):
        found.append(refusal)
    return sorted(dict.fromkeys(found), key=lambda finding: finding.severity)


def _asked(
    estimator: object, given: Sequence[Any], tensors: Sequence[Tensor], measure: str | None
) -> Arguments:
    """The measure that is asked about."""
    offered = [name for name in ARGUMENTS if offers(estimator, name)]
    if measure is not None and offered:
        return arguments_of(measure, offered, given)
    likeliest: list[Arguments] = []
    if len(given) == 1:
        likeliest = [ENTROPY, TOTAL_CORRELATION]
    elif len(given) == 2 and checks.length(tensors[0]) != checks.length(tensors[1]):
        likeliest = [KL_DIVERGENCE, MUTUAL_INFORMATION]
    elif len(given) == 2:
        likeliest = [MUTUAL_INFORMATION, KL_DIVERGENCE]
    asked = [arguments for arguments in likeliest if arguments.measure in offered]
    if not asked:
        raise ArgumentTypeError(
            "estimator",
            "expected one or two tensors and then an estimator that has a measure of them, such "
            f"as ip.KNN(), got {len(given)} and then an object of type "
            f"{type(estimator).__name__}. Of three tensors, name the measure: "
            "measure='conditional_mutual_information'.",
        )
    return asked[0]


def _answer(
    estimator: object, asked: Arguments, tensors: Sequence[Tensor]
) -> tuple[list[Finding], Finding | None]:
    """The findings on a measure, and the error of an estimator that refuses it."""
    try:
        found = estimate_without_error(estimator, asked.measure, *tensors).findings
        refusal: Finding | None = None
    except (TypeError, ValueError) as error:
        refusal, found = _refusal(error), []
        try:
            if not asked.of_pairs or len({len(x) for x in tensors}) == 1:
                found = diagnosis(estimator, asked.measure, tensors, None)
        except (TypeError, ValueError):  # it needs what the estimator has just refused
            pass
    by_name = dict(zip(asked.names, _NAMES, strict=False))

    def renamed(finding: Finding) -> Finding:
        names = [by_name.get(name, name) for name in finding.argument.split(", ")]
        return finding._replace(argument=", ".join(names))

    return [renamed(finding) for finding in found], refusal and renamed(refusal)


def _refusal(error: Exception) -> Finding:
    what, argument = str(error), ""
    if isinstance(error, ArgumentError):
        what, argument = error.problem, error.argument
    remedy = "There is no estimate otherwise."
    return Finding("error", what.rstrip("."), math.nan, remedy, argument, code="refused")
