"""Hooks that catch what goes in and out of the layers of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from infoprobe.directions import Direction
from infoprobe.libraries.adapter import Library
from infoprobe.libraries.doubts import Doubts
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.taps import compiled
from infoprobe.taps.arguments import Arguments, OwnMask
from infoprobe.taps.calls import Call, Calls
from infoprobe.taps.inputs import Inputs
from infoprobe.taps.layout import MODEL, Layer, Layout
from infoprobe.taps.sink import Place
from infoprobe.taps.tensors import is_tensor, main_tensor
from infoprobe.taps.transform_hooks import TransformTap
from infoprobe.taps.uncompiled import Uncompiled, compiled_in_place, uncompiled
from infoprobe.taps.unseen import held_by_exported, require_called, require_hookable
from infoprobe.taps.usual import End
from infoprobe.torch_internals import (
    in_modes,
    is_traced,
    outside_of_modes,
)


class _Map(NamedTuple):
    """What the hooks of a map must know of it.

    Attributes:
        library: The adapter that knows it.
        doubts: Whether its log-determinants are to be believed.
    """

    library: Library
    doubts: Doubts


class _Site(NamedTuple):
    """What the hooks of a module must know of it.

    Attributes:
        place: Where the layer's tensors are reported, if it was chosen.
        path: The module's name, empty for the model itself.
        map: What there is to know if calls run it as a map; ``None`` if they do not.
        makes_transforms: Whether it returns a transform or a distribution.
    """

    place: Place | None
    path: str
    map: _Map | None = None
    makes_transforms: bool = False


# A wrapper such as DistributedDataParallel is no layer, but it is the model that is called.
_CONTAINER = _Site(None, "")


class ModuleTap:
    """Hooks on a model that tell of the calls of its modules.

    The calls of a map have a direction, which its library tells; the subnets inside a map run in
    the direction of the call around them. ``transforms`` tells of what passes through the
    transforms that a module makes.

    Arguments:
        layout: The model, with its chosen layers.
        calls: Where calls are told.
        transforms: Listens to the transforms that modules make.
        given: Finds the input among what the model is given.

    """

    def __init__(
        self, layout: Layout, calls: Calls, transforms: TransformTap, given: Inputs
    ) -> None:
        self._model: nn.Module = layout.model
        self._given = given
        self._calls = calls
        self._transforms = transforms
        self._ends: dict[tuple[object, End], list[Layer]] = {}
        for layer in layout.chosen:
            if layer.end is not None:
                self._ends.setdefault((layer.module, layer.end), []).append(layer)
        self._sites = {
            layer.module: _Site(
                Place(layer.name, layer.type) if layout.is_chosen(layer) else None,
                layer.prefix,
                _Map(layer.library, Doubts.of(layer.module))
                if layer.library.is_map(layer.module)
                else None,
                layer.library.makes_transforms(layer.module),
            )
            for layer in layout.layers
            if layer.end is None
        }
        self._never_called = held_by_exported(self._model)
        self._handles: list[tuple[nn.Module, list[RemovableHandle]]] = []
        self._hooks: list[tuple[nn.Module, _Hook, _Hook]] = []
        self._can_be_compiled = not (
            calls.wants_arguments
            or given.is_chosen
            or any(map(compiled_in_place, self._model.modules()))
            or any(s.map is not None or s.makes_transforms for s in self._sites.values())
        )
        hooked = list(self._hooked())
        self._breaks = self._looked_again = False
        self._uncompiled = None if self._can_be_compiled else Uncompiled(self._model, hooked)
        try:
            for module in hooked:
                self._attach(module)
            self.follow()
            calls.pass_over = self.follow
        except BaseException:
            self.remove()
            raise

    def _hooked(self) -> Iterable[nn.Module]:
        """The model, its layers, all maps and makers of transforms, and all that hold these."""
        needed = [self._model]
        needed += [module for module, site in self._sites.items() if site.place is not None]
        needed += [
            module
            for module, site in self._sites.items()
            if site.map is not None or site.makes_transforms
        ]
        inside = set(needed)
        containers = [m for m in self._model.modules() if not inside.isdisjoint(m.modules())]
        return dict.fromkeys([*needed, *containers])

    def _attach(self, module: nn.Module) -> None:
        site = self._sites.get(module, _CONTAINER)
        require_hookable(module, site.path or MODEL)
        if site.place is not None:
            require_called(module, site.path, self._never_called)
        number = compiled.number_of(module)
        before = _Hook(functools.partial(self._before, site), number)
        after = _Hook(functools.partial(self._after, site), number, ends=True)
        if self._can_be_compiled:
            before.tell = functools.partial(self._tensors_enter, site, module)
            after.tell = functools.partial(self._tensors_leave, module)
            before.names = self._given.names if module is self._model else None
        else:
            # Made once: compiled code knows them by their identity.
            before.outside = uncompiled(before, before.leave_operation)
            after.outside = uncompiled(after, after.leave_operation)
            if module is self._model:
                after.tell = self._unmeasured_pass
        compiled.listen(module, before, after)
        self._hooks.append((module, before, after))
        self._handles.append((module, compiled.registered(module, before, after)))

    def follow(self) -> None:
        """Lets the model run uncompiled for the next pass, if it is measured and has to."""
        if self._uncompiled is None:
            return
        measures = self._calls.measures_next
        if not measures:
            self._uncompiled.end()
        elif self._uncompiled.is_needed:
            self._uncompiled.begin()
        if measures is not self._breaks:
            self._breaks = measures
            for _, *hooks in self._hooks:
                for hook in hooks:
                    hook.breaks = measures

    def remove(self) -> None:
        """Takes every hook off the model again."""
        if self._uncompiled is not None:
            self._uncompiled.end()
        while self._handles:
            compiled.removed(*self._handles.pop())
        for module, *hooks in self._hooks:
            compiled.forget(module, *hooks)
            for hook in hooks:
                hook.act = hook.tell = hook.outside = None  # compiled code may still call it
                hook.breaks = False
        self._hooks.clear()

    def _tensors_enter(
        self, site: _Site, module: nn.Module, tensors: list[Tensor], masks: list[OwnMask]
    ) -> None:
        """Compiled code calls a module."""
        if module is self._model:
            self._calls.end_all()  # what was interrupted in compiled code had nobody to tell of it
        place = site.place and site.place._replace(type=type(module).__name__)
        self._calls.enter(
            module,
            site.path,
            place,
            None,
            lambda: tensors,
            hooked=False,
            arguments=lambda: Arguments(masks, None),
        )

    def _tensors_leave(self, module: nn.Module, tensors: list[Tensor], _: list[OwnMask]) -> None:
        """A module that compiled code has called returns."""
        call = self._calls.running(module)
        if call is not None:
            self._calls.leave(call, tensors or None)

    def _unmeasured_pass(self, *_: object) -> None:
        """The model has run in compiled code, where its hooks did not work."""
        if not self._calls.measures_next:
            self._calls.leave_out()
        elif self._uncompiled is not None and not self._looked_again:
            self._looked_again = True
            self._uncompiled.look_again()
            self.follow()

    def _before(
        self, site: _Site, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        direction: Direction | None = None
        own: list[Tensor] | None = None
        if site.map is not None:
            direction = site.map.library.direction(module, args, kwargs)
            own = site.map.library.inputs(module, args, kwargs)

        def inputs() -> list[Tensor]:
            if module is self._model:
                return own or self._given.of(args, kwargs)
            return own or main_tensor(args) or main_tensor(kwargs)

        several = "" if own or module is not self._model else self._given.others(args, kwargs)
        given = None if site.makes_transforms else inputs
        caller = self._calls.innermost()
        part = None if module is self._model else module
        call = self._calls.enter(
            module,
            site.path,
            site.place,
            direction,
            given,
            True,
            several,
            lambda: self._given.arguments(args, kwargs, part),
        )
        if call is None:
            return None
        if own:
            self._pass_ends(call, "input" if call.direction == "forward" else "output", own)
        if (
            site.map is not None
            and call.place is not None
            and self._calls.wants_log_determinants
            and not site.map.doubts.stochastic
        ):
            asking = site.map.library.with_log_determinant(kwargs, caller)
            return None if asking is None else (args, asking)
        return None

    def _after(
        self,
        site: _Site,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> None:
        call = self._calls.running(module)
        if call is None:
            return
        if output is None:  # the call raised, or returns nothing
            self._calls.leave(call, None)
            return
        if site.makes_transforms or (site.place is not None and not is_tensor(output)):
            name = site.place and site.place.name
            conditional = any(value is not None for value in (*args, *kwargs.values()))
            if self._transforms.made(output, call.path, name, conditional):
                self._calls.leave(call, None)
                return
        own: list[Tensor] | None = None
        reported: LogDeterminant | None = None
        if site.map is not None:
            own = site.map.library.outputs(module, call.direction, output)
            if own:
                self._pass_ends(call, "output" if call.direction == "forward" else "input", own)
            if self._calls.wants_log_determinants:
                reported = site.map.doubts.reported(module, call.direction, args, kwargs, output)
        self._calls.leave(call, own or main_tensor(output), args, kwargs, reported, output)

    def _pass_ends(self, call: Call, end: End, tensors: list[Tensor]) -> None:
        """A graph's ends hand on unchanged what they are given."""
        for layer in self._ends.get((call.owner, end), []):
            tensor = tensors[layer.channel : layer.channel + 1]
            if tensor:  # too few make the graph raise an error of its own
                self._calls.pass_by(call, Place(layer.name, layer.type), tensor)


