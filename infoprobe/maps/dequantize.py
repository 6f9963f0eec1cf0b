"""Turns images of whole numbers into samples that have a density."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

# With more levels, float32 would have fewer than 256 values for each.
_MOST_LEVELS = 1 << 16

# The number of values that are worked on at a time, in double precision.
_BLOCK = 1 << 22


def dequantize(
    images: ArrayLike,
    levels: int = 256,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Spreads whole numbers evenly over the intervals that they stand for.

    .. math:: y = (x + u) / L, \quad u \sim \mathcal U[0, 1)^d

    with L levels. Whole numbers have no density, and their differential entropy is minus
    infinity; y has the density :math:`L^d\, P(x)` on the cell of x, so that exactly

    .. math:: h(Y) = H(X) - d \ln L.

    A density model q of y stands for the discrete model
    :math:`Q(x) = \int q((x + u) / L)\, du / L^d`, whose likelihood bounds it: by Jensen's
    inequality :math:`\mathbb E_u \ln q(y) - d \ln L \le \ln Q(x)`, so a likelihood in y never
    flatters the model (Theis, van den Oord & Bethge, 2016).

    Arguments:
        images: Whole numbers from 0 to ``levels - 1``, of any shape, in an integer type such as
            uint8.
        levels: The number of grey levels L, at least 2 and at most 65,536.
        generator: The generator that draws u; ``None`` for torch's global generator.
        dtype: ``torch.float32`` or ``torch.float64``. Near 1, single precision keeps only
            :math:`24 - \log_2 L` bits of u, so among many values of a single pixel some are equal.

    Returns:
        A tensor in [0, 1) of the same shape, on the same device. Rounding carries no value into
        another cell: ``(y.double() * levels).floor()`` gives the images back.

    Raises:
        TypeError: The images are floating-point or boolean; they may have been scaled already.
        ValueError: A value is below 0 or not below ``levels``.

    References:
        L. Theis, A. van den Oord & M. Bethge (2016). A note on the evaluation of generative
        models. ICLR.

    Example:
        >>> images = torch.tensor([[0, 128, 255]], dtype=torch.uint8)
        >>> y = ip.dequantize(images, generator=torch.Generator().manual_seed(0))
        >>> (y.double() * 256).floor().int()
        tensor([[  0, 128, 255]], dtype=torch.int32)
    """
    levels = checks.require_integer(levels, 2, _MOST_LEVELS, "levels")
    checks.require_generator(generator, "generator")
    if not any(dtype is known for known in (torch.float32, torch.float64)):
        raise ArgumentTypeError(
            "dtype", f"expected torch.float32 or torch.float64, got {checks.shown(dtype)}."
        )
    images = checks.as_tensor(images, "images")
    if images.is_floating_point() or images.dtype == torch.bool:
        raise ArgumentTypeError(
            "images",
            f"expected whole numbers in an integer type, got {images.dtype}. Pass the "
            "images as they were stored, such as uint8; if they were scaled, pass "
            "(x * 255).round().to(torch.uint8).",
        )
    blocks = torch.split(images.flatten(), _BLOCK)
    extents = [torch.aminmax(block.to(torch.int64)) for block in blocks]
    low, high = min(int(e.min) for e in extents), max(int(e.max) for e in extents)
    if low < 0 or high >= levels:
        raise ArgumentValueError(
            "images",
            f"expected values from 0 to levels - 1 = {levels - 1:,}, got {low:,} to "
            f"{high:,}. Pass the number of levels that the images have.",
        )
    parts = [
        _spread_over_cells(block.to(torch.float64), levels, generator, dtype) for block in blocks
    ]
    return torch.cat(parts).view(images.shape)


def _spread_over_cells(
    x: Tensor, levels: int, generator: torch.Generator | None, dtype: torch.dtype
) -> Tensor:
    """The values with noise, each inside its cell."""
    source = x.device if generator is None else generator.device
    noise = torch.rand(x.shape, dtype=torch.float64, device=source, generator=generator)
    y: Tensor = ((x + noise.to(x.device)) / levels).to(dtype)
    for _ in range(2):  # rounding may have carried a value out of its cell
        cell = y.double() * levels
        y = torch.where(cell >= x + 1, torch.nextafter(y, torch.zeros_like(y)), y)
        y = torch.where(cell < x, torch.nextafter(y, torch.ones_like(y)), y)
    return y
