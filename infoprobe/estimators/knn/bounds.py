"""Checks of a value against bounds that are cheap and certain, and against another calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from infoprobe.errors import ArgumentError
from infoprobe.estimators.arguments import (
    CONDITIONAL_MUTUAL_INFORMATION,
    ENTROPY,
    TOTAL_CORRELATION,
    Arguments,
)
from infoprobe.estimators.features import feature_entropies
from infoprobe.estimators.gaussian import Gaussian, require_independent_features
from infoprobe.estimators.hermite import moments
from infoprobe.estimators.knn import drift, measures, student
from infoprobe.estimators.knn.calibration import Bias, bias_of
from infoprobe.estimators.knn.preparation import prepared
from infoprobe.estimators.knn.surrogates import paired
from infoprobe.estimators.knn.workings import Workings
from infoprobe.estimators.ranks import normal_scores
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.knn.knn import KNN

# From how many nats on a value is worth a finding, beyond this many times its noise; and a bias.
_NATS, _NOISE, _LITTLE = 0.1, 4.0, 0.05
# From how many nats of such moments on the surrogates are meaningless.
_MUCH = 1.0
# How many standard deviations of a change are no chance.
_SURE = 3.0
# From which neighbours the entropy of one feature is found.
_NEAR = 3
# From which share of the rest on, what was extrapolated makes information meaningless.
_MOSTLY = 0.5
# In so few dimensions, neighbours are near enough without a calibration.
_FEW = 2


def checks_of(
    knn: KNN,
    arguments: Arguments,
    samples: Mapping[str, Tensor],
    value: float,
    workings: Workings,
) -> Iterator[Finding]:
    """Findings on the value of a measure of variables that were sampled together."""
    tensors = list(samples.values())
    n, d = len(tensors[0]), sum(x.shape[1] for x in tensors)
    if n < d + 3 or any((x == x[0]).all(0).any() for x in tensors):
        return
    slack = _NATS + _NOISE * math.sqrt(d / n)
    if arguments is ENTROPY:
        found = list(_above_bounds(knn, tensors[0], value, slack))
    else:
        found = list(_below_bounds(arguments, tensors, value, slack))
    yield from found
    if found:
        return
    noise = _NOISE * math.sqrt((1 + d / 25) / n)
    if arguments is not ENTROPY:
        slack = _NATS + noise
    if knn.calibration == "gaussian":
        found += _disagreement(knn, arguments, tensors, value, slack)
    if knn.calibration == "copula" or (knn.calibration is None and arguments is not ENTROPY):
        found += _bias(knn, arguments, tensors, value, workings, max(_LITTLE, noise))
    if not found and (knn.calibration is not None or (arguments is not ENTROPY and d > _FEW)):
        found += _unlike_surrogates(knn, arguments, tensors, value)
    if not found and (knn.calibration is None or arguments is CONDITIONAL_MUTUAL_INFORMATION):
        found += _change_with_k(knn, arguments, tensors, slack)
    yield from found


def correction_of(bias: Bias, samples: Mapping[str, Tensor]) -> Iterator[Finding]:
    """A finding if a divergence is corrected by much, as of Gaussian data, which these are not."""
    correction = float(bias.value)
    for name, x in samples.items():
        beyond = moments(x).significant
        if beyond > _NATS and abs(correction) > _NATS:
            yield Finding(
                "warning",
                f"{correction:+.2f} nats are taken off, as of Gaussian data, but moments of third "
                f"and fourth order make these differ by {beyond:.2f} nats",
                beyond,
                "Take the correction for the uncertainty; compare with ip.Gaussianization().",
                name,
                code="unlike-surrogates",
            )


def _above_bounds(knn: KNN, x: Tensor, value: float, slack: float) -> Iterator[Finding]:
    try:
        gaussian = float(Gaussian().entropy(x))
    except ArgumentError:
        return  # Features are redundant, which is found by itself.
    bounds = {
        "the sum of the entropies of its features": float(feature_entropies(x, _NEAR).sum()),
        "the entropy of a Gaussian with its covariance": gaussian,
        "the entropy of elliptical data with its radii": _elliptical(x, gaussian),
    }
    # Features or radii that repeat have no entropy to compare with.
    bounds = {name: bound for name, bound in bounds.items() if math.isfinite(bound)}
    name, bound = min(bounds.items(), key=lambda item: item[1])
    if value > bound + slack and knn.calibration is None:
        # What Gaussian data are missed by is found by itself.
        calibrated = replace(knn, calibration="gaussian", repeats=1)
        slack += max(0.0, float(calibrated.bias("entropy", x).value))
    if value > bound + slack:
        better = "gaussian" if knn.calibration == "copula" else "copula"
        yield Finding(
            "error",
            f"the entropy cannot be above {name}, {bound:.2f} nats, but the estimate is by "
            f"{value - bound:.2f} nats",
            value - bound,
            f"Use KNN(calibration={better!r}), or take the bound.",
            "x",
            code="above-bound",
        )


def _elliptical(x: Tensor, gaussian: float) -> float:
    """The most entropy that samples (n, d) can have, if their covariance and radii are known.

    In polar coordinates, a density is at most uniform on each sphere.
    """
    n, d = x.shape
    centred = x.double() - x.double().mean(0)
    radii = math.sqrt(n - 1) * torch.linalg.qr(centred / centred.std(0)).Q.norm(dim=1)
    logs = radii[radii > 0].log()
    sphere = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
    volume = gaussian - d / 2 * math.log(2 * math.pi * math.e)
    of_radii = float(feature_entropies(logs.unsqueeze(1), _NEAR))
    return of_radii + d * float(logs.mean()) + sphere + volume


def _below_bounds(
    arguments: Arguments, tensors: list[Tensor], value: float, slack: float
) -> Iterator[Finding]:
    bound, name = 0.0, "zero"
    single = arguments is TOTAL_CORRELATION or all(x.shape[1] == 1 for x in tensors)
    if single and len(tensors) < 3:
        # The scores have Gaussian features: given those, a Gaussian has the least dependence.
        scores = [normal_scores(x) for x in tensors]
        try:
            least = float(getattr(Gaussian(), arguments.measure)(*scores))
        except ArgumentError:
            return
        if least > bound:
            bound, name = least, f"that of a Gaussian copula, {least:.2f} nats"
    if value < bound - slack:
        yield Finding(
            "warning",
            f"the information cannot be below {name}, but the estimate is by "
            f"{bound - value:.2f} nats",
            value - bound,
            "Use KNN(calibration='copula'), or take the bound.",
            arguments.all_names,
            code="below-bound",
        )


def _disagreement(
    knn: KNN, arguments: Arguments, tensors: list[Tensor], value: float, slack: float
) -> Iterator[Finding]:
    copula = replace(knn, calibration="copula", repeats=1)
    try:
        other = float(getattr(copula, arguments.measure)(*tensors))
    except ArgumentError:
        return  # Features have ties.
    if arguments is ENTROPY and list(_above_bounds(copula, tensors[0], other, slack)):
        return  # The copula is what is wrong.
    if abs(value - other) > slack:
        yield Finding(
            "warning",
            f"the data are not Gaussian enough for this calibration: 'copula' gives {other:.2f} "
            f"nats, which differs by {value - other:+.2f}",
            value - other,
            "Use KNN(calibration='copula'), and take the difference for the uncertainty.",
            arguments.all_names,
            code="calibrations-differ",
        )


def _bias(
    knn: KNN,
    arguments: Arguments,
    tensors: list[Tensor],
    value: float,
    workings: Workings,
    slack: float,
) -> Iterator[Finding]:
    """What a calibration by a copula takes off an information, or had to extrapolate."""
    bias = workings.bias
    if bias is None:
        copula = replace(knn, calibration="copula", repeats=1)
        measure = measures.MEASURES[arguments.measure]
        try:
            # The ranks alone decide about the raw estimate, with a calibration or without.
            bias = bias_of(copula, measure, prepared(copula, measure, tensors), workings.raw)
        except ArgumentError:
            return  # Features have ties, or are redundant.
    extrapolated, missed = float(bias.extrapolated), float(bias.value)
    if knn.calibration is None and abs(missed) > slack:
        yield Finding(
            "warning",
            f"the estimate misses about {missed:+.2f} nats, as it does of data with a copula like "
            "this",
            missed,
            "Use KNN(calibration='copula'). More samples hardly help.",
            arguments.all_names,
            code="dimension-bias",
        )
    elif knn.calibration is not None and abs(extrapolated) > _NATS:
        rest = math.inf if arguments is ENTROPY else abs(value + extrapolated)
        yield Finding(
            "error" if abs(extrapolated) >= min(_MUCH, _MOSTLY * rest) else "warning",
            f"the data are more curved or clustered than surrogates, and {-extrapolated:+.2f} "
            "nats had to be extrapolated",
            extrapolated,
            "Half as much may still be missing: pass more samples, or fewer features.",
            arguments.all_names,
            code="extrapolated",
        )


def _unlike_surrogates(
    knn: KNN, arguments: Arguments, tensors: list[Tensor], value: float
) -> Iterator[Finding]:
    """A finding if moments tell the data from the surrogates that they are calibrated on."""
    scores = [normal_scores(x.double()) for x in tensors]
    try:
        require_independent_features(torch.cat(scores, 1), arguments.all_names)
        drawn = next(student.fit(scores).draw(1, knn.seed))
        require_independent_features(torch.cat(drawn, 1), arguments.all_names)
    except ArgumentError:
        return
    ours, theirs = (moments(torch.cat(each, 1)) for each in (scores, drawn))
    beyond = ours.beyond(theirs)
    least = min(_MUCH, max(_NATS, value))
    if beyond > _NATS:
        yield Finding(
            "error" if beyond >= (_MUCH if arguments is ENTROPY else least) else "warning",
            "moments of third and fourth order show about "
            f"{beyond:.2f} nats of dependence that surrogates do not have",
            beyond,
            "Neighbours and surrogates may miss it or double it: compare with ip.KNN(), ip.Flow() "
            "or ip.Critic(), and take the difference for the uncertainty.",
            arguments.all_names,
            code="unlike-surrogates",
        )


def _change_with_k(
    knn: KNN, arguments: Arguments, tensors: list[Tensor], slack: float
) -> Iterator[Finding]:
    """A finding if the estimate depends on how many neighbours are looked at."""
    measure, raw = measures.MEASURES[arguments.measure], replace(knn, calibration=None)
    samples = prepared(raw, measure, tensors)
    if arguments is not ENTROPY:
        samples = [normal_scores(x.double()) for x in samples]
    try:
        require_independent_features(torch.cat(samples, 1), arguments.all_names)
    except ArgumentError:
        return
    surrogate = next(paired(samples, 1, knn.seed))
    data, like = ((each, measure.raw(raw, *each)) for each in (samples, surrogate))
    excess, deviation = drift.change(raw, measure, data, like)
    at_stake = abs(excess)
    # At edges of the density, the error grows with the distance of neighbours.
    times = drift.amplification(samples[0].shape[1], 1) if arguments is ENTROPY else 1.0
    if times > 1 and excess > _SURE * deviation:
        at_stake, slack = times * excess, min(slack, _NATS + _NOISE * deviation)
    if at_stake > slack:
        yield Finding(
            "warning",
            f"from {drift.MORE * knn.k} instead of {knn.k} neighbours, the estimate is by "
            f"{excess:+.2f} nats another than Gaussian data explain: the data have structure that "
            "is finer than the distance of neighbours",
            excess,
            "Pass more samples, and take the difference for the uncertainty.",
            arguments.all_names,
            code="changes-with-k",
        )