class _Hook:
    """A hook that acts on the model it was put on alone: copies and pickles of it do nothing.

    In code that is compiled it leaves an operation behind, which calls it when the code runs.

    Arguments:
        act: The function that it calls.
        number: What compiled code knows of its module.
        ends: Whether it is called after the module.

    Attributes:
        act: As above; ``None`` once the hook was removed.
        leads: Whether it is the one of a module's hooks that leaves the operation behind.
        tell: The function that compiled code calls instead.
        outside: What compiled code breaks off for, to call the hook after all. This is for the
            first pass that is ever compiled: others are called uncompiled.
        breaks: Whether compiled code is to do so.
        names: The names of the model's arguments, if compiled code is to tell of its masks.
    """

    def __init__(
        self, act: Callable[..., Any] | None = None, number: int = -1, ends: bool = False
    ) -> None:
        self.act = act
        self.leads = False
        self.tell: Callable[[list[Tensor], list[OwnMask]], None] | None = None
        self.names: list[str] | None = None
        self.outside: Callable[..., Any] | None = None
        self.breaks = False
        self._number = number
        self._ends = ends

    def __call__(self, module: nn.Module, *given: Any) -> Any:
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting():
                return None
            outside = self.outside if self.breaks else None
            return (outside or self.leave_operation)(module, *given)
        if self.act is None or is_traced():
            return None
        if not in_modes():
            return self.act(module, *given)
        with outside_of_modes():
            return self.act(module, *given)

    def leave_operation(self, _: nn.Module, *given: Any) -> None:
        """Is called in code that is being compiled."""
        if self.leads:
            if self._ends or self.names is None:
                value = given[-1] if self._ends else given
                compiled.leave_operation(self._number, self._ends, value)
                return
            args, kwargs = given
            named = dict(zip(self.names, args, strict=False))
            compiled.leave_operation(self._number, self._ends, given, {**named, **kwargs})

    @property
    def __name__(self) -> str:
        # torch.jit.script compiles hooks as well, and asks for their names first.
        raise AttributeError(
            "a model that is probed cannot be scripted, since hooks are on it. Call "
            "probe.remove() first, or script the model before it is probed."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return _Hook()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()
