"""Transforms and distributions of torch.distributions, which are no modules, and zuko's lazy ones.

A transform tells of its calls by being of a subclass of its class for as long as somebody
listens, and so do the methods of a distribution that is made of transforms. zuko's modules make
such objects when they are called; what passes through them comes later.
"""

from __future__ import annotations

import copyreg
import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import ComposeTransform, Distribution, Transform
from torch.distributions.transforms import _InverseTransform

from infoprobe.directions import OPPOSITE, Direction
from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.taps.calls import Calls
from infoprobe.taps.sink import Place

# What calls of which methods are: a way that a transform runs, the calls of one repeated to know
# their volume, or what is asked of a distribution, with a tensor or for samples.
_Kind = Literal["forward", "inverse", "repeat", "given", "sampling"]
_OF_TRANSFORMS: dict[str, _Kind] = {
    "__call__": "forward",
    "_inv_call": "inverse",  # what ``transform.inv`` calls
    "call_and_ladj": "forward",  # zuko's
    "log_abs_det_jacobian": "repeat",
}
_OF_DISTRIBUTIONS: dict[str, _Kind] = {
    "log_prob": "given",
    "cdf": "given",
    "icdf": "given",
    "sample": "sampling",
    "rsample": "sampling",
    "sample_n": "sampling",
    "rsample_and_log_prob": "sampling",  # zuko's
}


def is_lazy(module: nn.Module) -> bool:
    """Whether calling this module makes a transform or a distribution, as zuko's do."""
    return isinstance(module, (*_zuko("LazyTransform"), *_zuko("LazyDistribution")))


def is_lazy_transform(module: nn.Module) -> bool:
    """Whether calling this module makes a transform."""
    return isinstance(module, _zuko("LazyTransform"))


def is_lazy_distribution(module: nn.Module) -> bool:
    """Whether calling this module makes a distribution."""
    return isinstance(module, _zuko("LazyDistribution"))


def _zuko(name: str, module: str = "zuko.lazy") -> tuple[type, ...]:
    # Unless somebody else has imported zuko, nothing is of its classes.
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


def is_made_of_transforms(model: object) -> bool:
    """Whether this is a transform, or a distribution that is made of some."""
    return isinstance(model, Transform) or bool(_parts(model))


def named_transforms(model: Any) -> Iterator[tuple[str, Any, bool]]:
    """The model and all that it is made of: names by position, and whether it has parts itself.

    What is there several times has the name of the first.
    """
    seen: set[int] = set()

    def walk(name: str, one: Any) -> Iterator[tuple[str, Any, bool]]:
        if id(one) not in seen:
            seen.add(id(one))
            parts = _parts(one)
            yield name, one, bool(parts)
            for i, part in enumerate(parts):
                yield from walk(f"{name}.{i}" if name else str(i), part)

    return walk("", model)


def _parts(one: object) -> list[Transform]:
    """What is called one after the other."""
    found: Any = []
    if isinstance(one, ComposeTransform):
        found = one.parts
    elif isinstance(one, _zuko("ComposedTransform", "zuko.transforms")):
        found = one.transforms  # type: ignore[attr-defined]
    elif isinstance(one, Distribution):
        single = getattr(one, "transform", None)
        found = getattr(one, "transforms", None) or _parts(single) or [single]
    return [part for part in found if isinstance(part, Transform)]


