"""The masks by which a call tells a model which tokens are padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from infoprobe.taps.tensors import is_tensor

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


def own_masks(named: Mapping[str, Any]) -> list[OwnMask]:
    """The masks of tokens among the arguments of a call, in their order.

    Arguments:
        named: The arguments by their names. A dictionary of tensors, such as a batch, may be one.
    """
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
