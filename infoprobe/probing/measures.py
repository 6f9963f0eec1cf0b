r"""What is computed at a layer, from what was kept of the tensors that passed there.

Four roles of tensors matter to a layer: its ``"output"``, what it was given (``"previous"``),
what the whole model was given (``"input"``), and what the model is to find (``"target"``). Of
each, either the counts of a histogram are kept, which add up for as long as data come, or a
bounded sample of its rows. Of an invertible layer's ``"volume"``, log|det J|, the mean and the
variance are kept, and likewise of the ``"rate"`` of a Gaussian bottleneck.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators import KNN, Histogram
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.protocols import estimate, kind_of, require_measure
from infoprobe.probing.moments import Moments

Role = Literal["output", "previous", "input", "target", "volume", "rate"]
Reference = Literal["previous", "input", "target"]
Kind = Literal["discrete", "differential", "exact"]


class Sampling(NamedTuple):
    """That rows are kept, and how.

    Attributes:
        samples: The most rows.
        project: Onto how many dimensions wider rows are projected; ``None`` for never.
    """

    samples: int
    project: int | None


class Averaging(NamedTuple):
    """That mean and variance are kept."""

    of: str


# What is kept of a tensor: the counts of this histogram, some rows, or the moments.
Keeping = Histogram | Sampling | Averaging
Kept = Counts | Tensor | Moments


class Reading(NamedTuple):
    """A measured value, what a reader should know of it, and its standard error if known."""

    value: float
    findings: list[str]
    stderr: float | None = None


@dataclass(frozen=True)
class Entropy:
    r"""Entropy :math:`H` of a layer's output.

    With dyadic bins each layer is measured on the finest grid of its own, of bin width w; where
    a density exists, H is about its differential entropy minus ln w. To compare layers of
    different ranges, give the estimator an explicit ``range=(low, high)``.

    Arguments:
        estimator: Says which random variable. A :class:`~infoprobe.Histogram` over values with
            dyadic or explicit bins streams all values; others are given some rows in the end.
        samples: The most rows that are kept for an estimator that does not stream: a random
            sample of all, the same at every layer.
        project: Rows of more dimensions are projected onto so many before they are kept, by a
            random matrix; the entropy is then that of the projection.
    """

    estimator: Any = Histogram()
    _: KW_ONLY
    samples: int = 4096
    project: int | None = None

    name: ClassVar[str] = "entropy"
    reference: ClassVar[None] = None
    roles: ClassVar[tuple[Role, ...]] = ("output",)

    def __post_init__(self) -> None:
        _check(self, "entropy")

    @property
    def keeping(self) -> Keeping:
        """What to keep of each role's tensors."""
        return _keeping(self)

    @property
    def kind(self) -> Kind:
        """Which kind of entropy."""
        return _kind(self.estimator)

    def compute(self, output: Any) -> Reading:
        """The entropy of the output, in nats."""
        return _reading(self.estimator, "entropy", x=("output", output))


@dataclass(frozen=True)
class Divergence:
    r"""Relative entropy :math:`KL(reference \| output)` of a reference from a layer's output.

    Arguments:
        estimator: Says which random variable. The default adds one pseudo-count a bin, as
            Callahan & Paskett (2021) do: without any, a single value beyond the range of the
            output makes the divergence infinite.
        reference: ``"previous"``, what the layer was given, so that the divergence is that of
            its input against its output; or ``"input"``, what the whole model was given.
        samples: As in :class:`Entropy`.
        project: As in :class:`Entropy`; one matrix serves tensors of the same width. The
            divergence of projections is at most that of the tensors themselves.
    """

    estimator: Any = Histogram(pseudocount=1)
    reference: Literal["previous", "input"] = "previous"
    _: KW_ONLY
    samples: int = 4096
    project: int | None = None

    name: ClassVar[str] = "divergence"

    def __post_init__(self) -> None:
        _check(self, "kl_divergence")
        checks.require_one_of(self.reference, ["previous", "input"], "reference")

    @property
    def roles(self) -> tuple[Role, ...]:
        """The reference and the output."""
        return (self.reference, "output")

    @property
    def keeping(self) -> Keeping:
        """What to keep of each role's tensors."""
        return _keeping(self)

    @property
    def kind(self) -> Kind:
        """Which kind of entropy."""
        return _kind(self.estimator)

    def compute(self, reference: Any, output: Any) -> Reading:
        """The divergence in nats, with findings where empty bins or the edge at zero decide it."""
        return _reading(
            self.estimator, "kl_divergence", p=("reference", reference), q=("output", output)
        )


@dataclass(frozen=True)
class MutualInformation:
    r"""Mutual information :math:`I(reference; output)` of a reference and a layer's output.

    Needs pairs, so it is always estimated from rows that are kept.

    Arguments:
        estimator: Says which random variable: ``ip.KNN()`` (k nearest neighbours, by Ross' method
            for a target of integer labels), ``ip.Histogram(bins=30, over="samples")`` (the bins
            of all units together, as information planes have it), or any other with
            ``mutual_information``.
        reference: ``"input"``, what the whole model was given, ``"previous"``, what the layer
            was given, or ``"target"``, what :meth:`Probe.target` was told before the pass.
        samples: As in :class:`Entropy`.
        project: As in :class:`Entropy`; both sides are projected, and by the data processing
            inequality the information between projections is at most that of the tensors.

    In a deterministic network, I(input; output) is infinite for continuous inputs and constant
    for discrete ones, as long as the layers are injective: what estimates show then is the
    estimator's resolution, bins above all (Saxe et al. 2018, Goldfeld et al. 2019).

    References:
        | A. Saxe et al. (2018). On the information bottleneck theory of deep learning. ICLR.
        | Z. Goldfeld et al. (2019). Estimating information flow in deep neural networks. ICML.
        | R. Schwartz-Ziv & N. Tishby (2017). Opening the black box of deep neural networks via
          information. arXiv:1703.00810.
    """

    estimator: Any = KNN()
    reference: Reference = "input"
    _: KW_ONLY
    samples: int = 4096
    project: int | None = None

    name: ClassVar[str] = "mutual_information"

    def __post_init__(self) -> None:
        _check(self, "mutual_information")
        checks.require_one_of(self.reference, ["input", "previous", "target"], "reference")

    @property
    def roles(self) -> tuple[Role, ...]:
        """The reference and the output."""
        return (self.reference, "output")

    @property
    def keeping(self) -> Keeping:
        """What to keep of each role's tensors."""
        return Sampling(self.samples, self.project)

    @property
    def kind(self) -> Kind:
        """Which kind of entropy."""
        return _kind(self.estimator)

    def compute(self, reference: Any, output: Any) -> Reading:
        """The mutual information in nats."""
        return _reading(
            self.estimator, "mutual_information", x=("reference", reference), y=("output", output)
        )


