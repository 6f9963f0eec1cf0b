"""Which adapter knows a module, and what the adapters know of a module and all inside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.adapter import Conditions, Library, Tensors, as_tensors
from infoprobe.libraries.distributions import Distributions
from infoprobe.libraries.flows import Flows
from infoprobe.libraries.freia import Freia
from infoprobe.libraries.log_determinants import per_sample
from infoprobe.libraries.wrappers import unwrapped

# The adapters in the order in which they are asked; the last one knows everything.
_OURS: tuple[Library, ...] = (Freia(), Distributions(), Flows())
_registered: list[Library] = []


def register(library: Library) -> None:
    """Adds the adapter of another library, which is asked before all others from now on.

    Arguments:
        library: An instance of a subclass of :class:`~infoprobe.libraries.Library`.

    Raises:
        TypeError: It is something else.

    Example:
        >>> class Scale(torch.nn.Module):
        ...     def forward(self, x, backwards=False):
        ...         return x / 3 if backwards else 3 * x
        >>> class Scales(ip.libraries.Library):
        ...     def recognises(self, module):
        ...         return isinstance(module, Scale)
        ...
        ...     def run(self, module, xs, conditions, *, rev, log_determinant):
        ...         return module(*xs, backwards=rev), None
        >>> ip.libraries.register(scales := Scales())
        >>> print(ip.check_invertible(Scale(), torch.randn(10, 2)).verdict)
        Scale is invertible; it reports no log-determinants.
        >>> ip.libraries.unregister(scales)
    """
    if not isinstance(library, Library):
        raise ArgumentTypeError(
            "library",
            f"expected an infoprobe.libraries.Library, got {checks.shown(library)}. Pass an "
            "instance of your subclass, not the class.",
        )
    _registered.insert(0, library)


def unregister(library: Library) -> None:
    """Removes an adapter that :func:`register` has added.

    Raises:
        ValueError: The adapter is not there.
    """
    if library not in _registered:
        raise ArgumentValueError(
            "library",
            f"expected an adapter that was registered, got {checks.shown(library)}. Pass the "
            "instance that was given to infoprobe.libraries.register.",
        )
    _registered.remove(library)


def library_of(module: object) -> Library:
    """The first adapter that recognises a module, a transform or a function."""
    libraries = itertools.chain(_registered, _OURS)
    return next(library for library in libraries if library.recognises(module))


def run(
    module: Any, xs: Tensors, conditions: Conditions, *, rev: bool, log_determinant: bool = True
) -> tuple[Tensors, Tensor | None]:
    """Runs a map of any library.

    Arguments:
        module: The map, wrapped or not.
        xs: The inputs, each tensor (n, ...).
        conditions: The conditions, as the map takes them.
        rev: Whether to run the inverse.
        log_determinant: Whether the log-determinant is wanted.

    Returns:
        The outputs, each tensor (n, ...), and the log|det J| that the map reports in nats, (n,)
        float64; ``None`` if it reports none, or none is wanted.

    Raises:
        TypeError: It is not a map, has no inverse, or returns something else than tensors.
        ValueError: The log-determinant is not one number for each sample.
    """
    module = unwrapped(module)
    library = library_of(module)
    result = library.run(module, xs, conditions, rev=rev, log_determinant=log_determinant)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentTypeError(
            "library",
            f"expected {type(library).__name__}.run to return (output, log_determinant), got "
            f"{type(result).__name__}. Return None where there is no log-determinant.",
        )
    output, reported = result
    values = as_tensors(output)
    if values is None:
        raise ArgumentTypeError(
            "module",
            f"expected tensors and a log-determinant from {type(module).__name__}, got "
            f"{type(output).__name__} and a log-determinant.",
        )
    if reported is None or not log_determinant:
        return tuple(values), None
    return tuple(values), per_sample(reported, xs[0])


def has_inverse(module: Any) -> bool:
    """Whether a map, wrapped or not, can be run backwards, as far as its methods tell."""
    module = unwrapped(module)
    return library_of(module).has_inverse(module)


def known_wrong(module: Any, rev: bool) -> list[str]:
    """What is known to be wrong about the log-determinants of a map and of all inside it."""
    found = {library_of(part).known_wrong(part, rev) for part in _modules(module)}
    return sorted(found - {""})


def wrong_now(module: Any) -> list[str]:
    """What is wrong about them with the present parameters of a map and of all inside it."""
    found = {library_of(part).wrong_now(part) for part in _modules(module)}
    return sorted(found - {""})


def changing_parts(module: Any) -> list[nn.Module]:
    """The modules in a map, itself included, of which :func:`wrong_now` may say something."""
    return [part for part in _modules(module) if library_of(part).may_be_wrong(part)]


def stochastic_parts(module: Any) -> list[str]:
    """The classes in a map, itself included, whose log-determinants are random estimates."""
    parts = _modules(module)
    return sorted({type(part).__name__ for part in parts if library_of(part).is_stochastic(part)})


def _modules(module: Any) -> Iterator[Any]:
    return module.modules() if isinstance(module, nn.Module) else iter([module])
