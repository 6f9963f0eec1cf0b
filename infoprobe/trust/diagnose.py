"""What stands in the way of trusting an estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentError, ArgumentTypeError
from infoprobe.estimators.arguments import (
    ENTROPY,
    KL_DIVERGENCE,
    MUTUAL_INFORMATION,
    Arguments,
)
from infoprobe.estimators.protocols import diagnosis, estimate, method_of, offers
from infoprobe.findings import Finding

_ASKED = (ENTROPY, MUTUAL_INFORMATION, KL_DIVERGENCE)


class _Question(NamedTuple):
    """A measure of tensors, to be asked about.

    Attributes:
        of: The measure and what it calls its arguments.
        tensors: The arguments.
        names: What the caller calls them.
    """

    of: Arguments
    tensors: Sequence[Tensor]
    names: tuple[str, ...]


def diagnose(x: Any, *others: Any, estimator: Any = None) -> list[Finding]:
    """Findings on data and an estimator: ``diagnose(x, estimator)`` or ``(x, y, estimator)``.

    Asks the estimator what stands in the way of trusting the entropy of each argument, and of two
    arguments also their mutual information, where they have equally many samples, and their
    relative entropy, where they have equally many features.

    infoprobe's own estimators look for constant features, atoms and ties, too many dimensions for
    nearest neighbours, too few samples for the bins, data that are not Gaussian, kernels that are
    too wide or too narrow; with two arguments also for mutual information and divergences near
    their ceilings, empty shared support and sensitivity to the bins.

    Arguments:
        x: Samples, (n, ...).
        others: Possibly y, the other variable or the other sample; then the estimator.
        estimator: The estimator, if not given last: any that has one of the methods ``entropy``,
            ``mutual_information`` and ``kl_divergence``. One without a method ``diagnose`` only
            says what it refuses: see :mod:`infoprobe.estimators.protocols`.

    Returns:
        Findings, the errors first; empty where nothing stands out. That is no proof: an estimate
        may be wrong for reasons that the data do not show.

    Raises:
        TypeError: There is no estimator, or it has none of these methods.
        ValueError: The samples are empty or not finite.

    Example:
        >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        >>> ip.diagnose(x, ip.KNN())
        []
        >>> for finding in ip.diagnose(x.relu(), ip.KNN()): print(finding.severity, finding.what)
        error 12.3% of the samples coincide with at least k=3 others
        warning 51.0% of the values of a feature are equal
    """
    *given, estimator = (x, *others) if estimator is None else (x, *others, estimator)
    known = any(offers(estimator, asked.measure) for asked in _ASKED)
    if not known or not 1 <= len(given) <= 2:
        raise ArgumentTypeError(
            "estimator",
            "expected one or two tensors and then an estimator such as ip.KNN(), got "
            f"{len(given)} and then an object of type {type(estimator).__name__}.",
        )
    tensors = [checks.as_tensor(tensor, name) for name, tensor in zip("xy", given, strict=False)]
    shapes = [checks.samples(x, name).shape for name, x in zip("xy", tensors, strict=False)]
    found: list[Finding] = []
    errors: dict[Arguments, Exception | None] = {}
    with torch.no_grad():
        for question in _questions(estimator, tensors, shapes):
            found += _answer(estimator, question, errors)
        if errors.get(MUTUAL_INFORMATION, KeyError) is None:  # which is about pairs
            found = [finding for finding in found if finding.code != "paired-samples"]
        if all(finding.severity == "warning" for finding in found):
            found += _refusal(estimator, tensors, shapes, errors)
    return sorted(dict.fromkeys(found), key=lambda finding: finding.severity)


def _questions(
    estimator: object, tensors: Sequence[Tensor], shapes: Sequence[torch.Size]
) -> Iterator[_Question]:
    """The measures of these tensors to ask about, among those that the estimator offers."""
    labels = [len(tensors) == 2 and not tensor.is_floating_point() for tensor in tensors]
    if offers(estimator, ENTROPY.measure):
        for name, tensor, of_labels in zip("xy", tensors, labels, strict=False):
            if not of_labels:
                yield _Question(ENTROPY, [tensor], (name,))
    if len(tensors) == 2:
        (n, d), (m, e) = shapes
        if offers(estimator, MUTUAL_INFORMATION.measure) and n == m:
            yield _Question(MUTUAL_INFORMATION, tensors, ("x", "y"))
        if offers(estimator, KL_DIVERGENCE.measure) and d == e and not any(labels):
            yield _Question(KL_DIVERGENCE, tensors, ("x", "y"))


def _answer(
    estimator: object, question: _Question, errors: dict[Arguments, Exception | None]
) -> Iterator[Finding]:
    """The findings on a measure; the error, if the estimator refuses it, is noted."""
    measure, tensors = question.of.measure, question.tensors
    errors[question.of] = None
    try:
        found = estimate(estimator, measure, *tensors).findings
    except (TypeError, ValueError) as error:
        errors[question.of] = error
        found = diagnosis(estimator, measure, tensors, None)
    for finding in found:
        argument = _renamed(finding.argument, question.of.names, question.names)
        yield finding._replace(argument=argument)


def _renamed(argument: str, names: Sequence[str], others: Sequence[str]) -> str:
    """The argument or arguments by the names that the caller knows."""
    by_name = dict(zip(names, others, strict=True))
    return ", ".join(by_name.get(name, name) for name in argument.split(", "))


def _refusal(
    estimator: object,
    tensors: Sequence[Tensor],
    shapes: Sequence[torch.Size],
    errors: dict[Arguments, Exception | None],
) -> Iterator[Finding]:
    """A finding if the estimator refuses all measures that the tensors may be meant for."""
    meant_for = _meant_for(estimator, shapes)
    for of in meant_for:
        if of not in errors:
            errors[of] = None
            try:
                method_of(estimator, of.measure)(*tensors)
            except (TypeError, ValueError) as error:
                errors[of] = error
    if not meant_for or not all(errors[of] for of in meant_for):
        return
    first, argument = errors[meant_for[0]], ""
    what = str(first)
    if isinstance(first, ArgumentError):
        what = first.problem
        argument = _renamed(first.argument, meant_for[0].names, "xy"[: len(tensors)])
    remedy = "There is no estimate otherwise."
    yield Finding("error", what.rstrip("."), math.nan, remedy, argument, code="refused")


def _meant_for(estimator: object, shapes: Sequence[torch.Size]) -> list[Arguments]:
    """The measures that samples (n, d) of these shapes may be meant for, the likeliest first."""
    measures = [ENTROPY]
    if len(shapes) == 2:
        x, y = shapes
        measures = [KL_DIVERGENCE]
        if x[0] == y[0] and offers(estimator, MUTUAL_INFORMATION.measure):
            measures = [MUTUAL_INFORMATION] if x == y else [MUTUAL_INFORMATION, KL_DIVERGENCE]
    return [of for of in measures if offers(estimator, of.measure)]
