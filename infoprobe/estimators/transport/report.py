"""What an estimate through invertible maps reports of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infoprobe.estimators.features import feature_entropies
from infoprobe.findings import Finding

# From how many nats on what a map left, or made worse, is worth a finding.
_LEFT = 0.1
# Which neighbours tell the entropy of a feature.
_NEAR = 3
# How many standard errors an interval of 95 % reaches to each side.
_INTERVAL = 1.96
# From how many nats of moments on; they are beyond doubt, and show a small part of what there is.
_CURVED = 0.02


class UpperBound(NamedTuple):
    """A bound from samples, 0-dim float64 tensors in nats.

    Attributes:
        value: The bound, in expectation not below the truth.
        stderr: Its standard error.
    """

    value: Tensor
    stderr: Tensor


@dataclass(frozen=True, eq=False)
class Transported:
    r"""A variable and the maps that carry it, each fitted without the samples that it measures.

    Attributes:
        maps: One for each fold: modules whose ``forward(x)`` gives :math:`z = f(x)`, (n, d), and
            :math:`\ln |\det J_f|`, (n,), and whose ``inverse(z)`` gives the same of the inverse.
        n_fit: How many samples each map was fitted to; the least of all folds.
        n_stop: How many other samples told it when to stop; the least of all folds.
        n: How many samples were measured, in all folds.
        d: How many features they have.
        bound: The held-out negative log-likelihood :math:`-E \ln q(X)` of the density
            :math:`q(x) = \varphi(f(x))\, |\det J_f(x)|` that a map makes of a standard Gaussian
            one: an upper bound of h(X) in expectation.
        gain: By how many nats this bound is below the bound that a Gaussian with the mean and
            covariance of the same samples gives.
        gain_stderr: The standard error of the gain, in nats.
        entropy: :math:`h(X)` itself, 0-dim float64. It is below the bound by what the residual
            estimator finds: by how much mean and covariance of f(X) are off, and by its
            negentropy.
        negentropy: How much less entropy f(X) has than a Gaussian with its covariance, in nats,
            as far as the residual estimator sees it.
        curvature: The negentropy that moments of third and fourth order show in f(X), in nats,
            of those orders where it is beyond chance (:mod:`~infoprobe.estimators.hermite`).
            Where both are near 0, nothing is left to find.
    """

    maps: tuple[nn.Module, ...]
    n_fit: int
    n_stop: int
    n: int
    d: int
    bound: UpperBound
    gain: float
    gain_stderr: float
    entropy: Tensor
    negentropy: float
    curvature: float

    def findings(self, name: str) -> list[Finding]:
        """What stands in the way of trusting a number that was measured after this transport."""
        found = []
        seen = self.negentropy >= _LEFT + 2 * float(self.bound.stderr)
        if seen or self.curvature >= _CURVED:
            more = ""
            if self.curvature >= _CURVED:
                more = (
                    f", and about {self.curvature:.2f} by its moments of third and fourth order, "
                    "which overstate large values"
                )
            found.append(
                Finding(
                    "warning",
                    f"the map left {self.negentropy:.2f} nats of negentropy by the residual "
                    f"estimator{more}",
                    max(self.negentropy, self.curvature),
                    "The entropy may be too high by several times as much, and nothing bounds by "
                    "how much: compare with ip.KNN(calibration='copula') and ip.Flow(), and take "
                    "the difference for the uncertainty.",
                    name,
                    code="negentropy-left",
                )
            )
        if self.gain <= -_LEFT - 2 * self.gain_stderr:
            found.append(
                Finding(
                    "warning",
                    f"the map did not help: on held-out samples a Gaussian fits better, "
                    f"by {-self.gain:.2f} nats",
                    self.gain,
                    "Pass more samples, or use ip.KNN(calibration='gaussian') without transport.",
                    name,
                    code="idle-map",
                )
            )
        return found

    def __repr__(self) -> str:
        return (
            f"Transported({len(self.maps)} maps {type(self.maps[0]).__name__}, d={self.d:,}, "
            f"fitted to {self.n_fit:,} samples and stopped by {self.n_stop:,}, "
            f"measured on {self.n:,}: bound {float(self.bound.value):.4f} "
            f"± {float(self.bound.stderr):.4f}, gain {self.gain:+.4f} ± {self.gain_stderr:.4f}, "
            f"negentropy left {self.negentropy:+.4f}, curvature {self.curvature:.4f})"
        )


@dataclass(frozen=True, eq=False)
class TransportReport:
    """An estimate and how it came about.

    Attributes:
        measure: The name of the method.
        value: What the method returns: a 0-dim float64 tensor in nats.
        transported: The variables that were carried, by the names of the arguments.
        findings: Reasons not to trust the value; empty where none was found.
        stderr: Its standard error, 0-dim float64 in nats, given the maps: from parts of the
            carried samples of each fold, or of few samples from the terms of each, and by how much
            an entropy is above the sum of the entropies of the features. ``None`` where the parts
            are too small and the residual estimator has no terms.
    """

    measure: str
    value: Tensor
    transported: dict[str, Transported]
    findings: list[Finding]
    stderr: Tensor | None

    def __repr__(self) -> str:
        lines = [f"{self.measure}: {float(self.value):.4f} nats"]
        lines += [f"  {name}: {variable!r}" for name, variable in self.transported.items()]
        lines += [f"  {finding}" for finding in self.findings]
        return "\n".join(lines)


def reported(
    measure: str, value: Tensor, stderr: Tensor | None, **transported: Transported
) -> TransportReport:
    """The report of a value, with the findings on all variables that were carried for it."""
    found = [f for name, variable in transported.items() for f in variable.findings(name)]
    return TransportReport(measure, value, transported, found, stderr)


def bounded(report: TransportReport, x: Tensor) -> TransportReport:
    """The report of the entropy of samples (n, d), held against those of the features.

    By as much as the value is above this bound, it is too high for sure, which the standard error
    includes. Of n = 200 uniform samples in 3 dimensions, whose edges few samples show to a map,
    Gaussianization's entropy is 0.4 nats too high, with a spread of 0.1.
    """
    bound = feature_entropies(x, _NEAR).sum()
    excess = float(report.value - bound)
    if report.stderr is None or not 0 < excess < math.inf:
        return report
    findings = list(report.findings)
    if excess >= max(_LEFT, _INTERVAL * float(report.stderr)):
        findings.append(
            Finding(
                "error",
                f"the entropy cannot be above the sum of the entropies of its features, "
                f"{float(bound):.2f} nats, but the estimate is by {excess:.2f} nats",
                excess,
                "Take the bound, or use KNN(calibration='copula').",
                "x",
                code="above-bound",
            )
        )
    stderr = torch.hypot(report.stderr, torch.full_like(report.stderr, excess))
    return replace(report, findings=findings, stderr=stderr)


def curved_between(left: float) -> list[Finding]:
    """A finding if carried variables depend on each other as Gaussian ones cannot.

    Arguments:
        left: How many nats of dependence the moments of both together show.
    """
    if left < _CURVED:
        return []
    return [
        Finding(
            "warning",
            f"moments of third and fourth order show about {left:.2f} nats of dependence that "
            "Gaussian variables do not have",
            left,
            "Neighbours may see a part of it only: compare with ip.KNN(calibration='copula') or "
            "ip.Critic(), and take the difference for the uncertainty.",
            "x, y",
            code="unlike-surrogates",
        )
    ]
