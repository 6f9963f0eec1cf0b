"""Arguments in, clear errors out.

Every message names the argument, what was expected, what came and the way out.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoprobe.arrays import as_tensor as as_tensor  # one entrance: checks.as_tensor
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

# Integers below 2**53 in magnitude are exact in float64; 2**53 + 1 is the first that is not.
_EXACT_INTEGERS = 2**53

# The largest that torch takes for a size or a seed.
_MOST = 2**63 - 1
# How much of an argument an error shows.
_SHOWN = 200

_FEW = 1 << 12
_SMALLEST_SPREAD, _LARGEST_SPREAD = 1e-140, 1e140


def exact_float(x: Tensor, name: str) -> Tensor:
    """``x`` as float32 or float64, whichever holds each of its values exactly.

    Raises:
        ValueError: An integer reaches 2**53 in magnitude, from where on float64 rounds.
    """
    if x.dtype in (torch.float32, torch.float64):
        return x
    if x.is_floating_point() or x.element_size() <= 2:
        return x.to(torch.float32)
    if x.element_size() == 8 and not _within_exact_integers(x):
        raise ArgumentValueError(
            name,
            f"expected integers below 2**53 in magnitude, got {x.dtype} with larger "
            "ones, which float64 cannot tell apart. Subtract an offset or divide first.",
        )
    return x.to(torch.float64)


def _within_exact_integers(x: Tensor) -> bool:
    # Compared as float64: uint64 has no reductions, and rounding keeps the order.
    low, high = torch.aminmax(x.to(torch.float64))
    return bool(low > -_EXACT_INTEGERS) and bool(high < _EXACT_INTEGERS)


def extent(x: Tensor, name: str) -> tuple[float, float]:
    """The least and the greatest value of ``x``.

    Raises:
        ValueError: ``x`` holds NaN or infinite values; the message says how many.
    """
    # In this form two passes take less time than the one of aminmax, unless they are short.
    ends = torch.aminmax(x) if x.numel() <= _FEW else (x.amin(), x.amax())
    low, high = ends[0].item(), ends[1].item()
    if not (math.isfinite(low) and math.isfinite(high)):
        nan = int(x.isnan().sum())
        infinite = int(x.isinf().sum())
        share = (nan + infinite) / x.numel()
        raise ArgumentValueError(
            name,
            f"expected finite values, got {nan:,} NaN and {infinite:,} infinite among "
            f"{x.numel():,} ({share:.3%}), shape {tuple(x.shape)}. "
            "Find where they arise, or leave out the samples that hold them, and in other "
            "arguments those that belong to them.",
        )
    return low, high


def length(x: Tensor) -> int:
    """The number of samples, along the first axis; 0 for a tensor without axes."""
    return x.size(0) if x.dim() else 0


def samples(x: object, name: str, at_least: int = 2) -> Tensor:
    """``x`` as a matrix (n, d) of n samples: the first axis counts them, the rest is flattened.

    Half precision becomes float32, which holds it exactly; gradients pass through.

    Raises:
        TypeError: It is no array of real numbers.
        ValueError: It has too few samples, or is not finite.
    """
    tensor = exact_float(as_tensor(x, name), name)
    if tensor.dim() == 0 or len(tensor) < at_least:
        raise ArgumentValueError(
            name,
            f"expected at least {at_least} samples along the first axis, got shape "
            f"{tuple(tensor.shape)}. Pass more samples, stacked as (n, ...).",
        )
    extent(tensor.detach(), name)
    return tensor.flatten(1) if tensor.dim() > 1 else tensor.unsqueeze(1)


def continuous(x: object, name: str) -> Tensor:
    """The samples (n, d) of a continuous variable, see :func:`samples`.

    Raises:
        TypeError: It is no array of floating-point numbers.
        ValueError: It has too few samples, or is not finite.
    """
    tensor = as_tensor(x, name)
    if not tensor.is_floating_point():
        raise ArgumentTypeError(
            name,
            f"expected floating-point samples of a continuous variable, got "
            f"{tensor.dtype}. Integers are discrete: measure them with ip.Histogram, or "
            "dequantise them (x + torch.rand(x.shape)); if they do stand for a continuous "
            "variable, pass x.double().",
        )
    return samples(tensor, name)


def require_varying(x: Tensor, name: str) -> None:
    """Raises a ValueError if a feature of the samples (n, d) is constant."""
    # Few features repeat their first value, so few need a look at all samples.
    suspects = (x[:8] == x[0]).all(0)
    constant = int((x[:, suspects] == x[0, suspects]).all(0).sum())
    if constant:
        raise ArgumentValueError(
            name,
            f"expected features that vary, got {constant:,} constant of {x.shape[1]:,}, "
            "which have no density. Drop them: x[:, x.std(0) > 0].",
        )


def require_spread(x: Tensor, name: str, *others: Tensor) -> None:
    """Raises a ValueError if squares of differences leave the range of float64."""
    extents = [torch.aminmax(tensor.detach()) for tensor in (x, *others)]
    low = min(float(extent.min) for extent in extents)
    high = max(float(extent.max) for extent in extents)
    if high > low and not _SMALLEST_SPREAD < high - low < _LARGEST_SPREAD:
        raise ArgumentValueError(
            name,
            f"expected samples that spread by {_SMALLEST_SPREAD:g} to "
            f"{_LARGEST_SPREAD:g}, got {high - low:g}, whose square float64 cannot hold. "
            "Rescale them.",
        )


def require_same_length(**tensors: Tensor) -> None:
    """Raises a ValueError unless all have the same number of samples."""
    lengths = {name: len(x) for name, x in tensors.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} has {n:,}" for name, n in lengths.items())
        raise ArgumentValueError(
            ", ".join(lengths),
            f"expected as many samples of each, since they are taken in "
            f"pairs; {got}. Pass the rows that belong together.",
        )


def require_same_width(**tensors: Tensor) -> None:
    """Raises a ValueError unless the samples (n, d) of all have the same d."""
    widths = {name: x.shape[1] for name, x in tensors.items()}
    if len(set(widths.values())) > 1:
        got = ", ".join(f"{name} has d={d:,}" for name, d in widths.items())
        raise ArgumentValueError(
            ", ".join(widths),
            f"expected samples from one space, with equally many features; "
            f"{got}. Pass what has the same shape beyond the first axis.",
        )


def require_one_of(value: Any, choices: Iterable[Any], name: str) -> None:
    """Raises a ValueError that lists the choices unless ``value`` is one of them."""
    choices = tuple(choices)
    # Compared with its own kind only: == of arrays is an array.
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        expected = ", ".join(map(repr, choices))
        raise ArgumentValueError(name, f"expected one of {expected}, got {shown(value)}.")


def require_real(
    value: Any, low: float, name: str, high: float = math.inf, *, infinite: bool = False
) -> int | float:
    """``value`` as a Python number: integers below 2**53 as an int, all others as a float.

    Arguments:
        value: The number, which may be one of NumPy's or a fraction.
        low: The least that it may be.
        name: What the caller calls it, for error messages.
        high: The most that it may be.
        infinite: Whether it may be infinite, too.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of this range, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(name, f"expected a number, got {typed(value)}.")
    is_integer = isinstance(value, int | np.integer)
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if not low <= number <= high or (math.isinf(number) and not infinite):
        finite = "a number" if infinite else "a finite number"
        bounds = f">= {low:g}" + ("" if high == math.inf else f" and <= {high:g}")
        raise ArgumentValueError(name, f"expected {finite} {bounds}, got {shown(value)}.")
    return int(number) if is_integer and abs(number) < _EXACT_INTEGERS else number


