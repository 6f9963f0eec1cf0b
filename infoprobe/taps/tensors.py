"""The tensors to measure, in whatever a layer is given or returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor


def main_tensor(value: Any) -> list[Tensor]:
    """The first floating-point tensor in nested containers, or else the first tensor.

    Containers are tuples, lists, mappings and dataclasses.

    Returns:
        A list with that tensor; an empty one if there is no tensor.
    """
    if type(value) is tuple and len(value) == 1:
        (value,) = value
    if isinstance(value, Tensor):
        return [value]
    found = list(_leaves(value))
    return ([x for x in found if x.is_floating_point() or x.is_complex()] or found)[:1]


def _leaves(value: Any, around: tuple[Any, ...] = ()) -> Iterator[Tensor]:
    """The tensors in nested containers, in their order."""
    if isinstance(value, Tensor):
        yield value
        return
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (tuple, list)):
        items = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if not any(value is other for other in around):  # else it contains itself
        for item in items:
            yield from _leaves(item, (*around, value))