class _LogDeterminant:
    """What computes the exact change of entropy."""

    def __repr__(self) -> str:
        return "log|det J|"


@dataclass(frozen=True)
class EntropyChange:
    r"""What an invertible layer adds to differential entropy, exactly: no estimator is needed.

    .. math:: h(f(X)) - h(X) = E \ln |\det J_f(X)|

    The value is the mean over all samples, with its standard error. The layer says what its
    log-determinant is: FrEIA's modules, maps of nflows and normflows (or any module with an
    ``inverse`` that returns ``(z, log_det)``), transforms of torch.distributions and zuko's.
    Where a FrEIA graph runs with ``jac=False``, its nodes are asked for theirs all the same.
    Modules that are known to be wrong are named instead of believed; see also
    :func:`~infoprobe.check_invertible`. Layers that are not invertible have no value.

    A layer that maps samples to -inf (a singular Jacobian) has the value -inf, and a finding
    says for how many.
    """

    name: ClassVar[str] = "entropy_change"
    reference: ClassVar[None] = None
    roles: ClassVar[tuple[Role, ...]] = ("volume",)
    estimator: ClassVar[_LogDeterminant] = _LogDeterminant()
    keeping: ClassVar[Averaging] = Averaging("log|det J|")
    kind: ClassVar[Kind] = "exact"

    def compute(self, moments: Any) -> Reading:
        """The mean of log|det J|, in nats."""
        if not moments.singular:
            return Reading(moments.mean, [], moments.stderr)
        total = moments.n + moments.singular
        finding = (
            f"the Jacobian is singular for {moments.singular / total:.3%} of {total:,} samples; "
            f"the mean over the others is {moments.mean:.4f} nats."
        )
        return Reading(-math.inf, [finding])


class _ClosedForm:
    """What computes the exact divergence of Gaussian codes from their prior."""

    def __repr__(self) -> str:
        return "KL(q(z|x)||p(z))"


@dataclass(frozen=True)
class Rate:
    r"""What the codes of a variational bottleneck cost, exactly: no estimator is needed.

    .. math:: R = E_x\, KL(q(z|x) \| p(z)) = I(X; Z) + KL(q(z) \| p(z)) \ge I(X; Z)

    The value is the mean over all samples of the closed form for Gaussian codes and a
    standard-normal prior, with its standard error: see
    :class:`infoprobe.models.GaussianBottleneck`, in whatever model. It bounds the information
    that codes drawn in training carry of the input; in evaluation mode, where the code is the
    mean, the value is the same but bounds nothing. Layers that are no such bottleneck have no
    value.

    References:
        | D. Kingma & M. Welling (2014). Auto-encoding variational Bayes. ICLR. arXiv:1312.6114.
        | A. Alemi et al. (2018). Fixing a broken ELBO. ICML. arXiv:1711.00464.
    """

    name: ClassVar[str] = "rate"
    reference: ClassVar[None] = None
    roles: ClassVar[tuple[Role, ...]] = ("rate",)
    estimator: ClassVar[_ClosedForm] = _ClosedForm()
    keeping: ClassVar[Averaging] = Averaging("rate")
    kind: ClassVar[Kind] = "exact"

    def compute(self, moments: Any) -> Reading:
        """The mean of the rate, in nats."""
        return Reading(moments.mean, [], moments.stderr)


Measure = Entropy | Divergence | MutualInformation | EntropyChange | Rate


def _check(measure: Entropy | Divergence | MutualInformation, method: str) -> None:
    require_measure(measure.estimator, method)
    checks.require_integer(measure.samples, 2, None, "samples")
    object.__setattr__(measure, "samples", int(measure.samples))
    if measure.project is not None:
        checks.require_integer(measure.project, 1, None, "project")
        object.__setattr__(measure, "project", int(measure.project))


def _keeping(measure: Entropy | Divergence) -> Keeping:
    estimator = measure.estimator
    if isinstance(estimator, Histogram) and estimator.streams:
        return estimator.uncorrected
    return Sampling(measure.samples, measure.project)


def _kind(estimator: Any) -> Kind:
    return kind_of(estimator) or "differential"


def _reading(estimator: Any, measure: str, **tensors: tuple[str, Any]) -> Reading:
    """An estimate, with findings that call the arguments what a row calls them."""
    value, stderr, found = estimate(estimator, measure, *(x for _, x in tensors.values()))
    findings = []
    for finding in found:
        names = [tensors[name][0] for name in finding.argument.split(", ") if name in tensors]
        findings.append(str(finding._replace(argument=", ".join(names))))
    return Reading(float(value), findings, None if stderr is None else float(stderr))
