"""What taps tell of a model's calls, and whom they tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from infoprobe.directions import Direction
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.taps.arguments import Arguments

# The type of a point that the user has marked with `tap`.
TAP = "tap"


class Place(NamedTuple):
    """Where tensors are caught.

    Attributes:
        name: The user's name of the layer or point.
        type: The class of the layer, or ``"tap"`` for a point that was marked by :func:`tap`.
    """

    name: str
    type: str


def name_of_part(layer: str, number: int) -> str:
    """The name of a place that is one of several parts which a layer has made."""
    return f"{layer}[{number}]"


def belongs_to(place: str, layer: str) -> bool:
    """Whether the place of this name is the layer of this name, or a part that it has made."""
    return place == layer or place.startswith(f"{layer}[")


@dataclass(eq=False, slots=True)
class Event:
    """A layer has returned, or a tensor has passed a point.

    Attributes:
        place: The layer or point.
        direction: The direction in which the layer ran.
        call: Numbers the calls of this place in this pass and direction, from 0.
        outputs: The tensors that the layer returned, or the tensor at the point.
        entered: What :meth:`Sink.enter` returned when the layer was called; ``None`` for a point
            that was marked by :func:`tap`, which has no input of its own.
        unchanged: Whether the outputs are the tensors that went in.
        module: The module or transform that was called; ``None`` where nothing was called.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        log_determinant: What an invertible layer reports, where the sink wants to know; ``None``
            if the layer is not invertible.
        returned: All that the layer returned.
    """

    place: Place
    direction: Direction
    call: int
    outputs: list[Tensor]
    entered: Any = None
    unchanged: bool = False
    module: object = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    log_determinant: LogDeterminant | None = None
    returned: Any = None


class Sink(Protocol):
    """Receives what passes through a model.

    Attributes:
        wants_log_determinants: Whether layers should be asked for their log|det J|.
        wants_arguments: Whether events must have the arguments of the calls.
        measures_next: Whether it does not ignore the pass that begins next.
    """

    wants_log_determinants: bool
    wants_arguments: bool

    @property
    def measures_next(self) -> bool:
        """As above."""

    def begin(
        self,
        inputs: list[Tensor],
        entrance: str | None,
        several: str,
        arguments: Arguments,
    ) -> Any:
        """A pass begins with these tensors.

        Arguments:
            inputs: The tensors that go in.
            entrance: The part of the model by which the pass enters; ``None`` if it enters by
                the model itself.
            several: What a reader must know if more tensors go in than these; else empty.
            arguments: All that the call is given.

        Returns:
            An object that stands for the pass; ``None`` if the sink ignores this pass.
        """

    def end(self, run: Any, completed: bool) -> None:
        """The pass is over.

        Arguments:
            run: What stands for the pass.
            completed: Whether it returned something, instead of raising an error.
        """

    def enter(self, run: Any, inputs: list[Tensor]) -> Any:
        """A layer is about to be called; what is returned comes back with the layer's event."""

    def exit(self, run: Any, event: Event) -> None:
        """A layer has returned, or a tensor has passed a point."""
