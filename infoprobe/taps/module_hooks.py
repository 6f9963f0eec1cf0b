"""Hooks that catch what goes in and out of the layers of a model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from infoprobe.directions import Direction
from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries import freia
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.taps.calls import Call, Calls
from infoprobe.taps.layout import MODEL, Layer, has_inverse
from infoprobe.taps.sink import Place
from infoprobe.taps.transform_hooks import TransformTap, is_lazy


class _Site(NamedTuple):
    """What the hooks of a module must know of it.

    Attributes:
        name: The layer's, if it was chosen.
        path: The module's, empty for the model itself.
        freia: Whether it is one of FrEIA's invertible modules, and says which way it runs.
        is_map: Whether it has an ``inverse``, and runs forward when it is called.
        makes: Whether what it returns is a transform or a distribution.
        stochastic: Whether its log-determinant is a random estimate.
    """

    name: str | None
    path: str
    freia: bool
    is_map: bool
    makes: bool
    stochastic: bool


# A wrapper such as DistributedDataParallel is no layer, but the model that is called.
_CONTAINER = _Site(None, "", freia=False, is_map=False, makes=False, stochastic=False)


class ModuleTap:
    """Hooks on a model that tell of the calls of its modules.

    FrEIA's invertible modules say which way they run (``rev``), and calls of modules that have
    an ``inverse`` run forward; the subnets inside them run the way of the call around them. What
    passes through the transforms that a module makes is up to ``transforms``.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[Layer],
        everything: Iterable[Layer],
        calls: Calls,
        transforms: TransformTap,
    ) -> None:
        self._model = model
        self._calls = calls
        self._transforms = transforms
        self._ends: dict[tuple[object, str | None], list[Layer]] = {}
        for layer in layers:
            if layer.end is not None:
                self._ends.setdefault((layer.module, layer.end), []).append(layer)
        chosen = {layer.module for layer in layers if layer.end is None}
        self._sites = {
            layer.module: _Site(
                name=layer.name if layer.module in chosen else None,
                path="" if layer.name == MODEL else layer.name,
                freia=freia.is_invertible(layer.module),
                is_map=has_inverse(layer.module),
                makes=is_lazy(layer.module),
                stochastic=freia.is_stochastic(layer.module),
            )
            for layer in everything
            if layer.end is None
        }
        self._handles: list[RemovableHandle] = []
        self._hooks: list[_Hook] = []
        try:
            for module in self._hooked():
                self._attach(module)
        except BaseException:
            self.remove()
            raise

    def _hooked(self) -> Iterable[nn.Module]:
        """The model, the layers, whatever has a direction, and all that such may be called in."""
        needed = [self._model]
        needed += [m for m, site in self._sites.items() if site.name is not None]
        needed += [m for m, site in self._sites.items() if site.freia or site.is_map or site.makes]
        inside = set(needed)
        containers = [m for m in self._model.modules() if not inside.isdisjoint(m.modules())]
        return dict.fromkeys([*needed, *containers])

    def _attach(self, module: nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise ArgumentTypeError(
                "layers",
                f"{self._sites[module].path or MODEL!r} is a ScriptModule, which takes no "
                "hooks. Probe the module that it was made of, or choose other layers.",
            )
        site = self._sites.get(module, _CONTAINER)
        before = _Hook(functools.partial(self._before, site))
        after = _Hook(functools.partial(self._after, site))
        self._hooks += [before, after]
        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        # Called also after an exception, which the model itself may catch.
        self._handles.append(
            module.register_forward_hook(after, with_kwargs=True, always_call=True)
        )

    def remove(self) -> None:
        """Takes every hook off the model again."""
        while self._handles:
            self._handles.pop().remove()
        for hook in self._hooks:
            hook.act = None  # compiled code may still call it
        self._hooks.clear()

    def _before(
        self, site: _Site, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        direction: Direction | None = None
        protocol: list[Tensor] | None = None
        if site.freia:
            direction = freia.direction(module, args, kwargs)
            protocol = freia.inputs(args, kwargs)
        elif site.is_map:
            direction, protocol = "forward", freia.inputs(args, kwargs)

        def inputs() -> list[Tensor]:
            return protocol or main_tensor(args) or main_tensor(kwargs)

        place = None if site.name is None else Place(site.name, type(module).__name__)
        given = None if site.makes else inputs
        graph = self._calls.innermost()
        call = self._calls.enter(module, site.path, place, direction, given, hooked=True)
        if call is not None and protocol:
            self._pass_ends(call, "input" if call.direction == "forward" else "output", protocol)
        if (
            call is not None
            and call.place is not None
            and self._calls.wants_log_determinants
            and site.freia
            and not site.stochastic
            and kwargs.get("jac") is False
            and freia.ignores_volumes(graph)
        ):
            # The graph heeds only what it asked for, so this changes nothing for the user.
            return args, {**kwargs, "jac": True}
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
        if output is None:  # the call raised, or gives nothing
            self._calls.leave(call, None)
            return
        listens = site.makes or (site.name is not None and not isinstance(output, Tensor))
        if listens and self._transforms.made(output, call.path, site.name):
            self._calls.leave(call, None)
            return
        protocol: list[Tensor] | None = None
        if site.freia or site.is_map:
            protocol = freia.outputs(module, call.direction, output)
        if protocol:
            self._pass_ends(call, "output" if call.direction == "forward" else "input", protocol)
        reported = None
        if self._calls.wants_log_determinants and (site.freia or site.is_map):
            reported = _log_determinant(site, module, call.direction, args, kwargs, output)
        self._calls.leave(call, protocol or main_tensor(output), args, kwargs, reported)

    def _pass_ends(self, call: Call, end: str, tensors: list[Tensor]) -> None:
        """A graph's ends hand on unchanged what they are given."""
        for layer in self._ends.get((call.owner, end), []):
            tensor = tensors[layer.channel : layer.channel + 1]
            if tensor:  # too few make the graph raise an error of its own
                self._calls.pass_by(call, Place(layer.name, layer.type), tensor)


def _log_determinant(
    site: _Site,
    module: nn.Module,
    direction: Direction,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    output: Any,
) -> LogDeterminant:
    """What a map reports of its log|det J| as it returns."""
    if not site.freia:
        return reported_log_determinant(output)
    if not freia.asks_for_volume(module, args, kwargs):
        return LogDeterminant(None, "it ran with jac=False. Call it, or the graph, with jac=True.")
    wrong = freia.known_wrong(module, rev=direction == "inverse")
    if wrong:
        return LogDeterminant(
            None, f"{' and '.join(wrong)}: ip.entropy_change finds it another way."
        )
    doubt = "a stochastic estimate (IResNetLayer), not exact." if site.stochastic else ""
    return LogDeterminant(
        output[1] if isinstance(output, tuple) and len(output) == 2 else None, doubt
    )


def reported_log_determinant(output: Any) -> LogDeterminant:
    """What a map with an ``inverse`` reports of its log|det J| as it returns ``(z, log_det)``."""
    if (
        isinstance(output, (tuple, list))
        and len(output) == 2
        and isinstance(output[1], (Tensor, float, int))
    ):
        return LogDeterminant(output[1])
    return LogDeterminant(None, "it returned no log-determinant beside its output.")


class _Hook:
    """A hook that acts on the model it was put on alone: copies and pickles of it do nothing.

    Attributes:
        act: What it does, if anything.
    """

    def __init__(self, act: Callable[..., Any] | None = None) -> None:
        self.act = act

    def __call__(self, *args: Any) -> Any:
        return None if self.act is None else self.act(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return _Hook()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


def main_tensor(value: Any) -> list[Tensor]:
    """The first floating-point tensor in nested containers, or else the first tensor.

    Containers are tuples, lists, mappings and dataclasses. As a list of at most one.
    """
    if type(value) is tuple and len(value) == 1:
        (value,) = value
    if isinstance(value, Tensor):
        return [value]
    found = list(_leaves(value))
    return ([x for x in found if x.is_floating_point() or x.is_complex()] or found)[:1]


def _leaves(value: Any, around: tuple[Any, ...] = ()) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (tuple, list)):
        items = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if not any(value is other for other in around):  # else it contains itself
        for item in items:
            yield from _leaves(item, (*around, value))
