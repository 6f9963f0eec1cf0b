"""How maps change differential entropy, exactly: by their log-determinants."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentValueError
from infoprobe.libraries.lookup import known_wrong, wrong_now
from infoprobe.maps.comparison import TOLERANCE, differences, spread_of_repetitions
from infoprobe.maps.jacobians import LARGEST
from infoprobe.maps.passage import Map, Passage, undisturbed
from infoprobe.progress import showing
from infoprobe.units import nats_per_unit

# Up to this many inputs, reported log-determinants are compared with autograd before they are
# believed, on this many samples.
_COMPARED_INPUTS, _COMPARED_SAMPLES = 128, 2


class EntropyChangeResult(NamedTuple):
    """What a map adds to differential entropy.

    Attributes:
        value: The mean of log|det J| over the samples in nats, a 0-dim float64 tensor.
        stderr: The standard error of the value in nats, a 0-dim float64 tensor; NaN for a single
            sample, and where the mean is infinite.
        n: The number of samples.
    """

    value: Tensor
    stderr: Tensor
    n: int


def entropy_change(
    module: Map,
    x: ArrayLike | Sequence[Tensor],
    *,
    c: Tensor | Sequence[Tensor] | None = None,
    rev: bool = False,
    batch_size: int = 256,
    base: float = math.e,
    progress: bool = False,
) -> EntropyChangeResult:
    r"""Computes what a map adds to the differential entropy of samples, exactly.

    .. math:: h(f(X)) = h(X) + E \ln |\det J_f(X)|

    for an injective f; the value is the mean over the samples, without bias. For a smooth f into
    more dimensions than x has, such as a decoder,

    .. math:: h(f(X)) = h(X) + \tfrac12 E \ln \det J_f(X)^\top J_f(X)

    is the entropy with respect to area on the surface that it maps to. Whether f is injective is
    for the caller to know, or for :func:`check_invertible` to find out.

    A FrEIA, nflows or normflows module and a transform of torch or zuko report their own
    log-determinants. They are believed unless a module is known to report a wrong
    log-determinant (FrEIA's InvAutoFC, InvAutoConv2D, and LearnedElementwiseScaling in reverse),
    or, up to d = 128, autograd disagrees on two samples. In these cases, for any other map, and
    for a map into more dimensions, the Jacobian is computed by autograd, up to d = 3,072 inputs.
    Beyond d = 128, log-determinants that are random estimates (FrEIA's IResNetLayer) are
    averaged, with a warning.

    Arguments:
        module: The map, or a function of a batch: FrEIA's modules and graphs; transforms and flows
            of nflows and normflows, or any other module with ``forward`` and ``inverse`` that
            return ``(z, log_det)``; transforms of ``torch.distributions`` and zuko, and zuko's
            flows; maps of a library whose adapter you have registered
            (:func:`infoprobe.libraries.register`); any other module or function that returns a
            tensor. Forward is a library's own forward: nflows and zuko map data to noise,
            normflows maps noise to data.
        x: Samples, (n, ...), in the module's own precision, on its device; several tensors where
            the module takes a tuple. With ``rev=True``, samples of the output.
        c: The condition, or a tuple of conditions, with a row for each sample, for modules that
            take any: ``c`` of FrEIA's modules, the context of others, further arguments of a
            function.
        rev: Whether the module runs backwards.
        batch_size: The number of samples that go through at a time; in a Jacobian, each direction
            counts as a sample. Besides, at most 128 MB of Jacobians are held, or one Jacobian.
        base: The base of the logarithm, as in :func:`infoprobe.entropy`.
        progress: Whether to show a progress bar where Jacobians are computed. Needs the extra
            ``infoprobe[progress]``.

    Returns:
        ``(value, stderr, n)``, in nats by default. Where the map flattens the surroundings of a
        sample, the value is minus infinity, with a warning that says how often.

    Bias and limits:
        The value is exact up to rounding, which ill-conditioned Jacobians magnify: run
        ``module.double()`` on ``x.double()`` if many digits matter. Singular values that rounding
        explains count as 0.
        Backwards, autograd follows the map forward from the point that its inverse returns, as
        long as that leads back within 1e-3 of the spread of x, since iterative inverses detach.
        The modules that a function calls are not inspected: they must be in eval mode, and
        initialised.

    Raises:
        TypeError: The module is not a map, has no inverse, or x does not hold floating-point
            numbers.
        ValueError: The map has fewer outputs than inputs; it mixes samples or is random (batch
            statistics, dropout); it takes its parameters from the first batch; d is too large for
            a Jacobian that is needed; or x is empty or not finite.

    Warns:
        UserWarning: The module's own log-determinants are wrong, and those of autograd are
            returned; they are random; something hides derivatives from autograd; or the value is
            infinite.

    References:
        | T. Cover & J. Thomas (2006). Elements of Information Theory. Theorem 8.6.4.
        | A. Ben-Israel (1999). The change-of-variables formula using matrix volume. SIAM J. Matrix
          Analysis 21(1), 300-312.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> round(float(ip.entropy_change(lambda x: 3 * x, x).value), 4)  # 2 ln 3
        2.1972
    """
    nats = nats_per_unit(base)
    passage = Passage.of(module, x, c, rev, batch_size)
    with showing(progress), undisturbed(passage):
        passage.check_independence()
        inputs, outputs = passage.sizes
        if outputs < inputs:
            raise ArgumentValueError(
                "module",
                f"expected a map into at least as many dimensions, got {inputs:,} numbers "
                f"in and {outputs:,} out, which cannot be injective. Estimate what it keeps: "
                "ip.mutual_information(x, y, ip.KNN()).",
            )
        log_determinants = _believed_log_determinants(passage) if outputs == inputs else None
        if log_determinants is None:
            log_determinants = passage.spectra().log_volume
    value, stderr, n = _mean_log_determinant(log_determinants)
    return EntropyChangeResult(value / nats, stderr / nats, n)


def _believed_log_determinants(passage: Passage) -> Tensor | None:
    """The log-determinants that a map reports; ``None`` if it reports none, or wrong ones."""
    doubts = known_wrong(passage.module, passage.rev) + wrong_now(passage.module)
    few = passage.first(_COMPARED_SAMPLES)
    reported = few.run()[1]
    if reported is None:
        return None
    if not doubts and passage.d <= _COMPARED_INPUTS:
        exact = few.spectra()
        difference = differences(reported, exact.log_volume)
        if (difference > TOLERANCE + exact.rounding).any():
            doubts = [
                f"it reports {float(reported[0]):.5g} where autograd finds "
                f"{float(exact.log_volume[0]):.5g}"
            ]
    if doubts and passage.d > LARGEST:
        raise ArgumentValueError(
            "module",
            f"expected correct log-determinants, but {'; '.join(doubts)}, and "
            f"d={passage.d:,} inputs are too many for autograd, which takes {LARGEST:,}. Pass the "
            "module's parts one by one: their entropy changes add up.",
        )
    if doubts:
        warnings.warn(
            f"module: it reports wrong log-determinants ({'; '.join(doubts)}). The value comes "
            "from Jacobians by autograd instead, with a pass for each input of each sample.",
            stacklevel=3,
        )
        return None
    spread = spread_of_repetitions(few)
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


def _mean_log_determinant(log_determinants: Tensor) -> EntropyChangeResult:
    n = len(log_determinants)
    if log_determinants.isnan().any():
        raise ArgumentValueError(
            "module",
            f"expected log-determinants that are numbers, got NaN for "
            f"{int(log_determinants.isnan().sum()):,} of {n:,} samples. Find where they arise: "
            "the samples may lie outside of what the module can map.",
        )
    infinite = int(log_determinants.isinf().sum())
    if infinite:
        warnings.warn(
            f"module: log|det J| is infinite for {infinite:,} of {n:,} samples "
            f"({infinite / n:.1%}), around which the map is singular up to rounding. So the "
            "entropy change is infinite, too. See ip.jacobian_spectrum(module, x).",
            stacklevel=3,
        )
    value = log_determinants.mean()
    deviations = (log_determinants - value).square().sum() if n > 1 else value * math.nan
    return EntropyChangeResult(value, (deviations / max(n - 1, 1) / n).sqrt(), n)
