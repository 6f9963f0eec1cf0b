"""Pickles of arrays and plain containers, read without running any code that they name."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

_NUMPY = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}
_ARRAY_NAMES = {"_reconstruct", "ndarray", "dtype"}


class Kept:
    """Stands for an array or its type, and keeps what NumPy would have been given.

    NumPy itself trusts its pickles: with a damaged one it writes beyond the array's memory.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Returns the array of numbers that this stands for."""
        _, shape, dtype, fortran, data = self.state
        kind = dtype.arguments[0]
        kind = kind.decode() if isinstance(kind, bytes) else kind
        flat = np.frombuffer(data, np.dtype(kind))
        array: np.ndarray = flat.reshape(shape, order="F" if fortran else "C")
        return array


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY and name in _ARRAY_NAMES:
            return Kept
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def read(data: bytes) -> Any:
    """Returns the contents of a pickle, with Python 2's text as bytes.

    Each array is a :class:`Kept`.

    Raises:
        Exception: Any exception, if the pickle is damaged or holds anything else.
    """
    for opcode, argument, _ in pickletools.genops(data):
        # The memo is a list, which grows to the number of its last entry.
        if opcode.name in _MEMO and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"it has a memo with {argument} entries")
    return _Reader(io.BytesIO(data), encoding="bytes").load()
