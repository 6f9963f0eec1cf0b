"""What infoprobe asks of a library of invertible maps: the adapter that each library has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from infoprobe.directions import Direction
from infoprobe.libraries.log_determinants import LogDeterminant

Tensors = tuple[Tensor, ...]
Conditions = tuple[Any, ...]


class Graph(NamedTuple):
    """A network that knows the names of its layers.

    Attributes:
        nodes: The layers in their order, each with the name that the user gave it; ``None`` for
            a layer without a name.
        inputs: The names of the network's inputs.
        outputs: The names of the network's outputs.
    """

    nodes: dict[nn.Module, str | None]
    inputs: list[str]
    outputs: list[str]


class Part(NamedTuple):
    """A module inside a network, and what it was given when the network ran forward.

    Attributes:
        module: The module.
        inputs: What went into it, each tensor (n, ...).
        conditions: The conditions of its call.
    """

    module: nn.Module
    inputs: Tensors
    conditions: Conditions


class Library(ABC):
    """Knows the maps of one library: how they are recognised, run and heard.

    An adapter for another library is a subclass. It must say which objects are maps of the
    library (:meth:`recognises`) and how a map runs in both directions (:meth:`run`). All other
    methods have an answer that suits modules which run forward when they are called, and which
    return ``z`` or ``(z, log_det)``; override those whose answer differs. An instance that was
    passed to :func:`infoprobe.libraries.register` is asked before the adapters of infoprobe.

    The names of arguments mean the same everywhere: ``module`` is a map that the adapter
    recognises, without the wrappers of ``torch.compile`` and data parallelism; ``args`` and
    ``kwargs`` are the arguments of a call of it, and ``output`` is what the call returned.
    """

    # Running a map.

    @abstractmethod
    def recognises(self, module: object) -> bool:
        """Whether an object is a map of this library.

        It is asked of every module of a model. It must not import the library: unless the user
        has imported it (see :data:`sys.modules`), there is nothing to recognise.
        """

    @abstractmethod
    def run(
        self,
        module: Any,
        xs: Tensors,
        conditions: Conditions,
        *,
        rev: bool,
        log_determinant: bool,
    ) -> tuple[Any, Any]:
        """Runs a map.

        Arguments:
            module: The map.
            xs: The inputs, each tensor (n, ...).
            conditions: The conditions, as the map takes them.
            rev: Whether to run the inverse.
            log_determinant: Whether the log-determinant is wanted.

        Returns:
            The output, one tensor or a sequence of tensors (n, ...), and the log|det J| that the
            map reports, in nats: one number, or one for each sample; ``None`` if it reports none.

        Raises:
            TypeError: The map has no inverse, or takes other inputs.
        """

    def has_inverse(self, module: Any) -> bool:
        """Whether a map can be run backwards, as far as can be told without running it."""
        return True

    def known_wrong(self, module: Any, rev: bool) -> str:
        """What is known to be wrong about the log-determinant that a map reports.

        Only about the module itself: the modules inside it are asked on their own.

        Returns:
            A clause that begins with the name of the map, such as ``"InvAutoFC reports 0"``;
            empty if nothing wrong is known.
        """
        return ""

    def may_be_wrong(self, module: Any) -> bool:
        """Whether it depends on a module's parameters if its log-determinant is right."""
        return False

    def wrong_now(self, module: Any) -> str:
        """What is wrong about the log-determinant of a module with its present parameters.

        It is asked for every call of a module that :meth:`may_be_wrong`.

        Returns:
            A clause, as from :meth:`known_wrong`.
        """
        return ""

    def is_stochastic(self, module: Any) -> bool:
        """Whether the log-determinant that a map itself reports is a random estimate."""
        return False

    def awaits_data(self, module: nn.Module) -> bool:
        """Whether a module takes its parameters from the first batch, and has seen none.

        By default, so does an ActNorm of any library whose flags say so.
        """
        initialised = [
            not getattr(module, "init_on_next_batch", False),
            bool(getattr(module, "is_initialized", True)),
            bool(getattr(module, "data_dep_init_done", True)),
            not module.training or bool(getattr(module, "initialized", True)),
        ]
        return "ActNorm" in type(module).__name__ and not all(initialised)

    def parts(self, module: Any, run: Callable[[], Any]) -> dict[str, Part]:
        """The maps inside a network and what goes into each, by their names.

        Arguments:
            module: The network.
            run: Runs the network forward.
        """
        return {}

    # Where the layers of a model are.

    def is_map(self, module: nn.Module) -> bool:
        """Whether a call of a module runs it as a map, in the direction of :meth:`direction`."""
        return True

    def is_link(self, module: nn.Module) -> bool:
        """Whether a module may be one of the maps that a flow chains.

        Such a module is one layer unless it holds a list of other such modules.
        """
        return self.is_map(module)

    def is_layer(self, module: nn.Module) -> bool:
        """Whether a module is one layer, whatever modules it holds."""
        return False

    def graph(self, module: nn.Module) -> Graph | None:
        """The names of the layers of a network that knows them; ``None`` for all else."""
        return None

    def makes_transforms(self, module: nn.Module) -> bool:
        """Whether a call of a module makes a transform or a distribution of torch's."""
        return False

    def inverse_methods(self, module: nn.Module) -> tuple[str, ...]:
        """The names of the methods that run a module backwards without calling it."""
        return ()

    # What a call of a module tells. It is asked for every call, so the answer must be quick.

    def direction(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Direction:
        """The direction in which a call runs a map."""
        return "forward"

    def inputs(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[Tensor] | None:
        """The tensors that go into a call of a map or its inverse, without conditions.

        ``None`` if they are not where they should be; then the first floating-point tensor among
        the arguments is measured.
        """
        return as_tensors(args[0] if args else kwargs.get("x"))

    def is_conditional(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Whether a call of a map or its inverse was given a condition besides its inputs."""
        given = [*args[1:], *(value for name, value in kwargs.items() if name != "x")]
        return any(isinstance(value, Tensor) for value in given)

    def outputs(self, module: nn.Module, direction: Direction, output: Any) -> list[Tensor] | None:
        """The tensors that come out of a call of a map or its inverse, without log-determinant.

        ``None`` if they are not where they should be; then the first floating-point tensor in the
        output is measured.
        """
        return as_tensors(output[0]) if isinstance(output, tuple) and len(output) == 2 else None

    def reported(
        self,
        module: nn.Module,
        direction: Direction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
    ) -> LogDeterminant:
        """The log-determinant that a call of a map or its inverse reports."""
        if (
            isinstance(output, (tuple, list))
            and len(output) == 2
            and isinstance(output[1], (Tensor, float, int))
        ):
            return LogDeterminant(output[1])
        return LogDeterminant(None, "it returned no log-determinant beside its output.")

    def with_log_determinant(
        self, kwargs: dict[str, Any], caller: object
    ) -> dict[str, Any] | None:
        """The keyword arguments with which a call would report its log-determinant, too.

        Arguments:
            kwargs: The keyword arguments that the call came with.
            caller: The module inside whose call this one was made, if any.

        Returns:
            Other keyword arguments, if the call was made without asking for the log-determinant,
            and if the caller does not notice the difference; otherwise ``None``.
        """
        return None


def as_tensors(value: Any) -> list[Tensor] | None:
    """One tensor, or a sequence of tensors, as a list; ``None`` for all else."""
    values = [value] if isinstance(value, Tensor) else value
    if isinstance(values, (tuple, list)) and all(isinstance(x, Tensor) for x in values):
        return list(values)
    return None
