"""One pass through the model, and what is remembered until it is over."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from infoprobe.directions import Direction
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import Piece, Problem
from infoprobe.probing.record import Record
from infoprobe.probing.roles import Role
from infoprobe.rows import LayerCall
from infoprobe.torch_internals import version

# What was made of a tensor, by the numbers of the reductions.
Pieces = dict[int, Piece | Problem]


class Seen(NamedTuple):
    """What was made of a tensor that may pass by again, and how to tell that it is unchanged."""

    tensor: weakref.ref[Tensor]
    version: int
    pieces: Pieces


class Returned(NamedTuple):
    """A tensor that a layer has returned."""

    tensor: weakref.ref[Tensor]
    version: int
    call: LayerCall


class Named(NamedTuple):
    """What a layer returned to which measures at other layers refer.

    Attributes:
        pieces: What was made of it.
        random_state: The state of the random generators then, if it must be known.
        integers: Whether it held integers.
    """

    pieces: Pieces
    random_state: bytes | None
    integers: bool


class Entered(NamedTuple):
    """What went into a layer.

    Attributes:
        pieces: What was made of it.
        source: The call that returned it, if that is known.
        integers: Whether it held integers.
        random_state: The state of the random generators then, if it must be known.
    """

    pieces: Pieces
    source: LayerCall | None
    integers: bool
    random_state: bytes | None


@dataclass
class Run:
    """One pass through the model.

    Attributes:
        number: The number of the pass, from 0.
        entrance: The part by which it entered; ``None`` for the model itself.
        record: The record that was being filled when it began.
        common: What its layers have in common.
        under_vmap: Whether tensors stand for many, and have no values of their own.
        input: What was made of the model's input.
        target: What was made of the target.
        seen: What was made of the tensors that passed by, by their identities.
        warned: The kinds of problems of which it was warned.
        integers: The roles whose tensors are integers at every layer.
        random_state: The state of the random generators when it began, if it must be known.
        returned: The tensors that layers returned, by their identities, and from which call.
        last: The last call in each direction.
        named: What those layers last returned to which measures refer, by their names.
    """

    number: int
    entrance: str | None
    record: Record
    common: Pass
    under_vmap: bool
    input: Pieces = field(default_factory=dict)
    target: Pieces = field(default_factory=dict)
    seen: dict[int, Seen] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    integers: set[Role] = field(default_factory=set)
    random_state: bytes | None = None
    returned: dict[int, Returned] = field(default_factory=dict)
    last: dict[Direction, LayerCall] = field(default_factory=dict)
    named: dict[str, Named] = field(default_factory=dict)

    def source(self, tensors: list[Tensor]) -> LayerCall | None:
        """The call that has returned this tensor, if it is unchanged and the only one."""
        if len(tensors) != 1:
            return None
        found = self.returned.get(id(tensors[0]))
        if found is None or found.tensor() is not tensors[0]:
            return None
        return found.call if found.version == version(tensors[0]) else None

    def noise_since(self, layer: str, random_state: bytes | None) -> bool:
        """Whether a random number may have been drawn since this layer has returned."""
        named = self.named.get(layer)
        return named is None or random_state is None or named.random_state != random_state
