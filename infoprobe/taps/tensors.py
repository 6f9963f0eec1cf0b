"""The tensors to measure, in whatever a layer is given or returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from infoprobe.torch_internals import dtype_of

# The most objects in a container that are looked at.
_MOST = 10_000


def main_tensor(value: Any) -> list[Tensor]:
    """The first floating-point tensor in nested containers, or else the first tensor.

    Containers are tuples, lists, mappings and dataclasses. One that does not let itself be read,
    since it raises an error, is taken for empty, and of very many objects the first are looked at.

    Returns:
        A list with that tensor; an empty one if there is no tensor.
    """
    if type(value) is tuple and len(value) == 1:  # what most layers are given, read quickly
        (value,) = value
    if is_tensor(value):
        return [value]
    first: list[Tensor] = []
    for tensor in tensors_in(value):
        dtype = dtype_of(tensor)
        if dtype.is_floating_point or dtype.is_complex:
            return [tensor]
        first = first or [tensor]
    return first


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers, in their order; each container once."""
    yield from filter(is_tensor, leaves_of(value))


def leaves_of(value: Any) -> Iterator[Any]:
    """What lies in nested containers and is none itself, in its order; each container once."""
    waiting, seen = [value], set[int]()
    for _ in range(_MOST):
        if not waiting:
            return
        one = waiting.pop()
        items = None if is_tensor(one) else _items(one)
        if items is None:
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            waiting += reversed(items)


def is_tensor(value: Any) -> bool:
    """Whether anything is a tensor, also where it raises when it is asked for its class."""
    try:
        return isinstance(value, Tensor)
    except Exception:  # as below
        return False


def _items(value: Any) -> list[Any] | None:
    """What a container holds; ``None`` for an object that is none."""
    try:
        if isinstance(value, Mapping):
            return list(value.values())
        if isinstance(value, (tuple, list)):
            return list(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    except Exception:  # a layer may return what it likes; its own code shall see the error
        return []
    return None
