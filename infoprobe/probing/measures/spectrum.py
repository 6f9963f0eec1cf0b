"""How many dimensions a layer's output uses, from the spectrum of its covariance."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.alike import rounding_of
from infoprobe.estimators.errors import Uncertainty, jackknife
from infoprobe.estimators.moments import GroupedMoments, SecondMoments
from infoprobe.findings import Finding
from infoprobe.probing.kept.second_moments import Correlating
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.probing.selection import Select, require_select

# What RankMe adds to each share (Garrido et al., 2023).
_RANK_ME = 1e-7

# A bias of more than this share of the value, and of this many errors, is worth a finding.
_BIAS, _ERRORS = 0.05, 1.96


@dataclass(frozen=True)
class SpectralMeasure(Measure):
    """A number that the eigenvalues of the covariance of a layer's output tell."""

    _: KW_ONLY
    project: int | None = None
    select: Select = None

    unit: ClassVar[str] = "dimensions"

    def __post_init__(self) -> None:
        if self.project is not None:
            checks.require_integer_field(self, "project", 1)
        object.__setattr__(self, "select", require_select(self.select))

    @abstractmethod
    def of(self, moments: SecondMoments) -> Tensor:
        """The number, 0-dim float64."""

    def smooth(self, moments: SecondMoments) -> Tensor:
        """A smooth version of the number, whose error is that of the number."""
        return self.of(moments)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the covariance of the output."""
        return (Need("output", Correlating(self.project, self.select)),)

    def compute(self, output: GroupedMoments) -> Reading:
        """The number, with its standard error by the jackknife over groups of sequences."""
        total = output.total
        n = int(total.n)
        if n < 2:
            raise ArgumentValueError(
                "x",
                f"expected at least 2 samples that are finite, got {n}, which have no covariance. "
                "Pass more.",
            )
        if not varies(total):
            raise ArgumentValueError(
                "x",
                f"expected samples that vary, got {n:,} that are equal up to rounding, which have "
                "no spectrum. Look why the layer returns the same for every input.",
            )
        value = self.of(total)
        error = self._error(output)
        if error is None:
            unknown = "It has no standard error: all samples came in one group."
            return Reading(float(value), [unknown])
        findings = [str(finding) for finding in self._bias(float(value), error, n, total.d)]
        return Reading(float(value), findings, float(error.stderr))

    def _error(self, output: GroupedMoments) -> Uncertainty | None:
        without = [moments for moments in output.without if varies(moments)]
        if len(without) < 2 or len(without) < len(output.without):
            return None
        changed = torch.stack([self.smooth(moments) for moments in without])
        return jackknife(self.smooth(output.total), changed, output.shares)

    def _bias(self, value: float, error: Uncertainty, n: int, d: int) -> Iterator[Finding]:
        bias, noise = float(error.bias), float(error.noise)
        if abs(bias) > max(_BIAS * value, _ERRORS * noise):
            yield Finding(
                "warning",
                f"{n:,} samples of {d:,} values are few: the value is too "
                f"{'high' if bias > 0 else 'low'} by about {abs(bias):.2g}",
                bias,
                "Measure more passes together.",
                code="few-for-a-spectrum",
            )


@dataclass(frozen=True)
class EffectiveRank(SpectralMeasure):
    r"""Measures :math:`e^{H(p)}` of the shares :math:`p_i = \lambda_i / \sum_j \lambda_j`.

    The :math:`\lambda_i` are the eigenvalues of the covariance. It is d where all directions vary
    alike, and 1 where one direction does.

    References:
        O. Roy & M. Vetterli (2007). The effective rank: a measure of effective dimensionality.
        EUSIPCO.
    """

    name: ClassVar[str] = "effective_rank"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "effective rank"

    def of(self, moments: SecondMoments) -> Tensor:
        """The exponential of the entropy of the shares of the variance."""
        return _perplexity(moments.variances / moments.variances.sum())


@dataclass(frozen=True)
class RankMe(SpectralMeasure):
    r"""Measures RankMe, :math:`e^{H(p)}` of shares of the singular values of the data.

    .. math:: p_k = \frac{\sigma_k}{\sum_j \sigma_j} + 10^{-7}

    The :math:`\sigma_k` are the singular values of the matrix of all samples, which is not
    centred, as its authors define it: a mean far from zero counts as a direction.

    References:
        Q. Garrido, R. Balestriero, L. Najman & Y. LeCun (2023). RankMe: assessing the downstream
        performance of pretrained self-supervised representations by their rank. ICML.
    """

    name: ClassVar[str] = "rankme"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "RankMe"

    def of(self, moments: SecondMoments) -> Tensor:
        """The exponential of the entropy of the shares of the singular values."""
        values = moments.squares[: int(moments.n)].sqrt()
        return _perplexity(values / values.sum() + _RANK_ME)


@dataclass(frozen=True)
class ParticipationRatio(SpectralMeasure):
    r"""Measures :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2` of the covariance.

    It is d where all directions vary alike, and 1 where one does. Directions of little variance
    count less than in the effective rank.

    References:
        P. Gao et al. (2017). A theory of multineuronal dimensionality, dynamics and measurement.
        bioRxiv 214262.
    """

    name: ClassVar[str] = "participation_ratio"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "participation ratio"

    def of(self, moments: SecondMoments) -> Tensor:
        """The participation ratio of the eigenvalues."""
        return moments.variances.sum().square() / moments.variances.square().sum()


@dataclass(frozen=True)
class Saturation(SpectralMeasure):
    r"""Measures the share of directions that explain most of the variance, as delve does.

    Delve counts the largest eigenvalues as long as their sum is below the threshold, at least one,
    and divides by d. The direction that reaches the threshold does not count: three directions
    that vary alike, and no others, have 2 / d. (The tracker of delve 0.1.50 begins anew with each
    pass: what it saves is the saturation of the last one, and this is that of all of them.)

    Arguments:
        threshold: The share of the variance, between 0 and 1.

    References:
        M. Richter, J. Shenk, W. Byttner, A. Arpteg & M. Huss (2020). Feature space saturation
        during training. arXiv:2006.08679.
    """

    threshold: float = 0.99

    name: ClassVar[str] = "saturation"
    unit: ClassVar[str] = "share"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.require_real_field(self, "threshold", 0, 1)

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "saturation"

    def of(self, moments: SecondMoments) -> Tensor:
        """The share of directions that delve counts."""
        explained = moments.variances.cumsum(0) / moments.variances.sum()
        count = max(int((explained < self.threshold).sum()), 1)
        return moments.variances.new_tensor(count / moments.d, dtype=torch.float64)

    def smooth(self, moments: SecondMoments) -> Tensor:
        """The share of directions at which the explained variance, as a line, crosses."""
        explained = moments.variances.cumsum(0) / moments.variances.sum()
        before = int((explained < self.threshold).sum())
        if before >= moments.d:
            return explained.new_ones(())
        reached = explained[before - 1] if before else explained.new_zeros(())
        part = (self.threshold - reached) / (explained[before] - reached)
        return (before + part) / moments.d


@dataclass(frozen=True)
class Spectrum(SpectralMeasure):
    r"""Measures how many dimensions a layer's output uses, from all samples.

    It stands for four measures with a row each: the effective rank, RankMe, the participation
    ratio and the saturation. All come from one state, the mean and the covariance of all samples
    in float64. It adds up over batches, processes and runs, exactly to rounding, and takes memory
    of its own for each layer: about :math:`4 d^2` bytes for each of 32 groups of samples (16 for d
    above 256, 8 above 512, 4 above 1,024), from which the standard errors come by the jackknife.

    None of them is an information: a network can use few dimensions and keep everything, or many
    and keep noise. They change when units are rescaled.

    Arguments:
        threshold: The share of the variance at which the saturation counts directions.
        project: The number of random directions onto which wider samples are projected, the same
            in all processes. ``None`` projects samples of more than 4,096 values onto 1,024. A
            projection keeps distances on average, but its rank is at most this number, and all
            four come out too low where they are near it.
        select: What the samples are, as in :class:`~infoprobe.Entropy`: ``"tokens"`` for language
            models. With ``None``, all tokens of a sequence together are one sample.

    Where samples are few for their width, eigenvalues spread, and effective ranks come out too
    low; the standard errors include this bias as far as the groups tell, and a finding says so.
    """

    threshold: float = 0.99

    name: ClassVar[str] = "spectrum"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.parts

    @property
    def parts(self) -> tuple[Measure, ...]:
        """The four measures."""
        project, select = self.project, self.select
        return (
            EffectiveRank(project=project, select=select),
            RankMe(project=project, select=select),
            ParticipationRatio(project=project, select=select),
            Saturation(self.threshold, project=project, select=select),
        )

    def of(self, moments: SecondMoments) -> Tensor:
        """The effective rank."""
        return EffectiveRank().of(moments)


def varies(moments: SecondMoments) -> bool:
    """Whether samples differ in some direction by more than rounding explains."""
    size = moments.variances.sum() + float(moments.mean.square().sum())
    return float(moments.variances[0]) > rounding_of(moments.eps) ** 2 * float(size)


def _perplexity(shares: Tensor) -> Tensor:
    perplexity: Tensor = torch.special.entr(shares).sum().exp()
    return perplexity
