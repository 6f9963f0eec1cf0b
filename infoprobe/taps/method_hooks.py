"""What hooks do not see of an invertible module: calls of ``inverse``, and of a flow's methods.

Normalizing flows (nflows, normflows, or anybody's own) have maps with a method ``inverse``, and
methods such as ``log_prob`` and ``sample`` through which they are used without being called. As
long as somebody listens, these methods of the model's modules are attributes of the instances.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from infoprobe.directions import Direction
from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries import freia
from infoprobe.taps.calls import Calls
from infoprobe.taps.layout import MODEL, Layer, has_inverse, unwrapped
from infoprobe.taps.module_hooks import main_tensor, reported_log_determinant
from infoprobe.taps.sink import Place

# How one enters a flow without calling it: with a tensor, or to be given samples.
_WITH_A_TENSOR = (
    "log_prob",
    "forward_kld",
    "forward_and_log_det",
    "inverse_and_log_det",
    "transform_to_noise",
)
_SAMPLING = ("sample", "rsample", "sample_and_log_prob", "reverse_kld", "reverse_alpha_div")


def inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What goes into a map: its first argument, which several tensors make together."""
    return freia.inputs(args, {}) or main_tensor(args) or main_tensor(kwargs)


def outputs(output: Any) -> list[Tensor]:
    """What comes out of a map: all of ``z`` in ``(z, log_det)``, or else the main tensor."""
    several = isinstance(output, tuple) and output and isinstance(output[0], (list, tuple))
    return (freia.inputs(output, {}) if several else None) or main_tensor(output)


class InverseTap:
    """Tells of the calls of ``inverse`` in a model, and of those that make use of them.

    Arguments:
        model: Where to listen.
        layers: Which modules to report.
        everything: All that there are.
        calls: Who is told.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[Layer],
        everything: Iterable[Layer],
        calls: Calls,
    ) -> None:
        self._calls = calls
        self._heard: list[tuple[_Method, Callable[..., Any]]] = []
        chosen = {layer.module for layer in layers if layer.end is None}
        maps = [x for x in everything if x.end is None and has_inverse(x.module)]
        try:
            for layer in maps:
                place = Place(layer.name, layer.type) if layer.module in chosen else None
                path = "" if layer.name == MODEL else layer.name
                self._listen(layer.module, "inverse", path, place, "inverse", inputs)
            if maps:
                root = unwrapped(model)
                for name in (*_WITH_A_TENSOR, *_SAMPLING):
                    if callable(getattr(type(root), name, None)):
                        given = None if name in _SAMPLING else _first(getattr(root, name))
                        self._listen(root, name, "", None, None, given)
        except BaseException:
            self.remove()
            raise

    def _listen(
        self,
        module: nn.Module,
        name: str,
        path: str,
        place: Place | None,
        direction: Direction | None,
        given: Callable[[tuple[Any, ...], Mapping[str, Any]], list[Tensor]] | None,
    ) -> None:
        def listener(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            tensors = None if given is None else functools.partial(given, args, kwargs)
            run = functools.partial(run, *args, **kwargs)
            return self._calls.around(
                module, path, place, direction, tensors, run, outputs, reported_log_determinant
            )

        method = _Method.of(module, name)
        method.listeners.append(listener)
        self._heard.append((method, listener))

    def remove(self) -> None:
        """Listens no longer; methods that nobody else listens to are again what they were."""
        while self._heard:
            method, listener = self._heard.pop()
            method.listeners.remove(listener)
            if not method.listeners:
                method.restore()


def _first(method: Callable[..., Any]) -> Callable[..., list[Tensor]]:
    """Gives the tensors in a method's first parameter, however it is passed."""
    parameter = next(iter(inspect.signature(method).parameters), "")

    def given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        if not args and parameter in kwargs:
            args = (kwargs[parameter],)
        return inputs(args, kwargs)

    return given


class _Method:
    """A method of one module, as an attribute of it, with those who listen to its calls.

    Copies and pickles of the module have the method itself instead.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self._module, self._name = module, name
        self._was_there = name in vars(module)
        self._run = getattr(module, name)
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
            return  # somebody has replaced it, and means it
        if self._was_there:
            attributes[self._name] = self._run
        else:
            del attributes[self._name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
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
