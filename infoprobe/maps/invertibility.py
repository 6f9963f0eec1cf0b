"""Whether a map's inverse and the log-determinants that it reports are correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries.lookup import has_inverse
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.maps.comparison import TOLERANCE, differences, spread_of_repetitions
from infoprobe.maps.jacobians import LARGEST
from infoprobe.maps.passage import INVERTED, Map, Passage, undisturbed
from infoprobe.progress import showing


@dataclass(frozen=True, repr=False)
class InvertibilityCheck:
    r"""The outcome of running a map in both directions; log-determinants in nats.

    Attributes:
        module: The class of the map.
        n: The number of samples that went in both directions.
        d: The number of values in a sample.
        inversion_error: The largest :math:`|x - f^{-1}(f(x))|` of all values, in units of x.
        relative_inversion_error: The same in units of the standard deviation of x.
        cancellation: The largest magnitude of :math:`\ln |\det J_f(x)| + \ln |\det J_{f^{-1}}(y)|`
            at y = f(x), as the map reports them; ``None`` if it reports none.
        forward_error: The largest difference between the reported log-determinants and those of
            autograd; ``None`` if they were not compared.
        inverse_error: The same for the inverse.
        spread: The standard deviation of the log-determinants that repeated runs report for one
            sample; 0 unless they are random, ``None`` if the map reports none.
        compared: The number of samples that were compared with autograd.
        findings: Clauses that say what is wrong, and with which nodes of a FrEIA graph; empty when
            all is well.
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
            return f"{self.module} is invertible; it reports no log-determinants."
        if self.compared:
            return (
                f"{self.module} is invertible, and its log-determinants are correct in both "
                "directions."
            )
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
    module: Map,
    x: ArrayLike | Sequence[Tensor],
    *,
    c: Tensor | Sequence[Tensor] | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> InvertibilityCheck:
    r"""Checks whether a map's inverse and its reported log-determinant are correct.

    The samples run forward and back; the log-determinants that the map reports in both directions
    are added, since they must cancel; they are compared with Jacobians by autograd on up to four
    samples, fewer the more inputs there are, and none beyond 3,072; and the map runs several
    times, since some log-determinants are random estimates.

    Arguments:
        module: A map with an inverse, as in :func:`entropy_change`.
        x: The samples, as in :func:`entropy_change`.
        c: The condition, or a tuple of conditions, as in :func:`entropy_change`.
        batch_size: The number of samples that go through at a time, as in
            :func:`entropy_change`.
        progress: Whether to show progress bars. Needs the extra ``infoprobe[progress]``.

    Returns:
        The figures and a verdict; print it.

    Bias and limits:
        What holds at these samples need not hold elsewhere: pass samples such as the map will
        meet. A map counts as inverted if samples come back within 1e-3 of their spread, and a
        log-determinant as correct within 1e-3 nats plus what rounding explains.

    Raises:
        TypeError: The map has no inverse, or x does not hold floating-point numbers.
        ValueError: As in :func:`entropy_change`.

    Example:
        >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> print(ip.check_invertible(torch.distributions.ExpTransform(), x).verdict)
        ExpTransform is invertible, and its log-determinants are correct in both directions.
    """
    if not has_inverse(module):
        raise ArgumentTypeError(
            "module",
            f"expected a map with an inverse, got {type(module).__name__} without a "
            "method 'inverse'. Add one, or see ip.jacobian_spectrum(module, x).",
        )
    passage = Passage.of(module, x, c, False, batch_size)
    with showing(progress), undisturbed(passage):
        passage.check_independence()
        return _outcome(passage)


def _outcome(passage: Passage) -> InvertibilityCheck:
    errors, cancellations = [], []
    for batch in passage.batches(passage.rows):
        values, reported = batch.run()
        errors.append(batch.inversion_errors(values))
        reported_back = batch.back(values).run()[1]
        if reported is not None and reported_back is not None:
            cancellations.append(differences(reported, -reported_back))
    inversion, relative = (max(figures) for figures in zip(*errors, strict=True))
    findings = []
    if not relative <= INVERTED:
        findings.append(f"samples come back {relative:.2g} of the spread of x away")

    few = passage.first(max(1, min(4, 2048 // passage.d)))
    values, reported = few.run()
    there = few.back(values)
    reported_back = there.run()[1]
    cancellation = forward = inverse = spread = None
    compared = 0
    tolerance = TOLERANCE + 1e-5 * passage.d
    wrong = []
    if reported is not None and reported_back is not None:
        cancellation = float(torch.cat(cancellations).max())
        spread = spread_of_repetitions(few)
        if passage.d <= LARGEST:
            compared = few.n
            exact = few.spectra()
            back = there.spectra().log_volume if relative > INVERTED else -exact.log_volume
            tolerance = TOLERANCE + float(exact.rounding.max())
            forward, words = _error(reported, exact.log_volume, tolerance)
            wrong += [f"its forward log-determinant {words}"] if words else []
            inverse, words = _error(reported_back, back, tolerance)
            wrong += [f"its inverse log-determinant {words}"] if words else []
    if spread:
        findings.append(f"its log-determinant is a random estimate (by {spread:.2g} nats)")
    elif wrong:
        findings += wrong
    elif cancellation is not None and not cancellation <= tolerance:
        findings.append(
            f"its log-determinants in both directions add up to {cancellation:.3g} instead of 0"
        )
    if findings:
        for name, part in few.parts().items():
            found = _outcome(part).findings
            findings += [f"{name} ({type(part.module).__name__}): {finding}" for finding in found]
    return InvertibilityCheck(
        module=type(unwrapped(passage.module)).__name__,
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


def _error(reported: Tensor, exact: Tensor, tolerance: float) -> tuple[float, str]:
    """The largest error of log-determinants, and words for it if it is beyond the tolerance."""
    error = float(differences(reported, exact).max())
    size = f"{error:.3g} nats"
    difference = reported - exact
    if error <= tolerance:
        words = ""
    elif not reported.any():
        words = f"is always 0, which is off by {size}"
    elif (differences(reported, -exact) <= tolerance).all():
        words = "has the wrong sign"
    elif len(difference) > 1 and float(difference.std()) <= tolerance:
        words = f"is off by a constant {float(difference.mean()):+.4g}"
    else:
        words = f"is off by {size}"
    return error, words
