"""Which of the tensors that a model is given is its input."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.findings import Finding
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.taps.arguments import Arguments
from infoprobe.taps.tensors import is_tensor, main_tensor
from infoprobe.torch_internals import dtype_of


class Inputs:
    """Finds the input among the arguments of a model's calls.

    Arguments:
        model: The model.
        name: The name of the argument that the user has chosen; ``None`` for the usual one. That
            is the first floating-point tensor of the positional arguments, or else of the named
            ones: the one that a model of Hugging Face calls its ``main_input_name``, and no mask
            if there is anything else.

    Raises:
        TypeError: ``name`` is no string.
        ValueError: The model has no argument of this name.
    """

    def __init__(self, model: Any, name: str | None) -> None:
        module = unwrapped(model)
        self._name = name
        self._main = getattr(module, "main_input_name", None)
        self._signature = _signature(module) if isinstance(module, nn.Module) else None
        if name is not None:
            _require_name(name, self._signature)

    @property
    def is_chosen(self) -> bool:
        """Whether the user has said which argument it is."""
        return self._name is not None

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """The input of one call: a list with one tensor, or none if there is none."""
        if self._name is not None:
            return main_tensor(_named(self._signature, args, kwargs).get(self._name))
        if args or not kwargs:
            return main_tensor(args) or main_tensor(kwargs)
        return main_tensor(kwargs.get(self._usual(kwargs))) or main_tensor(kwargs)

    def others(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """What a reader must know where a call was given several tensors; else empty."""
        if self._name is not None or len(args) + len(kwargs) < 2:
            return ""
        given = {
            name: x
            for name, x in _named(self._signature, args, kwargs).items()
            if isinstance(x, Tensor) and "mask" not in name
        }
        found = self.of(args, kwargs)
        if len(given) < 2 or not found:
            return ""
        name = next((name for name, x in given.items() if x is found[0]), "another tensor")
        others = ", ".join(other for other in given if other != name)
        return str(
            Finding(
                "warning",
                f"The model's input is taken to be {name}; it was given {others}, too",
                len(given) - 1,
                "Choose by ip.probe(model, input=...).",
                code="several-inputs",
            )
        )

    @property
    def names(self) -> list[str]:
        """The names of the model's arguments that may be given by position, as far as known."""
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = {} if self._signature is None else self._signature.parameters
        return [name for name, each in parameters.items() if each.kind in by_position]

    def arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], part: nn.Module | None
    ) -> Arguments:
        """All that one call is given.

        Arguments:
            args: The positional arguments.
            kwargs: The keyword arguments.
            part: The part of the model that is called; ``None`` for the model itself.
        """
        if not kwargs and len(args) == 1 and is_tensor(args[0]):
            return Arguments([], [args[0]])
        signature = self._signature if part is None else _signature(part)
        return Arguments.of(_named(signature, args, kwargs))

    def _usual(self, kwargs: Mapping[str, Any]) -> str:
        if isinstance(self._main, str) and main_tensor(kwargs.get(self._main)):
            return self._main
        plain = {name: x for name, x in kwargs.items() if "mask" not in name and main_tensor(x)}
        floating = (
            name for name, x in plain.items() if dtype_of(main_tensor(x)[0]).is_floating_point
        )
        return next(floating, next(iter(plain), ""))


def _named(
    signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        assert signature is not None
        bound = signature.bind_partial(*args, **kwargs)
    except (TypeError, AssertionError):  # the call will fail by itself, or nobody knows names
        return dict(kwargs)
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}[{i}]": x for i, x in enumerate(value)}
        else:
            named[name] = value
    return named


def _signature(module: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(module.forward)
    except (TypeError, ValueError):  # of a ScriptModule, for one
        return None


def _require_name(name: Any, signature: inspect.Signature | None) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            "input",
            "expected the name of an argument of the model's forward or None, got "
            f"{checks.shown(name)}.",
        )
    if signature is None:
        raise ArgumentValueError(
            "input", f"expected None for a model whose arguments have no names, got {name!r}."
        )
    names = [*signature.parameters]
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if name not in names and inspect.Parameter.VAR_KEYWORD not in kinds:
        close = difflib.get_close_matches(name, names)
        near = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ArgumentValueError(
            "input",
            f"expected the name of an argument of the model's forward, got {name!r}. {near}There "
            f"are: {', '.join(names)}.",
        )