@dataclass
class _Listener:
    """Who listens to one object, and what it is called.

    Attributes:
        tap: Who listens.
        path: As in :meth:`Calls.enter`.
        place: Likewise.
        flipped: Whether its forward is the inverse of what is so called.
        owner: Stands for the object, and for its inverse.
    """

    tap: TransformTap
    path: str
    place: Place | None
    flipped: bool = False
    owner: object = field(default_factory=object)

    def hear(
        self, kind: _Kind, one: Any, run: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Runs a method of an object and tells of it."""
        calls = self.tap.calls
        run = functools.partial(run, *args, **kwargs)
        if kind == "repeat":
            with calls.repeating():
                return run()
        if calls.running(self.owner) is not None:
            return run()  # a method that uses another of its own object's
        direction: Direction | None = None
        if kind == "forward" or kind == "inverse":
            direction = OPPOSITE[kind] if self.flipped else kind
        given = None if kind == "sampling" else functools.partial(_main, (*args, *kwargs.values()))

        def log_determinant(output: Any) -> LogDeterminant | None:
            if direction is None or given is None:
                return None
            with calls.repeating():
                return _log_determinant(one, kind, given(), output)

        return calls.around(
            self.owner, self.path, self.place, direction, given, run, _main, log_determinant
        )


def _main(value: Any) -> list[Tensor]:
    """The tensor, or the first of a tuple: ``y`` of ``(y, log_det)``."""
    first = value[0] if isinstance(value, tuple) and value else value
    return [first] if isinstance(first, Tensor) else []


def _log_determinant(
    transform: Any, kind: _Kind, inputs: list[Tensor], output: Any
) -> LogDeterminant:
    """The log|det J| of a call, summed over all but the first axis."""
    with torch.no_grad():
        if isinstance(output, tuple):  # (y, log_det)
            log_det = output[1]
        else:
            (x,), y = inputs, output
            try:
                if kind == "forward":
                    log_det = transform.log_abs_det_jacobian(x, y)
                else:
                    log_det = -transform.log_abs_det_jacobian(y, x)
            except NotImplementedError:
                return LogDeterminant(None, "its log_abs_det_jacobian is not implemented.")
        return LogDeterminant(log_det.flatten(1).sum(1) if log_det.dim() > 1 else log_det)


class TransformTap:
    """Tells of the calls of transforms.

    Attributes:
        calls: Who is told.
    """

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self._heard: dict[int, weakref.ref[Any]] = {}  # transforms have no hash

    def listen(self, one: Any, path: str, place: Place | None) -> None:
        """To one transform, or to what is asked of one distribution."""
        if id(one) not in self._heard:
            self._add(one, _Listener(self, path, place))

    def made(self, output: Any, path: str, name: str | None) -> bool:
        """Listens to what a module has made, if it is a transform or made of some.

        Arguments:
            output: What the module gave.
            path: The module's name, empty for the model itself.
            name: Where its calls are to be reported, if they are; several parts that nobody
                else has made are ``name[0]``, ``name[1]`` and so on.

        Returns:
            Whether it is such.
        """
        if not is_made_of_transforms(output):
            return False
        if isinstance(output, Distribution):
            self.listen(output, path, None)
            self._parts_made(_parts(output), path, name)
        elif id(output) not in self._heard:  # by a module inside of this one
            parts = _parts(output)
            apart = name is not None and not any(
                id(part) in self._heard for _, part, _ in named_transforms(output)
            )
            if parts and apart:
                self.listen(output, path, None)
                self._parts_made(parts, path, name)
            else:
                place = None if name is None else Place(name, _plain(type(output)).__name__)
                self.listen(output, path, place)
        return True

    def _parts_made(self, parts: list[Transform], path: str, name: str | None) -> None:
        for i, part in enumerate(parts):
            several = name is not None and len(parts) > 1
            self.made(part, path, f"{name}[{i}]" if several else name)

    def flip(self, inverse: Transform, listener: _Listener) -> None:
        """Listens to a transform that is the inverse of one that is listened to."""
        mine = [x for x in vars(inverse).get(_KEY, ()) if x.tap is self]
        # One that is a layer itself remains this layer.
        if not any(x.place is not None or x.owner is listener.owner for x in mine):
            self._add(inverse, replace(listener, flipped=not listener.flipped))

    def _add(self, one: Any, listener: _Listener) -> None:
        if not isinstance(one, _Heard):
            cls: Any = type(one)
            try:
                _set_class(one, _heard_class(cls))
            except TypeError as error:
                raise ArgumentTypeError(
                    "model",
                    f"{type(one).__name__} does not let its calls be seen: {error}. Probe "
                    "what it is made of, or choose other layers.",
                ) from None
        vars(one).setdefault(_KEY, []).append(listener)
        number, heard = id(one), self._heard
        heard[number] = weakref.ref(one, lambda _: heard.pop(number, None))

    def remove(self) -> None:
        """Listens no longer; what nobody else listens to is again of its own class."""
        for reference in list(self._heard.values()):
            one = reference()
            if one is not None:
                listeners = vars(one)[_KEY]
                listeners[:] = [x for x in listeners if x.tap is not self]
                if not listeners:
                    del vars(one)[_KEY]
                    _set_class(one, _plain(type(one)))
        self._heard.clear()


# The attribute that holds an object's listeners.
_KEY = "_infoprobe_listeners"


class _Heard:
    """What the classes of objects that somebody listens to have in common."""

    __slots__ = ()


@functools.cache
def _heard_class(cls: Any) -> type:
    """The subclass that tells of its calls; copies and pickles are of the class itself."""
    methods = _OF_TRANSFORMS if issubclass(cls, Transform) else _OF_DISTRIBUTIONS
    body: dict[str, Any] = {
        name: _telling(getattr(cls, name), kind)
        for name, kind in methods.items()
        if hasattr(cls, name)
    }

    def reduce(self: Any, protocol: Any) -> Any:
        reduced = cls.__reduce_ex__(self, protocol)
        if not isinstance(reduced, tuple):
            return reduced
        make, args, *rest = reduced
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            make = object.__new__  # pickle insists on the class for the former
        if rest and isinstance(rest[0], dict):
            rest[0] = {key: value for key, value in rest[0].items() if key != _KEY}
        return make, tuple(cls if x is type(self) else x for x in args), *rest

    body["__reduce_ex__"] = reduce
    if issubclass(cls, Transform):

        def inv(self: Any) -> Transform:
            inverse: Transform = cls.inv.__get__(self)
            if not (isinstance(inverse, _InverseTransform) and inverse._inv is self):
                for listener in vars(self).get(_KEY, ()):
                    listener.tap.flip(inverse, listener)
            return inverse

        body["inv"] = property(inv)
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return types.new_class(cls.__name__, (cls, _Heard), exec_body=lambda into: into.update(body))


def _telling(method: Callable[..., Any], kind: _Kind) -> Callable[..., Any]:
    @functools.wraps(method)
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = functools.partial(method, self)
        for listener in vars(self).get(_KEY, ()):
            run = functools.partial(listener.hear, kind, self, run)
        return run(*args, **kwargs)

    return told


def _set_class(one: object, cls: type) -> None:
    # Not as one sets an attribute, to which a class may have given another meaning.
    object.__setattr__(one, "__class__", cls)


def _plain(cls: type) -> type:
    """The class without what was added to listen."""
    return cls.__bases__[0] if issubclass(cls, _Heard) else cls
