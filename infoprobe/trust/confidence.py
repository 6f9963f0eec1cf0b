"""How far an estimate would move with other samples."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.arguments import ARGUMENTS
from infoprobe.estimators.histogram.histogram import Histogram
from infoprobe.progress import progress_bar, showing
from infoprobe.trust.choose import Measure, measure_of
from infoprobe.units import nats_per_unit


class ConfidenceInterval(NamedTuple):
    """An estimate and how far to trust it, 0-dim float64 tensors in the unit of the measure.

    Attributes:
        value: The estimate from all samples.
        stderr: Its standard error.
        low: The lower end of the interval.
        high: The upper end of the interval.
    """

    value: Tensor
    stderr: Tensor
    low: Tensor
    high: Tensor


def confidence_interval(
    measure: Measure,
    *tensors: ArrayLike,
    level: float = 0.95,
    resamples: int = 50,
    method: Literal["subsample", "bootstrap"] = "subsample",
    generator: torch.Generator | None = None,
    base: float = math.e,
    progress: bool = False,
) -> ConfidenceInterval:
    r"""An estimate with a confidence interval, for any measure.

    .. math:: \hat\theta \pm z\, \mathrm{se}, \qquad \Phi(z) = (1 + level) / 2

    Samples are drawn anew along the first axis: the pixels of one image stay together. The
    variables of one measure are drawn together, and the two samples of a divergence each by
    itself. (The arguments of any other callable are drawn together if they have equally many
    samples, and otherwise each by itself.)

    Arguments:
        measure: A method such as ``ip.KNN().entropy``, the name of a measure, such as
            ``"mutual_information"``, for the estimator that :func:`infoprobe.choose` chooses, or
            any function of tensors.
        tensors: Its arguments, each (n, ...).
        level: The probability with which the interval should cover what the measure estimates on
            average.
        resamples: How many times to estimate again.
        method: ``"subsample"`` takes half of the samples, without repetition; the standard error
            is the standard deviation of the estimates from halves (the delete-half jackknife).
            ``"bootstrap"`` draws n samples with repetition, which duplicates samples: not for
            estimators of continuous variables by neighbours.
        generator: Draws the samples; ``None`` for one that starts from seed 0. Torch's global
            generator is not used.
        base: The base of the logarithm, as in :func:`infoprobe.entropy`: the interval of a
            measure in nats, as all methods of estimators are, is converted.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.

    Limits:
        The measure must be able to work with half of the samples. The interval tells nothing
        about the noise of surrogates in a calibration (see :meth:`infoprobe.KNN.bias`), nor
        about bias: an estimate that is wrong for all samples of this size has a narrow interval
        around a wrong value. Only of a :class:`~infoprobe.Histogram` is the bias known, and its
        interval is at least as wide as its own standard error says, which includes the bias. A
        histogram that takes its range from the data has other bins with
        other samples, which widens the interval: give it a range.

    Raises:
        TypeError: ``measure`` is neither a function nor a name.
        ValueError: There is no measure of this name, there are too few samples, the level is not
            within (0, 1), or estimates are not finite. Other errors are raised by the measure.

    References:
        | J. Shao & C. Wu (1989). A general theory for jackknife variance estimation. Ann.
          Statist. 17(3), 1176-1197.
        | D. Politis & J. Romano (1994). Large sample confidence regions based on subsamples
          under minimal assumptions. Ann. Statist. 22(4), 2031-2050.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> interval = ip.confidence_interval(ip.KNN().entropy, x)
        >>> bool(interval.low < 2.838 < interval.high)  # ln(2 pi e)
        True
    """
    estimate = measure_of(measure, tensors, "ip.KNN().entropy")
    nats = nats_per_unit(base)
    resamples = checks.require_integer(resamples, 2, None, "resamples")
    checks.require_one_of(method, ["subsample", "bootstrap"], "method")
    level = checks.require_real(level, 0, "level")
    if not 0 < level < 1:
        raise ArgumentValueError(
            "level", f"expected a probability between 0 and 1, got {level!r}."
        )
    if not tensors:
        raise ArgumentTypeError("tensors", "expected the arguments of the measure, got none.")
    checks.require_generator(generator, "generator")
    samples = [checks.as_tensor(x, f"tensors[{i}]") for i, x in enumerate(tensors)]
    for i, x in enumerate(samples):
        if x.dim() == 0 or len(x) < 4:
            raise ArgumentValueError(
                f"tensors[{i}]",
                f"expected at least 4 samples along the first axis, got shape {tuple(x.shape)}. "
                "Pass more.",
            )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    together = _together(estimate, samples)
    found = []
    with showing(progress), progress_bar(resamples + 1, "interval", unit="estimate") as bar:
        value = scalar_of(estimate(*tensors))
        bar.update()
        with torch.no_grad():
            for _ in range(resamples):
                drawn = _draw(samples, method, together, generator)
                found.append(_again(estimate, drawn, method))
                bar.update()
    again = torch.stack(found)
    if not again.isfinite().all():
        raise ArgumentValueError(
            "measure",
            f"expected finite estimates, got {int((~again.isfinite()).sum())} of "
            f"{resamples} that are not, from a {method} of the samples. Use an estimator that is "
            "finite for fewer of them, such as a Histogram with a pseudocount.",
        )
    if not value.isfinite():
        raise ArgumentValueError(
            "measure",
            f"expected a finite estimate, got {float(value)} from all samples, around which there "
            "is no interval. Use an estimator that is finite for them.",
        )
    # Halves without repetition vary as n samples do: s^2 / (n/2) * (1 - 1/2) = s^2 / n.
    stderr = again.std()
    owner, name = (getattr(estimate, key, None) for key in ("__self__", "__name__"))
    if isinstance(owner, Histogram) and name in ARGUMENTS:
        known = owner.estimate(name, *tensors).stderr
        stderr = stderr if known is None else torch.maximum(stderr, known.to(stderr.device))
    # From the lower tail, which float64 resolves at levels near 1.
    z = -statistics.NormalDist().inv_cdf((1 - level) / 2)
    value, stderr = value / nats, stderr / nats
    return ConfidenceInterval(value, stderr, value - z * stderr, value + z * stderr)


def scalar_of(value: Any) -> Tensor:
    """What a measure returned, as a number: 0-dim float64, where it is."""
    is_tensor = isinstance(value, Tensor)
    number: Tensor = torch.as_tensor(
        value, dtype=torch.float64, device=value.device if is_tensor else "cpu"
    )
    if number.dim():
        raise ArgumentValueError(
            "measure",
            f"expected a single number, got a tensor of shape {tuple(number.shape)}. "
            "Take one component at a time.",
        )
    return number


def _again(measure: Callable[..., Tensor], drawn: Sequence[Tensor], method: str) -> Tensor:
    try:
        return scalar_of(measure(*drawn))
    except ValueError as error:
        sizes = ", ".join(f"{len(x):,}" for x in drawn)
        raise ValueError(f"in a {method} ({sizes} samples): {error}") from error


def _together(measure: Callable[..., Tensor], samples: Sequence[Tensor]) -> bool:
    while isinstance(measure, functools.partial):
        measure = measure.func
    arguments = ARGUMENTS.get(getattr(measure, "__name__", ""))
    if arguments is not None and arguments.independent:
        return False
    return len({len(x) for x in samples}) == 1


def _draw(
    samples: Sequence[Tensor], method: str, together: bool, generator: torch.Generator
) -> list[Tensor]:
    rows = None
    drawn = []
    for x in samples:
        if rows is None or not together:
            rows = _rows(len(x), method, generator)
        drawn.append(x[rows.to(x.device)])
    return drawn


def _rows(n: int, method: str, generator: torch.Generator) -> Tensor:
    device = generator.device
    if method == "bootstrap":
        return torch.randint(n, (n,), generator=generator, device=device)
    return torch.randperm(n, generator=generator, device=device)[: n // 2]