def require_real_field(
    thing: Any, name: str, low: float, high: float = math.inf, *, infinite: bool = False
) -> None:
    """Checks a field of a frozen dataclass, and makes it a Python number: :func:`require_real`."""
    value = require_real(getattr(thing, name), low, name, high, infinite=infinite)
    object.__setattr__(thing, name, value)


def require_integer(value: Any, low: int, high: int | None, name: str) -> int:
    """``value`` as a Python int.

    NumPy's integers are of a few bytes, and wrap around where products of them do not fit.

    Raises:
        TypeError: It is no integer.
        ValueError: It is not in ``[low, high]``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(name, f"expected an integer, got {typed(value)}.")
    number = int(value)
    most = _MOST if high is None else high
    if not low <= number <= most:
        bounds = f"at least {low:,}" if high is None else f"between {low:,} and {high:,}"
        bounds = f"below {most + 1:,}" if high is None and number > most else bounds
        got = f"{number:,}" if abs(number) < 10**_SHOWN else f"one of {number.bit_length():,} bits"
        raise ArgumentValueError(name, f"expected an integer {bounds}, got {got}.")
    return number


def require_integer_field(thing: Any, name: str, low: int, high: int | None = None) -> None:
    """Checks a field of a frozen dataclass, and makes it a Python int: :func:`require_integer`."""
    object.__setattr__(thing, name, require_integer(getattr(thing, name), low, high, name))


def require_bool(value: Any, name: str) -> bool:
    """``value`` as a Python bool.

    Raises:
        TypeError: It is neither True nor False.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(name, f"expected True or False, got {typed(value)}.")
    return bool(value)


def require_bool_field(thing: Any, name: str) -> None:
    """Checks a field of a frozen dataclass, and makes it a Python bool: :func:`require_bool`."""
    object.__setattr__(thing, name, require_bool(getattr(thing, name), name))


def require_text(value: Any, name: str) -> str:
    """``value`` itself.

    Raises:
        TypeError: It is no string.
    """
    if not isinstance(value, str):
        raise ArgumentTypeError(name, f"expected a text, got {typed(value)}.")
    return value


def require_generator(value: Any, name: str) -> None:
    """Raises a TypeError unless ``value`` is a generator of torch or ``None``."""
    if not isinstance(value, torch.Generator | None):
        raise ArgumentTypeError(name, f"expected a torch.Generator or None, got {shown(value)}.")


def items(value: Any) -> Iterator[Any]:
    """What can be iterated over, item by item; a text or anything else as the only item."""
    try:
        return iter((value,) if isinstance(value, str) else value)
    except (TypeError, ValueError):  # so do arrays without axes, and parameters without a shape
        return iter((value,))


def shown(value: Any) -> str:
    """The start of the ``repr`` of an argument, whatever it is, for error messages."""
    try:
        text = repr(value)
    except Exception:  # of somebody else's class
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def typed(value: Any) -> str:
    """The start of the ``repr`` of an argument, and its type, for error messages."""
    return f"{shown(value)} of type {type(value).__name__}"


def require_sample_shape(x: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raises unless ``x`` holds samples of this shape: (n, *shape)."""
    if tuple(x.shape[1:]) != shape:
        expected = ", ".join(map(str, ("n", *shape)))
        raise ArgumentValueError(
            name, f"expected shape ({expected}), got {tuple(x.shape)}. Reshape it."
        )
