"""Pickles of arrays and plain containers, read without running anything that they ask for."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

_NUMPY = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray"}
_OF_ARRAYS = {"_reconstruct", "ndarray", "dtype"}


class Kept:
    """What stands for an array or its type: what numpy would be given, which trusts its pickles.

    A damaged state would be written to memory that is not the array's.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, of numbers."""
        _, shape, dtype, fortran, data = self.state
        kind = dtype.arguments[0]
        kind = kind.decode() if isinstance(kind, bytes) else kind
        flat = np.frombuffer(data, np.dtype(kind))
        array: np.ndarray = flat.reshape(shape, order="F" if fortran else "C")
        return array


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY and name in _OF_ARRAYS:
            return Kept
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def read(data: bytes) -> Any:
    """The contents, with Python 2's text as bytes and a :class:`Kept` for each array.

    Raises:
        Exception: Of any kind, if the pickle is damaged or holds anything else.
    """
    return _Reader(io.BytesIO(data), encoding="bytes").load()
