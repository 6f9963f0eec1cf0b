"""Compiled kernels that count values in one read of memory; this module needs numba.

``compiled.py`` says when they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from infoprobe.estimators.histogram.grids import (
    ALMOST_ONE,
    FINEST,
    FLOAT32_EXPONENT,
    FLOAT32_INDEX,
    INDEX_BITS,
)

# So many places stay in the processor's nearest cache.
_BLOCK = 2048
# Lanes begin at different places of a page: the processor mixes up those that do not.
_PAGE, _APART = 1024, 272
# A lane can count as many values.
_MOST = 1 << 31


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled once for each machine if there is a folder to keep the result in."""
    # Without fastmath: contracted multiplications and additions would round differently.
    njit: Any = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        compiled: Callable[..., Any] = njit(cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        compiled = njit()(function)
    return compiled


@_compiled
def _add(places, start, lanes):  # type: ignore[no-untyped-def]
    """Adds places to the histogram that begins at ``start``, neighbours in different lanes."""
    n, last = len(places), len(lanes) - 1
    a, b = lanes[0, start:], lanes[min(1, last), start:]
    c, d = lanes[min(2, last), start:], lanes[min(3, last), start:]
    whole = n // 4 * 4
    for i in range(0, whole, 4):
        a[places[i]] += 1
        b[places[i + 1]] += 1
        c[places[i + 2]] += 1
        d[places[i + 3]] += 1
    for i in range(whole, n):
        a[places[i]] += 1


@_compiled
def count_on_grid(x, starts, stops, rows, lanes, size, first, low, inverse, step):  # type: ignore[no-untyped-def]
    """Counts floating-point values (n,) on a grid, run by run.

    Arguments:
        x: The values.
        starts: Where the histogram of each value begins in a lane, (n,) uint32, or empty: then
            the rows decide.
        stops: The end of each run of values.
        rows: The histogram of each run, from 0.
        lanes: Where to add the counts: lanes (1 or 4, cells), int64.
        size: The number of bins.
        first: The number of the first bin; bin i begins at ``low + i * step``.
        low: Where bin 0 begins.
        inverse: One over the step.
        step: The width of a bin.
    """
    places = np.empty(_BLOCK, np.uint32)
    offset, last = np.float64(first), np.uint32(size - 1)
    begin = 0
    for run in range(len(stops)):
        while begin < stops[run]:
            n = min(_BLOCK, stops[run] - begin)
            part = x[begin : begin + n]
            for i in range(n):
                value = np.float64(part[i])
                place = np.floor((value - low) * inverse + ALMOST_ONE)
                number = np.int32(place - offset) - np.int32(value < place * step + low)
                # Whatever another thread writes meanwhile must not be counted elsewhere.
                places[i] = min(np.uint32(number), last)
            if len(starts):
                for i in range(n):
                    places[i] += starts[begin + i]
            _add(places[:n], rows[run] * size, lanes)
            begin += n


@_compiled
def least_and_greatest(bits, found):  # type: ignore[no-untyped-def]
    """The least and the greatest of floating-point numbers, by their bits as signed integers.

    They are ordered as the numbers are once those of negative numbers, less the sign, are turned.

    Arguments:
        bits: The numbers, (n,).
        found: Where to write the two, of the same type.
    """
    sign, others = 8 * bits.itemsize - 1, np.iinfo(bits.dtype).max
    least = greatest = bits[0] ^ ((bits[0] >> sign) & others)
    for i in range(len(bits)):
        turned = bits[i] ^ ((bits[i] >> sign) & others)
        least, greatest = min(least, turned), max(greatest, turned)
    found[0] = least ^ ((least >> sign) & others)
    found[1] = greatest ^ ((greatest >> sign) & others)


@_compiled
def _spanning(low, high, bins):  # type: ignore[no-untyped-def]
    """The exponent, the first bin and the size of :meth:`DyadicGrid.spanning`, of float32."""
    exponent = FINEST
    magnitude = max(abs(low), abs(high))
    if magnitude > 0:
        exponent = max(exponent, math.frexp(magnitude)[1] - INDEX_BITS)
    half_width = (high / 2 - low / 2) / bins
    if half_width > 0:
        exponent = max(exponent, math.frexp(half_width)[1] - 1)
    if exponent > 0:
        low, high = np.floor(low), np.floor(high)  # as floats: they may exceed int64
    first = np.int64(np.floor(math.ldexp(low, -exponent)))
    last = np.int64(np.floor(math.ldexp(high, -exponent)))
    while last - first >= bins:
        exponent, first, last = exponent + 1, first >> 1, last >> 1
    return exponent, first, last - first + 1


@_compiled
def count_dyadic(x, stops, counts, bins):  # type: ignore[no-untyped-def]
    """Counts float32 values (n,) on the finest dyadic grid that spans them, run by run.

    Arguments:
        x: The values.
        stops: The end of each run of values, (runs,) int64.
        counts: Where to add the counts of each run: (runs, bins) int64.
        bins: The most bins that the grid may have.

    Returns:
        The exponent, the first bin and the size of the grid. The size is 0, and nothing was
        counted, if some value is not finite or float32 does not find the bins exactly.
    """
    ends = np.empty(2, np.int32)
    least_and_greatest(x.view(np.int32), ends)
    low, high = np.float64(ends.view(np.float32)[0]), np.float64(ends.view(np.float32)[1])
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0, 0, 0
    exponent, first, size = _spanning(low, high, bins)
    if abs(exponent) > FLOAT32_EXPONENT or max(abs(first), abs(first + size)) > FLOAT32_INDEX:
        return 0, 0, 0
    scale = np.float32(math.ldexp(1.0, -exponent))
    offset, last = np.int32(first), np.uint32(size - 1)
    lanes = np.zeros((4, -(-size // _PAGE) * _PAGE + _APART), np.uint32)
    a, b, c, d = lanes[0], lanes[1], lanes[2], lanes[3]
    places = np.empty(_BLOCK, np.uint32)
    begin, counted = 0, 0
    for run in range(len(stops)):
        while begin < stops[run]:
            n = min(_BLOCK, stops[run] - begin)
            part = x[begin : begin + n]
            if exponent > 0:
                # As in DyadicGrid.exact. Whatever another thread writes meanwhile must not be
                # counted elsewhere, hence the minimum.
                for i in range(n):
                    number = np.int32(np.floor(np.floor(part[i]) * scale)) - offset
                    places[i] = min(np.uint32(number), last)
            else:
                for i in range(n):
                    number = np.int32(np.floor(part[i] * scale)) - offset
                    places[i] = min(np.uint32(number), last)
            whole = n // 4 * 4
            for i in range(0, whole, 4):
                a[places[i]] += 1
                b[places[i + 1]] += 1
                c[places[i + 2]] += 1
                d[places[i + 3]] += 1
            for i in range(whole, n):
                a[places[i]] += 1
            begin += n
            counted += n
            if begin == stops[run] or counted > _MOST:
                row = counts[run]
                for i in range(size):
                    row[i] += np.int64(a[i]) + np.int64(b[i]) + np.int64(c[i]) + np.int64(d[i])
                lanes[:] = 0
                counted = 0
    return exponent, first, size
