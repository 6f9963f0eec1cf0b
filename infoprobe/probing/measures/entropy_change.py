"""What an invertible layer adds to differential entropy, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infoprobe.libraries.log_determinants import per_sample
from infoprobe.probing.kept.base import Problem
from infoprobe.probing.kept.moments import Averaging, Moments, Numbers, Quantity
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind
from infoprobe.taps.sink import Event
from infoprobe.torch_internals import plain


@dataclass(frozen=True)
class LogDeterminants(Quantity):
    """The log-determinant that an invertible layer reports for each sample."""

    wants_log_determinants: ClassVar[bool] = True

    def of(self, event: Event) -> Numbers | Problem:
        """What the layer reported, or why it did not."""
        reported = event.log_determinant
        if reported is None:
            return Problem(
                "It has no value: it is not invertible, or does not report its log-determinant.",
                applies=False,
            )
        if reported.value is None or not event.outputs:
            reason = reported.doubt or "it reported no log-determinant."
            return Problem(f"It has no value: {reason}", applies=False)
        value = plain(reported.value) if isinstance(reported.value, Tensor) else reported.value
        return Numbers(per_sample(value, plain(event.outputs[0])).detach(), reported.doubt)


@dataclass(frozen=True)
class EntropyChange(Measure):
    r"""Measures what an invertible layer adds to differential entropy, exactly, in nats.

    .. math:: h(f(X)) - h(X) = E \ln |\det J_f(X)|

    No estimator is needed. The value is the mean over all samples, with its standard error. The
    layer itself reports its log-determinant: FrEIA's modules do, maps of nflows and normflows (or
    any module with an ``inverse`` that returns ``(z, log_det)``), and transforms of
    torch.distributions and zuko. Where a FrEIA graph runs with ``jac=False``, its nodes are asked
    for their log-determinants all the same. Modules that are known to report a wrong one are
    named instead of believed; see also :func:`~infoprobe.check_invertible`. Layers that are not
    invertible have no value.

    Of a map that was given a condition c, the value is the change of the entropy given c,
    h(output|c) - h(input|c). Of a transform of torch's onto a surface (``StickBreakingTransform``,
    ``CorrCholeskyTransform``) it is about the entropy with respect to area, as in
    :func:`~infoprobe.entropy_change`. Log-determinants that are random estimates (FrEIA's
    IResNetLayer, normflows' Residual) are named as such. Each of these is a finding.

    A layer that maps samples to -inf (a singular Jacobian) has the value -inf, and a finding says
    for how many samples.
    """

    name: ClassVar[str] = "entropy_change"
    kind: ClassVar[Kind] = "exact"
    method: ClassVar[str] = "log|det J|"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "E log|det J|"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the moments of the log-determinant."""
        return (Need("layer", Averaging(LogDeterminants())),)

    def compute(self, moments: Moments) -> Reading:
        """The mean of the log-determinant, in nats."""
        if not moments.singular:
            return Reading(moments.mean, [], moments.stderr)
        total = moments.n + moments.singular
        finding = (
            f"The Jacobian is singular for {moments.singular / total:.3%} of {total:,} samples; "
            f"the mean over the others is {moments.mean:.4f} nats."
        )
        return Reading(-math.inf, [finding])
