"""In which circumstances a layer was called, besides what its tensors were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from infoprobe.devices import is_here
from infoprobe.probing.roles import Role
from infoprobe.rows import LayerCall
from infoprobe.torch_internals import dtype_of, outside_of_transforms, plain

# Quantised tensors, which stand for real numbers, have types of their own.
_INTEGERS = {
    *(torch.bool, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
}


@dataclass
class Circumstances:
    """What is known of all passes at one call of a layer.

    Attributes:
        follows: The call whose output was the layer's input in every pass; ``None`` if there is
            no such call.
        random: The roles from whose tensors a random number may have been drawn until the layer
            returned, in some pass: ``"input"`` for the model's, ``"previous"`` for the layer's,
            and those of other layers' outputs.
        integers: The roles whose tensors held integers in every pass.
        window: Whether the passes are one of several windows of a tracked training.
    """

    follows: LayerCall | None = None
    random: set[Role] = field(default_factory=set)
    integers: set[Role] = field(default_factory=set)
    window: bool = False

    def add(self, other: Circumstances) -> None:
        """Takes in the circumstances of other passes."""
        if self != other:
            self.follows = self.follows if self.follows == other.follows else None
            self.random |= other.random
            self.integers &= other.integers

    def state_dict(self) -> dict[str, Any]:
        """All of it as strings and numbers in lists."""
        return {
            "follows": None if self.follows is None else list(self.follows),
            "random": sorted(self.random),
            "integers": sorted(self.integers),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Circumstances:
        """What :meth:`state_dict` describes."""
        follows = None if state["follows"] is None else LayerCall(*state["follows"])
        return cls(follows, set(state["random"]), set(state["integers"]))


class Facts(NamedTuple):
    """What is known of one call of a layer; cheap to make and to compare, as hooks do.

    Attributes:
        source: The call whose output was the layer's input, if that is known.
        random_input: Whether a random number may have been drawn since the model's input.
        random_previous: Whether one may have been drawn since the layer's input.
        integer_input: Whether the model's input held integers.
        integer_output: Whether the layer's output held integers.
        integer_previous: Whether the layer's input held integers.
        random_named: The roles of other layers' outputs since which one may have been drawn.
        integer_named: The roles of other layers' outputs that held integers.
    """

    source: LayerCall | None
    random_input: bool
    random_previous: bool
    integer_input: bool
    integer_output: bool
    integer_previous: bool
    random_named: frozenset[Role] = frozenset()
    integer_named: frozenset[Role] = frozenset()

    @property
    def circumstances(self) -> Circumstances:
        """The circumstances of this call alone."""
        random: dict[Role, bool] = {
            "input": self.random_input,
            "previous": self.random_previous,
        }
        integers: dict[Role, bool] = {
            "input": self.integer_input,
            "output": self.integer_output,
            "previous": self.integer_previous,
        }
        return Circumstances(
            self.source,
            {role for role, drawn in random.items() if drawn} | self.random_named,
            {role for role, held in integers.items() if held} | self.integer_named,
        )


def hold_integers(tensors: Sequence[Tensor]) -> bool:
    """Whether none of the tensors, of at least one, holds real or complex numbers."""
    if len(tensors) == 1:
        return dtype_of(tensors[0]) in _INTEGERS
    return bool(tensors) and all(dtype_of(x) in _INTEGERS for x in tensors)


def own_generators(model: object) -> list[torch.Generator]:
    """The generators that the modules of a model hold as attributes."""
    modules = model.modules() if isinstance(model, nn.Module) else [model]
    held = [x for module in modules for x in getattr(module, "__dict__", {}).values()]
    return [x for x in held if isinstance(x, torch.Generator)]


def random_state(tensors: Iterable[Tensor], own: Iterable[torch.Generator] = ()) -> bytes:
    """The state of the generators from which a layer with these tensors may draw.

    Arguments:
        tensors: Those of the layer, on whose devices there are global generators.
        own: Generators of the model's own.
    """
    with outside_of_transforms():
        devices = {x.device for x in map(plain, tensors) if not is_here(x)}
        states = [torch.get_rng_state()]
        devices.discard(torch.device("meta"))  # the one without a generator of its own
        states += [torch.get_device_module(device).get_rng_state(device) for device in devices]
        states += [generator.get_state() for generator in own]
        return b"".join(state.numpy().tobytes() for state in states)
