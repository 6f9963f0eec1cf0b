"""What a model is given besides its input: masks of tokens, and whatever decides its results."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from infoprobe.taps.tensors import is_tensor, leaves_of

# The ends of their names: of masks that are true, or 1, where a token counts, and of those that
# are true where it is padding.
_COUNTING, _PADDING = "attention_mask", "padding_mask"


class OwnMask(NamedTuple):
    """A mask that a model is given.

    Attributes:
        values: As the model is given it.
        marks_padding: Whether it is true, or not 0, for padding, and not for tokens that count.
    """

    values: Tensor
    marks_padding: bool


class Arguments(NamedTuple):
    """The arguments of a call, as far as they are known.

    Attributes:
        masks: The masks of tokens among them.
        tensors: All tensors among them; ``None`` if there is something else that may hold
            values, such as a cache.
        others: A number that is the same for the same numbers and texts among them.
    """

    masks: list[OwnMask]
    tensors: list[Tensor] | None
    others: int = 0

    @classmethod
    def unknown(cls) -> Arguments:
        """The arguments of a call of which nothing is known."""
        return cls([], None)

    @classmethod
    def of(cls, named: Mapping[str, Any]) -> Arguments:
        """The arguments with these names. One of them may be a dictionary, such as a batch."""
        tensors, others, plain = [], [], True
        for leaf in leaves_of(named):
            if is_tensor(leaf):
                tensors.append(leaf)
            elif leaf is None or type(leaf) in (bool, int, float, str):
                others.append(leaf)
            else:
                plain = False
        number = zlib.crc32(repr(others).encode())
        return cls(masks_among(named), tensors if plain else None, number)


def masks_among(named: Mapping[str, Any]) -> list[OwnMask]:
    """The masks of tokens among the arguments with these names, in their order."""
    found = []
    for name, value in _items(named):
        inside = _items(value) if not is_tensor(value) else []
        for inner, x in [(name, value), *inside]:
            if is_tensor(x) and inner.endswith((_COUNTING, _PADDING)):
                found.append(OwnMask(x, inner.endswith(_PADDING)))
    return found


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    try:
        if isinstance(value, Mapping):
            return [(name, x) for name, x in value.items() if isinstance(name, str)]
    except Exception:  # a caller may pass what he likes; the model's own code shall see the error
        return []
    return []
