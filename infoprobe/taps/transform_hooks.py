"""Listens to transforms and distributions of torch.distributions, which are no modules.

As long as somebody listens to a transform, it belongs to a subclass of its class, which tells of
its calls; the same holds for a distribution that is made of transforms. Some modules, such as
zuko's, make these objects when they are called; what passes through the objects comes later.
"""

from __future__ import annotations

import copyreg
import functools
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.distributions import Distribution, Transform

from infoprobe.directions import OPPOSITE, Direction
from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries.distributions import (
    DISTRIBUTION_METHODS,
    TRANSFORM_METHODS,
    Use,
    is_made_of_transforms,
    named_transforms,
    parts_of,
    reported_by_call,
)
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.taps.calls import Calls
from infoprobe.taps.sink import Place, name_of_part
from infoprobe.taps.uncompiled import uncompiled
from infoprobe.torch_internals import is_inverse_of


@dataclass
class _Listener:
    """One who listens to one object, and the name by which he knows it.

    Attributes:
        tap: The tap that listens.
        path: The object's name; empty for the model itself.
        place: Where the object's tensors are reported; ``None`` if they are not.
        conditional: Whether a module has made the object of a condition.
        flipped: Whether the object is the inverse of what has this name.
        owner: Stands for the object, and for its inverse.
    """

    tap: TransformTap
    path: str
    place: Place | None
    conditional: bool = False
    flipped: bool = False
    owner: object = field(default_factory=object)

    def hear(self, use: Use, one: Any, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a method of an object and tells of it."""
        calls = self.tap.calls
        run = functools.partial(run, *args, **kwargs)
        if use is Use.REPETITION:
            with calls.repeating():
                return run()
        if calls.running(self.owner) is not None:
            return run()  # one method of an object uses another
        direction = _DIRECTIONS.get(use)
        if direction is not None and self.flipped:
            direction = OPPOSITE[direction]
        given = functools.partial(_first_tensor, (*args, *kwargs.values()))

        def log_determinant(output: Any) -> LogDeterminant | None:
            if direction is None:
                return None
            with calls.repeating():
                reported = reported_by_call(one, use, given(), output)
            return reported.given_condition() if self.conditional else reported

        return calls.around(
            self.owner,
            self.path,
            self.place,
            direction,
            None if use is Use.SAMPLING else given,
            run,
            _first_tensor,
            log_determinant,
        )


_DIRECTIONS: dict[Use, Direction] = {Use.FORWARD: "forward", Use.INVERSE: "inverse"}


def _first_tensor(value: Any) -> list[Tensor]:
    """A tensor, or the first of a tuple, ``y`` of ``(y, log_det)``, as a list; or an empty one."""
    first = value[0] if isinstance(value, tuple) and value else value
    return [first] if isinstance(first, Tensor) else []


class TransformTap:
    """Tells of the calls of transforms.

    Attributes:
        calls: Where the calls are told.
    """

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self._heard: dict[int, weakref.ref[Any]] = {}  # transforms have no hash

    def listen(self, one: Any, path: str, place: Place | None, conditional: bool = False) -> None:
        """Listens to the calls of one transform, or to the questions to one distribution.

        Arguments:
            one: The transform or distribution.
            path: Its name; empty for the model itself.
            place: Where its tensors are reported; ``None`` if they are not.
            conditional: Whether a module has made it of a condition.
        """
        if id(one) not in self._heard:
            self._add(one, _Listener(self, path, place, conditional))

    def made(self, output: Any, path: str, name: str | None, conditional: bool) -> bool:
        """Listens to what a module has made, if it is a transform or made of some.

        Arguments:
            output: What the module returned.
            path: The module's name; empty for the model itself.
            name: The place where its calls are reported; ``None`` if they are not. Several parts
                that no other module has made are reported at ``name[0]``, ``name[1]`` and so on.
            conditional: Whether the module was given a condition.

        Returns:
            Whether the output is a transform or made of transforms.
        """
        try:
            transforms = is_made_of_transforms(output)
        except Exception:  # what a module returns may raise whenever it is asked for something
            transforms = False
        if not transforms:
            return False
        if isinstance(output, Distribution):
            self.listen(output, path, None)
            self._parts_made(parts_of(output), path, name, conditional)
        elif id(output) not in self._heard:  # else a module inside of this one has made it
            parts = parts_of(output)
            apart = name is not None and not any(
                id(part) in self._heard for _, part, _ in named_transforms(output)
            )
            if parts and apart:
                self.listen(output, path, None)
                self._parts_made(parts, path, name, conditional)
            else:
                place = None if name is None else Place(name, _plain(type(output)).__name__)
                self.listen(output, path, place, conditional)
        return True

    def _parts_made(
        self, parts: list[Transform], path: str, name: str | None, conditional: bool
    ) -> None:
        several = len(parts) > 1
        for i, part in enumerate(parts):
            own_name = name_of_part(name, i) if several and name is not None else name
            self.made(part, path, own_name, conditional)

    def flip(self, inverse: Transform, listener: _Listener) -> None:
        """Listens to a transform that is the inverse of one that is listened to."""
        mine = [x for x in vars(inverse).get(_KEY, ()) if x.tap is self]
        # An inverse that is a layer itself remains this layer.
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
        """Stops listening; what nobody else listens to is again of its own class."""
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
    """The base class of all objects that somebody listens to."""

    __slots__ = ()


@functools.cache
def _heard_class(cls: Any) -> type:
    """The subclass of a class that tells of its calls; copies and pickles are of the class."""
    methods = TRANSFORM_METHODS if issubclass(cls, Transform) else DISTRIBUTION_METHODS
    body: dict[str, Any] = {
        name: _telling(getattr(cls, name), use)
        for name, use in methods.items()
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

        def plain(self: Any) -> Transform:
            inverse: Transform = cls.inv.__get__(self)
            return inverse

        def inv(self: Any) -> Transform:
            inverse = plain(self)
            if not is_inverse_of(inverse, self):
                for listener in vars(self).get(_KEY, ()):
                    listener.tap.flip(inverse, listener)
            return inverse

        body["inv"] = property(uncompiled(inv, plain))
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return types.new_class(cls.__name__, (cls, _Heard), exec_body=lambda into: into.update(body))


def _telling(method: Callable[..., Any], use: Use) -> Callable[..., Any]:
    """A method that tells the listeners of its calls."""

    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = functools.partial(method, self)
        for listener in vars(self).get(_KEY, ()):
            run = functools.partial(listener.hear, use, self, run)
        return run(*args, **kwargs)

    return functools.wraps(method)(uncompiled(told, method))


def _set_class(one: object, cls: type) -> None:
    # Not by setattr, to which a class may have given another meaning.
    object.__setattr__(one, "__class__", cls)


def _plain(cls: type) -> type:
    """The class without what was added to listen."""
    return cls.__bases__[0] if issubclass(cls, _Heard) else cls
