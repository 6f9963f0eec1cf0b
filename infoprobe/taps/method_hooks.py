"""What hooks do not see of an invertible module: calls of its inverse, and of a flow's methods.

Normalizing flows (nflows, normflows, or anybody's own) have maps with a method ``inverse``, and
methods such as ``log_prob`` and ``sample`` through which they are used without being called. As
long as somebody listens, these methods of the model's modules are attributes of the instances.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries import flows
from infoprobe.libraries.adapter import as_tensors
from infoprobe.libraries.doubts import Doubts
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.taps.calls import Calls
from infoprobe.taps.layout import Layer, Layout
from infoprobe.taps.tensors import main_tensor
from infoprobe.taps.uncompiled import uncompiled


class MethodTap:
    """Tells of the calls of a model's inverse methods, and of the methods that use them.

    Arguments:
        layout: The model, with its chosen layers.
        calls: Where calls are told.
    """

    def __init__(self, layout: Layout, calls: Calls) -> None:
        self._calls = calls
        self._heard: list[tuple[_Method, Callable[..., Any]]] = []
        inverses = [
            (layer, name)
            for layer in layout.layers
            if layer.end is None
            for name in layer.library.inverse_methods(layer.module)
        ]
        try:
            for layer, name in inverses:
                self._listen(layer.module, name, self._inverse(layout, layer))
            root: nn.Module = unwrapped(layout.model)
            for name in (*flows.WITH_A_TENSOR, *flows.SAMPLING) if inverses else ():
                if callable(getattr(type(root), name, None)):
                    sampling = name in flows.SAMPLING
                    given = None if sampling else _first_parameter(getattr(root, name))
                    self._listen(root, name, self._entrance(root, given))
        except BaseException:
            self.remove()
            raise

    def _inverse(self, layout: Layout, layer: Layer) -> Callable[..., Any]:
        """Listens to a method that runs a map backwards."""
        module, library = layer.module, layer.library
        place, doubts = layout.place(layer), Doubts.of(module)

        def listener(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def inputs() -> list[Tensor]:
                own = library.inputs(module, args, kwargs)
                return own or main_tensor(args) or main_tensor(kwargs)

            def outputs(output: Any) -> list[Tensor]:
                return library.outputs(module, "inverse", output) or main_tensor(output)

            def log_determinant(output: Any) -> LogDeterminant:
                return doubts.reported(module, "inverse", args, kwargs, output)

            return self._calls.around(
                module,
                layer.prefix,
                place,
                "inverse",
                inputs,
                functools.partial(run, *args, **kwargs),
                outputs,
                log_determinant,
            )

        return listener

    def _entrance(
        self, root: nn.Module, given: Callable[..., list[Tensor]] | None
    ) -> Callable[..., Any]:
        """Listens to a method of the model in which its maps run."""

        def listener(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return self._calls.around(
                root,
                "",
                None,
                None,
                None if given is None else functools.partial(given, args, kwargs),
                functools.partial(run, *args, **kwargs),
                main_tensor,
                lambda output: None,
            )

        return listener

    def _listen(self, module: nn.Module, name: str, listener: Callable[..., Any]) -> None:
        method = _Method.of(module, name)
        method.listeners.append(listener)
        self._heard.append((method, listener))

    def remove(self) -> None:
        """Stops listening; methods that nobody else listens to are again what they were."""
        while self._heard:
            method, listener = self._heard.pop()
            method.listeners.remove(listener)
            if not method.listeners:
                method.restore()


def _first_parameter(method: Callable[..., Any]) -> Callable[..., list[Tensor]]:
    """Gives the tensors in a method's first parameter, however it is passed."""
    parameter = next(iter(inspect.signature(method).parameters), "")

    def given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        if not args and parameter in kwargs:
            args = (kwargs[parameter],)
        own = as_tensors(args[0]) if args else None
        return own or main_tensor(args) or main_tensor(kwargs)

    return given


class _Method:
    """A method of one module, as an attribute of it, with those who listen to its calls.

    Copies and pickles of the module have the method itself instead.

    Attributes:
        listeners: The functions that are called in place of the method, and that run it.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self._module, self._name = module, name
        self._was_there = name in vars(module)
        self._run = getattr(module, name)
        self._call = uncompiled(self._tell, self._run)
        self.listeners: list[Callable[..., Any]] = []
        functools.update_wrapper(self, self._run)

    @classmethod
    def of(cls, module: nn.Module, name: str) -> _Method:
        """The one that is there, for another listener, or a new one."""
        there = vars(module).get(name)
        if isinstance(there, _Method):
            return there
        method = cls(module, name)
        # Not by setattr, to which a class may have given another meaning.
        vars(module)[name] = method
        refused = getattr(module, name) is not method
        if refused:
            method.restore()
            raise ArgumentTypeError(
                "model",
                f"{name!r} of {type(module).__name__} takes no attribute of the instance, "
                "so its calls cannot be seen. Make it a plain method.",
            )
        return method

    def restore(self) -> None:
        """Makes the module what it was."""
        attributes = vars(self._module)
        if attributes.get(self._name) is not self:
            return  # somebody else has replaced it on purpose
        if self._was_there:
            attributes[self._name] = self._run
        else:
            del attributes[self._name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def _tell(self, *args: Any, **kwargs: Any) -> Any:
        run = self._run
        for listener in self.listeners:
            run = functools.partial(listener, run)
        return run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # The module is in the memo already; a method of it becomes one of the copy.
        return copy.deepcopy(self._run, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self._run,)


def _same(value: Any) -> Any:
    return value
