"""How maps change volumes, and with them differential entropy: exactly."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries import freia
from infoprobe.libraries import running as logdets
from infoprobe.maps.jacobians import LARGEST
from infoprobe.maps.passage import INVERTED, Passage, undisturbed

# Up to so many inputs, a claim is compared with autograd on so many samples before it is believed.
_COMPARED, _COMPARED_SAMPLES = 128, 2

# Claims may be off by so many nats, and by what rounding explains.
_TOLERANCE = 1e-3


class VolumeChange(NamedTuple):
    """What a map does to differential entropy, in nats.

    Attributes:
        value: The mean of log|det J| over samples, a 0-dim float64 tensor.
        stderr: Its standard error; NaN of one sample, or where the mean is infinite.
        n: The number of samples.
    """

    value: Tensor
    stderr: Tensor
    n: int


class JacobianSpectrum(NamedTuple):
    """How a map stretches the surroundings of samples along its inputs, per sample.

    Attributes:
        singular_values: Of the Jacobian, in descending order, (n, d) float64.
        rank: How many of them rounding does not explain, (n,); below d, inputs have collapsed.
        log_volume: The sum of their logarithms in nats, (n,) float64; minus infinity if the rank
            is below d.
    """

    singular_values: Tensor
    rank: Tensor
    log_volume: Tensor


def entropy_change(
    module: Any, x: Any, *, c: Any = None, rev: bool = False, batch_size: int = 256
) -> VolumeChange:
    r"""What a map adds to the differential entropy of samples, exactly.

    .. math:: h(f(X)) = h(X) + E \ln |\det J_f(X)|

    for an injective f; the value is the mean over the samples, without bias. For a smooth f into
    more dimensions than x has, such as a decoder,

    .. math:: h(f(X)) = h(X) + \tfrac12 E \ln \det J_f(X)^\top J_f(X)

    is the entropy with respect to area on the surface that it maps to. Whether f is injective is
    for the caller to know, or for :func:`check_invertible` to find out.

    A FrEIA, nflows or normflows module and a transform of torch or zuko tell their own
    log-determinants. They are believed unless a module is known to claim what is not so (FrEIA's
    InvAutoFC, InvAutoConv2D, and LearnedElementwiseScaling in reverse), or, up to d = 128,
    autograd disagrees on two samples; then, for any other map, and for one into more dimensions,
    the Jacobian is taken by autograd, up to d = 3,072 inputs. Beyond d = 128, log-determinants
    that are random estimates (FrEIA's IResNetLayer) are averaged, with a warning.

    Arguments:
        module: The map, or a function of a batch: FrEIA's modules and graphs; transforms and flows
            of nflows and normflows, or any other module with ``forward`` and ``inverse`` that
            return ``(z, log_det)``; transforms of ``torch.distributions`` and zuko, and zuko's
            flows; any other module or function that returns a tensor. Forward is a library's own
            forward: nflows and zuko map data to noise, normflows maps noise to data.
        x: Samples, (n, ...), in the module's own precision, on its device; several tensors where
            the module takes a tuple. With ``rev=True``, samples of the output.
        c: The condition, or a tuple of those, with a row for each sample, for modules that take
            any: ``c`` of FrEIA's, context of others, further arguments of a function.
        rev: Whether the module runs backwards.
        batch_size: How many samples go through at a time; of a Jacobian, a direction counts as a
            sample. Besides, 128 MB of Jacobians are held, or one.

    Returns:
        ``(value, stderr, n)``. Where the map flattens the surroundings of a sample, the value is
        minus infinity, with a warning that says how often.

    Bias and limits:
        Exact up to rounding, which ill-conditioned Jacobians magnify: run ``module.double()`` on
        ``x.double()`` for digits that count. Singular values that rounding explains count as 0.
        Backwards, autograd follows the map forward from the point that its inverse gives, as long
        as that leads back within 1e-3 of the spread of x: iterative inverses detach.
        What a function calls is not looked into: modules within must be in eval mode, and
        initialised.

    Raises:
        TypeError: It is no map, has no inverse, or x holds no floating-point numbers.
        ValueError: The map has fewer outputs than inputs; it mixes samples or is random (batch
            statistics, dropout); it takes its parameters from the first batch; d is too large for
            a Jacobian that is needed; or x is empty or not finite.

    Warns:
        UserWarning: The module's own log-determinants are wrong, and autograd's are given; they
            are random; something hides derivatives from autograd; or the value is infinite.

    References:
        | T. Cover & J. Thomas (2006). Elements of Information Theory. Theorem 8.6.4.
        | A. Ben-Israel (1999). The change-of-variables formula using matrix volume. SIAM J. Matrix
          Analysis 21(1), 300-312.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> round(float(ip.entropy_change(lambda x: 3 * x, x).value), 4)  # 2 ln 3
        2.1972
    """
    passage = Passage.of(module, x, c, rev, batch_size)
    with undisturbed(passage):
        passage.check_independence()
        inputs, outputs = passage.sizes
        if outputs < inputs:
            raise ArgumentValueError(
                "module",
                f"expected a map into at least as many dimensions, got {inputs:,} numbers "
                f"in and {outputs:,} out, which cannot be injective. Estimate what it keeps: "
                "ip.mutual_information(x, y, ip.KNN()).",
            )
        log_volumes = _claims(passage) if outputs == inputs else None
        if log_volumes is None:
            log_volumes = passage.volumes().log_volume
    return _mean(log_volumes)


def jacobian_spectrum(
    module: Any, x: Any, *, c: Any = None, rev: bool = False, batch_size: int = 256
) -> JacobianSpectrum:
    r"""How a map stretches the surroundings of samples: the singular values of its Jacobian.

    Of a decoder at codes, they tell how far the output moves along the directions of the code, and
    the rank, how many of these count: collapsed ones do not move it at all. By autograd, with one
    pass for each input; as :func:`entropy_change` otherwise.

    Arguments:
        module: The map or function, such as ``decoder`` or ``lambda z: inn(pad(z), rev=True)[0]``.
        x: Samples of its input, such as codes: (n, ...) with d numbers each, at most 3,072.
        c: As in :func:`entropy_change`.
        rev: Whether the module runs backwards.
        batch_size: As in :func:`entropy_change`.

    Returns:
        ``(singular_values, rank, log_volume)``.

    Bias and limits:
        Singular values below 4 eps of the root sum of their squares, with the eps of the module's
        precision, are beyond what it can tell, and do not count for the rank.

    Raises:
        TypeError, ValueError: As :func:`entropy_change`, but the map may have fewer outputs.

    Example:
        >>> decoder = lambda z: torch.stack([3 * z[:, 0], 0 * z[:, 1], z[:, 0]], 1)
        >>> ip.jacobian_spectrum(decoder, torch.ones(5, 2)).rank
        tensor([1, 1, 1, 1, 1])
    """
    passage = Passage.of(module, x, c, rev, batch_size)
    with undisturbed(passage):
        passage.check_independence()
        found = passage.volumes()
    return JacobianSpectrum(found.singular_values, found.rank, found.log_volume)


def _claims(passage: Passage) -> Tensor | None:
    """What a map claims, or ``None`` if it claims nothing, or nothing to be believed."""
    doubts = freia.known_wrong(passage.module, passage.rev)
    few = passage.first(_COMPARED_SAMPLES)
    claimed = few.run()[1]
    if claimed is None:
        return None
    if not doubts and passage.d <= _COMPARED:
        truth = few.volumes()
        difference = _differences(claimed, truth.log_volume)
        if (difference > _TOLERANCE + truth.rounding).any():
            doubts = [
                f"claims {float(claimed[0]):.5g} where autograd finds "
                f"{float(truth.log_volume[0]):.5g}"
            ]
    if doubts and passage.d > LARGEST:
        raise ArgumentValueError(
            "module",
            f"expected log-determinants that are right, but {'; '.join(doubts)}, and "
            f"d={passage.d:,} inputs are too many for autograd, which takes {LARGEST:,}. Pass the "
            "module's parts one by one: what they do to the entropy adds up.",
        )
    if doubts:
        warnings.warn(
            f"module: its log-determinants are not to be believed ({'; '.join(doubts)}). The "
            "value comes from Jacobians by autograd instead, with a pass for each input of each "
            "sample.",
            stacklevel=3,
        )
        return None
    spread = _spread_of_claims(few)
    if spread:
        warnings.warn(
            f"module: its log-determinants are random estimates, which vary by {spread:.2g} nats "
            "(standard deviation) for one sample. So the value is an estimate; the standard error "
            "covers how it varies, but no bias. Pass lambda x: module(x)[0] for Jacobians by "
            "autograd.",
            stacklevel=3,
        )
    parts = [batch.run()[1] for batch in passage.batches(passage.rows)]
    return torch.cat([part for part in parts if part is not None])


def _mean(log_volumes: Tensor) -> VolumeChange:
    n = len(log_volumes)
    if log_volumes.isnan().any():
        raise ArgumentValueError(
            "module",
            f"expected log-determinants that are numbers, got NaN for "
            f"{int(log_volumes.isnan().sum()):,} of {n:,} samples. Find where they arise: the "
            "samples may lie outside of what the module can map.",
        )
    infinite = int(log_volumes.isinf().sum())
    if infinite:
        warnings.warn(
            f"module: log|det J| is infinite for {infinite:,} of {n:,} samples "
            f"({infinite / n:.1%}), around which the map is singular up to rounding. So is the "
            "entropy change. See ip.jacobian_spectrum(module, x).",
            stacklevel=3,
        )
    value = log_volumes.mean()
    deviations = (log_volumes - value).square().sum() if n > 1 else value * math.nan
    return VolumeChange(value, (deviations / max(n - 1, 1) / n).sqrt(), n)


def _differences(a: Tensor, b: Tensor) -> Tensor:
    """Absolute differences; equal infinities differ by 0."""
    return torch.where(a == b, 0.0, (a - b).abs()).nan_to_num(math.inf, math.inf)


@dataclass(frozen=True, repr=False)
class InvertibilityCheck:
    r"""What running a map both ways shows; log-determinants in nats.

    Attributes:
        module: The type of the map.
        n: How many samples went both ways.
        d: How many numbers a sample has.
        inversion_error: The largest :math:`|x - f^{-1}(f(x))|` of all numbers.
        relative_inversion_error: In units of the standard deviation of x.
        cancellation: The largest magnitude of :math:`\ln |\det J_f(x)| + \ln |\det J_{f^{-1}}(y)|`
            at y = f(x), of what the map claims; ``None`` if it claims nothing.
        forward_error: The largest difference of claims and autograd; ``None`` if not compared.
        inverse_error: The same of the inverse.
        spread: The standard deviation of repeated claims for one sample; 0 unless random.
        compared: How many samples were compared with autograd.
        findings: What is wrong, in words, and with which nodes of a FrEIA graph; empty when all is
            well.
    """

    module: str
    n: int
    d: int
    inversion_error: float
    relative_inversion_error: float
    cancellation: float | None
    forward_error: float | None
    inverse_error: float | None
    spread: float | None
    compared: int
    findings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.findings:
            return f"{self.module} is not to be trusted: " + "; ".join(self.findings) + "."
        if self.cancellation is None:
            return f"{self.module} is invertible; it claims no log-determinants."
        if self.compared:
            return f"{self.module} is invertible, and its log-determinants are right, both ways."
        return (
            f"{self.module} is invertible, and its log-determinants cancel; with so many inputs "
            "they were not compared with autograd."
        )

    def __repr__(self) -> str:
        figures = [
            ("inversion error", self.inversion_error),
            ("relative to the spread of x", self.relative_inversion_error),
            ("log-det, forward + inverse", self.cancellation),
            (f"log-det against autograd ({self.compared} samples)", self.forward_error),
            ("the same of the inverse", self.inverse_error),
            ("spread of repeated log-dets", self.spread),
        ]
        lines = [
            f"  {name}: {'-' if figure is None else format(figure, '.2e')}"
            for name, figure in figures
        ]
        return "\n".join(
            [
                f"InvertibilityCheck({self.module}, n={self.n:,}, d={self.d:,})",
                *lines,
                self.verdict,
            ]
        )


def check_invertible(
    module: Any, x: Any, *, c: Any = None, batch_size: int = 256
) -> InvertibilityCheck:
    r"""Whether a map comes back to where it started, and tells the truth of its volume.

    Runs the samples forward and back; adds the log-determinants that the map claims both ways,
    which must cancel; compares them with Jacobians by autograd on up to four samples, fewer the
    more inputs there are, none beyond 3,072; and asks again, since some are random estimates.

    Arguments:
        module: A map with an inverse, as in :func:`entropy_change`.
        x: Samples, as there.
        c: Conditions, as there.
        batch_size: As there.

    Returns:
        The figures and a verdict; print it.

    Bias and limits:
        What holds at the samples need not hold elsewhere: pass such as the map will meet. It
        counts as inverted within 1e-3 of their spread, and a log-determinant as right within
        1e-3 nats and what rounding explains.

    Raises:
        TypeError: The map has no inverse, or x holds no floating-point numbers.
        ValueError: As :func:`entropy_change`.

    Example:
        >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> print(ip.check_invertible(torch.distributions.ExpTransform(), x).verdict)
        ExpTransform is invertible, and its log-determinants are right, both ways.
    """
    if not logdets.invertible(module):
        raise ArgumentTypeError(
            "module",
            f"expected a map with an inverse, got {type(module).__name__} without a "
            "method 'inverse'. Add one, or see ip.jacobian_spectrum(module, x).",
        )
    passage = Passage.of(module, x, c, False, batch_size)
    with undisturbed(passage):
        passage.check_independence()
        return _check(passage)


def _check(passage: Passage) -> InvertibilityCheck:
    errors, cancellations = [], []
    for batch in passage.batches(passage.rows):
        values, claimed = batch.run()
        errors.append(batch.inversion_errors(values))
        claimed_back = batch.back(values).run()[1]
        if claimed is not None and claimed_back is not None:
            cancellations.append(_differences(claimed, -claimed_back))
    inversion, relative = (max(figures) for figures in zip(*errors, strict=True))
    findings = []
    if not relative <= INVERTED:
        findings.append(f"it comes back {relative:.2g} of the spread of x off")

    few = passage.first(max(1, min(4, 2048 // passage.d)))
    values, claimed = few.run()
    there = few.back(values)
    claimed_back = there.run()[1]
    cancellation = forward = inverse = spread = None
    compared = 0
    tolerance = _TOLERANCE + 1e-5 * passage.d
    wrong = []
    if claimed is not None and claimed_back is not None:
        cancellation = float(torch.cat(cancellations).max())
        spread = _spread_of_claims(few)
        if passage.d <= LARGEST:
            compared = few.n
            exact = few.volumes()
            back = there.volumes().log_volume if relative > INVERTED else -exact.log_volume
            tolerance = _TOLERANCE + float(exact.rounding.max())
            forward, words = _compare(claimed, exact.log_volume, tolerance)
            wrong += [f"its forward log-determinant {words}"] if words else []
            inverse, words = _compare(claimed_back, back, tolerance)
            wrong += [f"its inverse log-determinant {words}"] if words else []
    if spread:
        findings.append(f"its log-determinant is a random estimate (by {spread:.2g} nats)")
    elif wrong:
        findings += wrong
    elif cancellation is not None and not cancellation <= tolerance:
        findings.append(f"its log-determinants both ways add up to {cancellation:.3g}")
    if findings:
        for name, part in few.parts().items():
            found = _check(part).findings
            findings += [f"{name} ({type(part.module).__name__}): {finding}" for finding in found]
    return InvertibilityCheck(
        module=type(logdets.unwrapped(passage.module)).__name__,
        n=passage.n,
        d=passage.d,
        inversion_error=inversion,
        relative_inversion_error=relative,
        cancellation=cancellation,
        forward_error=forward,
        inverse_error=inverse,
        spread=spread,
        compared=compared,
        findings=tuple(findings),
    )


def _compare(claimed: Tensor, exact: Tensor, tolerance: float) -> tuple[float, str]:
    """How far claims are from the truth, and if it is too far, how they differ."""
    error = float(_differences(claimed, exact).max())
    size = f"{error:.3g} nats"
    difference = claimed - exact
    if error <= tolerance:
        words = ""
    elif not claimed.any():
        words = f"is always 0, which is {size} off"
    elif (_differences(claimed, -exact) <= tolerance).all():
        words = "has the wrong sign"
    elif len(difference) > 1 and float(difference.std()) <= tolerance:
        words = f"is off by a constant {float(difference.mean()):+.4g}"
    else:
        words = f"is off by {size}"
    return error, words


def _spread_of_claims(passage: Passage) -> float:
    claims = torch.stack([claim for _ in range(8) if (claim := passage.run()[1]) is not None])
    # Threads may add numbers in another order.
    spread = float(claims.std(0).max())
    return spread if spread > _TOLERANCE / 10 else 0.0
