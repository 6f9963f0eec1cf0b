"""What identifies an estimator: its class and settings, as plain data.

Runs that are resumed and processes that are merged compare these instead of the objects, whose
``==`` or ``repr`` may know no more than an address in memory.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import hashlib
import math
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoprobe.errors import ArgumentTypeError

_WAY_OUT = (
    "Give the estimator a method configuration() that returns what identifies it, as numbers, "
    "strings, lists and dictionaries."
)


def configuration(thing: Any) -> Any:
    """What identifies an object, as plain data that are the same in every process.

    What an object's own method ``configuration()`` returns, if it has one. Otherwise, of a
    dataclass the class and the fields that it compares; of another object the class and its
    attributes; of a class or a function its name; of a tensor or an array the type, the shape and
    a checksum.

    Arguments:
        thing: An estimator, or a setting of one.

    Returns:
        ``None``, a bool, a number, a string, or lists and dictionaries (with strings as keys) of
        such. They can be compared with ``==``, and saved by ``torch.save`` for loading with
        ``weights_only=True``.

    Raises:
        TypeError: The object refers to itself, or holds something that no plain data identify,
            such as a lambda or an open file.

    Example:
        >>> from infoprobe.estimators.configuration import configuration
        >>> configuration(ip.Gaussian(shrinkage=0.5))["settings"]
        {'shrinkage': 0.5}
    """
    try:
        return _plain(thing, ())
    except ArgumentTypeError:
        raise
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        # Some tensors and arrays do not show their bytes, and some objects are nested without end.
        raise _unknown(f"one that does not show what it holds ({error})") from error


def _plain(thing: Any, within: tuple[Any, ...]) -> Any:
    """The configuration of ``thing``, which is part of the objects ``within``."""
    if any(thing is outer for outer in within):
        raise ArgumentTypeError(
            "estimator",
            f"expected settings that do not refer to themselves, but {_name(type(thing))} does. "
            f"{_WAY_OUT}",
        )
    if isinstance(thing, enum.Enum):
        return f"{_name(type(thing))}.{thing.name}"
    if thing is None or isinstance(thing, bool | np.bool_):
        return thing if thing is None else bool(thing)
    if isinstance(thing, int | np.integer):
        return int(thing)
    if isinstance(thing, str):
        return str.__str__(thing)  # of a subclass, too, the plain string
    if isinstance(thing, float | np.floating):
        # NaN would differ from itself, and 1.0 is the same setting as 1.
        return "nan" if math.isnan(thing) else int(thing) if thing == thing // 1 else float(thing)
    if isinstance(
        thing, torch.dtype | torch.layout | torch.memory_format | torch.device | np.dtype
    ):
        return str(thing)
    if isinstance(thing, bytes):
        return {"bytes": thing.hex()}
    return _compound(thing, (*within, thing))


def _compound(thing: Any, within: tuple[Any, ...]) -> Any:
    if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType):
        return _name_of_code(thing)
    if callable(getattr(thing, "configuration", None)):
        return _plain(thing.configuration(), within)
    if isinstance(thing, Tensor):
        return _checksum(thing, str(thing.dtype), thing.shape)
    if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        return _checksum(torch.from_numpy(thing.copy()), str(thing.dtype), thing.shape)
    if isinstance(thing, np.ndarray):
        return [_plain(item, within) for item in thing.tolist()]
    if type(thing) in (list, tuple):
        return [_plain(item, within) for item in thing]
    if isinstance(thing, list | tuple):
        return {"class": _name(type(thing)), "items": [_plain(item, within) for item in thing]}
    if isinstance(thing, set | frozenset):
        return {"set": sorted((_plain(item, within) for item in thing), key=repr)}
    if type(thing) is dict:
        return _items(thing, within)
    if isinstance(thing, Mapping):
        return {"class": _name(type(thing)), "items": _items(thing, within)}
    return {"class": _name(type(thing)), "settings": _items(_settings(thing), within)}


def _items(mapping: Mapping[Any, Any], within: tuple[Any, ...]) -> Any:
    if all(isinstance(key, str) for key in mapping):
        return {str.__str__(key): _plain(value, within) for key, value in mapping.items()}
    pairs = ([_plain(key, within), _plain(value, within)] for key, value in mapping.items())
    return {"items": sorted(pairs, key=repr)}


def _settings(thing: Any) -> Mapping[Any, Any]:
    if dataclasses.is_dataclass(thing):
        compared = (field.name for field in dataclasses.fields(thing) if field.compare)
        return {name: getattr(thing, name) for name in compared}
    try:
        # Refuses objects whose state is out of Python's sight.
        reduced = thing.__reduce_ex__(2)
    except (TypeError, ValueError) as error:
        raise _unknown(f"one of type {_name(type(thing))}") from error
    if isinstance(reduced, str):
        return {"global": reduced}
    make, *parts = reduced
    if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return {
            "made by": make,
            "from": [list(part) if i > 1 and part else part for i, part in enumerate(parts[:4])],
        }
    slots = [
        name
        for base in type(thing).__mro__
        for name in getattr(base, "__slots__", ())
        if hasattr(thing, name) and name != "__dict__"
    ]
    if not hasattr(thing, "__dict__") and not slots:
        raise _unknown(f"one of type {_name(type(thing))}")
    return {name: getattr(thing, name) for name in slots} | getattr(thing, "__dict__", {})


def _checksum(x: Tensor, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    data = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return {"dtype": dtype, "shape": list(shape), "sha256": hashlib.sha256(data).hexdigest()}


def _name_of_code(thing: Any) -> str:
    """The name of a class or a function, if it is the only one of this name."""
    if "<lambda>" in thing.__qualname__ or getattr(thing, "__closure__", None):
        raise _unknown(f"the function {_name(thing)}, whose name does not tell what it does")
    return _name(thing)


def _unknown(got: str) -> ArgumentTypeError:
    problem = f"expected settings that plain data identify, got {got}. {_WAY_OUT}"
    return ArgumentTypeError("estimator", problem)


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
