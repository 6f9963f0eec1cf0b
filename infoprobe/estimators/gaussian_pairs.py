"""Relative entropies of Gaussians from samples in pairs, such as a layer's inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.covariance import Fit
from infoprobe.estimators.errors import jackknife, random_groups, widened
from infoprobe.estimators.estimator import Estimator
from infoprobe.estimators.moments import GroupedMoments, SecondMoments, groups_for
from infoprobe.estimators.protocols import Estimate

# Into how many folds samples are divided.
_FOLDS = 4
# What is found on pairs, and does them no harm.
_OF_PAIRS = ("paired-samples", "shared-samples")


@dataclass(frozen=True)
class GaussianOfPairs:
    r"""Estimates :math:`KL(P \| Q)` of Gaussians where sample i of p belongs to sample i of q.

    The closed form is free of bias for two samples that are independent. Of pairs, what chance
    does to one it does to the other as well, and corrections for both are too large: for a layer
    that returns its input, with 500 samples of 64 features, it gives -4.3 nats and claims no
    error. Here each sample of p meets a Gaussian that was fitted to samples of q that belong to
    others:

    .. math:: \sum_k \frac{n_k}n H(P_k, Q_{-k}) - h(P)

    where p of fold k is compared with q of all other folds. Both terms are exactly unbiased for
    Gaussian data, and chance still cancels between them: the example has a standard deviation of
    0.13 nats, where halves that are compared with each other have 0.35.

    Attributes:
        gaussian: The estimator whose findings these estimates have.
    """

    gaussian: Estimator

    def kl_divergence(self, p: Any, q: Any) -> Tensor:
        """The relative entropy, 0-dim, in nats; the arguments are those of :meth:`estimate`."""
        groups = _groups(p, q)
        return _divergence(groups, range(len(groups)))

    def estimate(self, measure: str, p: Any, q: Any) -> Estimate:
        """The relative entropy, its standard error by the jackknife, and findings.

        Arguments:
            measure: ``"kl_divergence"``.
            p: Samples of the first, (n, ...), or their moments.
            q: Those of the second that belong to them, with the same d features.

        Raises:
            TypeError: They do not hold floating-point numbers.
            ValueError: Three quarters of the samples are fewer than d + 3, or the samples are not
                fit for :class:`~infoprobe.Gaussian`.
        """
        groups = _groups(p, q)
        there = range(len(groups))
        value = _divergence(groups, there)
        stderr = None
        try:
            left = [_divergence(groups, [i for i in there if i != out]) for out in there]
        except ArgumentValueError:  # there are too few samples to do without some
            left = []
        if left:
            shares = torch.stack([a.n for a, _ in groups]).to(value)
            error = jackknife(value, torch.stack(left), shares / shares.sum())
            stderr = None if error is None else widened(error.noise, error.degrees)
        found = self.gaussian.diagnose(measure, (p, q), value)
        return Estimate(value, stderr, [x for x in found if x.code not in _OF_PAIRS])


def _groups(p: Any, q: Any) -> list[tuple[SecondMoments, SecondMoments]]:
    """The moments of both for each group of samples."""
    if isinstance(p, GroupedMoments) and isinstance(q, GroupedMoments):
        parts = list(zip(p.parts, q.parts, strict=False))
        if [int(x.n) for x in p.parts] != [int(x.n) for x in q.parts]:
            raise ArgumentValueError(
                "p, q",
                f"expected two samples in pairs, got {len(p):,} and {len(q):,} samples, or "
                "others in a group. Pass the same batches to both.",
            )
        p.total.require_same_width(q.total)
        return parts
    p, q = checks.continuous(p, "p"), checks.continuous(q, "q")
    checks.require_same_width(p=p, q=q)
    checks.require_same_length(p=p, q=q)
    q = q.to(p.device)
    number = max(1, min(groups_for(p.shape[1]), len(p) // 2))
    labels = random_groups(len(p), number).to(p.device)
    return [
        (SecondMoments.of(p[labels == i]), SecondMoments.of(q[labels == i])) for i in range(number)
    ]


def _divergence(groups: Sequence[tuple[SecondMoments, SecondMoments]], used: Any) -> Tensor:
    """The estimate from some of the groups."""
    folds = [[i for i in used if i % _FOLDS == fold] for fold in range(_FOLDS)]
    folds = [fold for fold in folds if fold]
    ps = [reduce(add, [groups[i][0] for i in fold]) for fold in folds]
    qs = [reduce(add, [groups[i][1] for i in fold]) for fold in folds]
    whole: SecondMoments = reduce(add, ps)
    whole.require_varying("p")
    value = -_fit(whole, "p").entropy()
    for k, fold in enumerate(ps):
        others = [each for i, each in enumerate(qs) if i != k]
        rest = reduce(add, others) if others else SecondMoments.none(whole.d)
        if int(rest.n) < whole.d + 3:
            needed = math.ceil((whole.d + 3) / (1 - 1 / _FOLDS))
            raise ArgumentValueError(
                "q",
                f"expected at least {needed:,} samples of {whole.d:,} features, got "
                f"{int(whole.n):,}: each quarter of them is compared with a Gaussian fitted to "
                "the others. Pass more of them, fewer features, or shrinkage='ledoit-wolf'.",
            )
        rest.require_varying("q")
        value = value + fold.n / whole.n * _fit(rest, "q").cross_entropy_of(_fit(fold, "p"))
    return value


def _fit(x: SecondMoments, name: str) -> Fit:
    return Fit(int(x.n), x.mean, x.scatter, True, name, x.rounding)
