"""Layers of a model, how users name them, and the hooks that catch what goes in and out."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from infoprobe.taps import freia
from infoprobe.taps.freia import Direction

LayerSpec = str | nn.Module | type | Callable[[str, nn.Module], bool]

# The name of the whole model, which no path can equal.
MODEL = "(model)"


@dataclass(frozen=True)
class Layer:
    """A place in a model where tensors can be caught.

    Attributes:
        name: What the user calls it: the path of a module, which begins anew at the name of a
            FrEIA node (``conv1``, ``conv1.subnet1.0``); ``(model)`` for the model itself.
        path: The path of the module, as :meth:`torch.nn.Module.named_modules` gives it, without
            the segments that wrappers add.
        type: The class of the module, or ``InputNode`` / ``OutputNode`` for a graph's ends.
        module: The module; for a graph's ends, the graph.
        end: For a graph's ends, which one.
        channel: For a graph's ends, which of several inputs or outputs.
    """

    name: str
    path: str
    type: str
    module: nn.Module
    end: Literal["input", "output"] | None = None
    channel: int = 0


def all_layers(model: nn.Module) -> list[Layer]:
    """Every layer of a model: its modules, and the ends of its FrEIA graphs."""
    layers: list[tuple[str, Layer]] = []  # with the name that tells apart two graphs' nodes
    short, full = {"": ""}, {"": ""}
    nodes: dict[nn.Module, tuple[str, str]] = {}
    for path, module in _named_modules(model):
        parent, _, last = path.rpartition(".")
        if path:
            short[path], full[path] = nodes.get(module) or (
                _join(short.get(parent, parent), last),
                _join(full.get(parent, parent), last),
            )
        name = short[path] or MODEL
        layers.append((full[path] or MODEL, Layer(name, path, type(module).__name__, module)))
        if freia.is_graph(module):
            for node, name in freia.node_names(module).items():
                nodes[node] = name, _join(full[path], name)
            names_in, names_out = freia.end_names(module)
            for i, name in enumerate(names_in):
                layer = Layer(name, _join(path, name), "InputNode", module, "input", i)
                layers.append((_join(full[path], name), layer))
            for i, name in enumerate(names_out):
                layer = Layer(name, _join(path, name), "OutputNode", module, "output", i)
                layers.append((_join(full[path], name), layer))
    names = _distinct(
        # What users say, what tells two graphs' nodes apart, and what is always different.
        [
            (x.name, name, x.path or MODEL, f"{x.path}#{x.channel}" if x.end else x.path or MODEL)
            for name, x in layers
        ]
    )
    return [replace(layer, name=name) for name, (_, layer) in zip(names, layers, strict=True)]


def _distinct(choices: list[tuple[str, ...]]) -> list[str]:
    """The first of each one's names, or the next where several would have the same."""
    names = [first for first, *_ in choices]
    for level in range(1, len(choices[0])):
        times = Counter(names)
        names = [
            name if times[name] == 1 else longer[level]
            for name, longer in zip(names, choices, strict=True)
        ]
    return names


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """``model.named_modules()`` as users think of it.

    Without the modules that hold parametrizations, whose "activations" are weights, without the
    wrappers of torch.compile and data parallelism, and without the path segments they add.
    """
    paths: dict[str, str] = {"": ""}
    wrappers: set[str] = set()
    for path, module in model.named_modules():
        parent, _, last = path.rpartition(".")
        if "parametrizations" in path.split("."):
            continue
        if path:
            paths[path] = paths[parent] if parent in wrappers else _join(paths[parent], last)
        if _is_wrapper(module):
            wrappers.add(path)
        else:
            yield paths[path], module


def _is_wrapper(module: nn.Module) -> bool:
    compiled = "_orig_mod" in module._modules
    return compiled or isinstance(module, (DataParallel, DistributedDataParallel))


def _unwrapped(module: nn.Module) -> nn.Module:
    while _is_wrapper(module):
        (module,) = module.children()
    return module


def select_layers(
    model: nn.Module, layers: LayerSpec | Iterable[LayerSpec] | None = None
) -> list[Layer]:
    """The layers that a user asks for, in the order of the model.

    Arguments:
        model: Where to look.
        layers: ``None`` for the leaf modules, and for FrEIA graphs their nodes and ends; or one
            or several of: a glob pattern on names or paths, a module, a class of modules, a
            predicate ``f(name, module)``. A pattern chooses among the layers that ``None``
            stands for, or, where it matches none of them, among all modules.

    Raises:
        TypeError: Something that is none of these.
        ValueError: Something that matches no layer.
    """
    everything = all_layers(model)
    default = {(id(module), end) for module, end in _default(model)}
    usual = [layer for layer in everything if (id(layer.module), layer.end) in default]
    if layers is None:
        return usual
    several = isinstance(layers, Iterable) and not isinstance(layers, (str, nn.Module, type))
    specs: list[Any] = list(layers) if several else [layers]  # type: ignore[arg-type]
    if not specs:
        raise ValueError("layers: expected at least one, got none. Pass None for the usual ones.")
    chosen = {layer for spec in specs for layer in _matching(spec, usual, everything)}
    return [layer for layer in everything if layer in chosen]


_NEVER_CALLED = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def _default(module: nn.Module) -> Iterator[tuple[nn.Module, str | None]]:
    children = [m for name, m in module.named_children() if name != "parametrizations"]
    if freia.is_graph(module):
        yield module, "input"
        for node in module.module_list:  # type: ignore[union-attr]
            yield node, None
        yield module, "output"
    elif _is_unit(module) or not children:
        if not isinstance(module, _NEVER_CALLED):
            yield module, None
    else:
        for child in children:
            yield from _default(child)


def _is_unit(module: nn.Module) -> bool:
    """Whether a module with parts is one layer: attention, and FrEIA's modules but for graphs."""
    invertible = freia.is_invertible(module) and not any(map(freia.is_graph, module.modules()))
    # Attention uses the weights of its output projection without calling it.
    return invertible or isinstance(module, nn.MultiheadAttention)


def _matching(spec: Any, usual: list[Layer], everything: list[Layer]) -> list[Layer]:
    modules = [layer for layer in everything if layer.end is None]
    if isinstance(spec, str):
        found = _like(spec, usual) or _like(spec, everything)
    elif isinstance(spec, nn.Module):
        found = [layer for layer in modules if layer.module is _unwrapped(spec)]
    elif isinstance(spec, type):
        found = [layer for layer in modules if isinstance(layer.module, spec)]
    elif callable(spec):
        found = [layer for layer in everything if spec(layer.name, layer.module)]
    else:
        raise TypeError(
            "layers: expected a pattern, a module, a class or a predicate f(name, module), got "
            f"{spec!r} of type {type(spec).__name__}."
        )
    if not found:
        names = [layer.name for layer in everything]
        what = repr(spec) if isinstance(spec, (str, type)) else f"this {type(spec).__name__}"
        near = difflib.get_close_matches(spec, names) if isinstance(spec, str) else []
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"layers: {what} matches none of the model's {len(names)} layers. {hint}"
            f"There are: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}."
        )
    return found


def _like(pattern: str, layers: list[Layer]) -> list[Layer]:
    match = functools.partial(fnmatch.fnmatchcase, pat=pattern)
    return [layer for layer in layers if match(layer.name) or (layer.path and match(layer.path))]


class Sink(Protocol):
    """Who is told what passes through a model."""

    def start(self, inputs: list[Tensor], entrance: str | None) -> None:
        """A pass begins with these tensors; ``entrance`` names the module if not the model."""

    def enter(self, inputs: list[Tensor]) -> Any:
        """A layer is about to be called; what is returned comes back at its exit."""

    def exit(
        self,
        layer: Layer,
        direction: Direction,
        call: int,
        entered: Any,
        outputs: list[Tensor],
    ) -> None:
        """A layer has returned; ``call`` numbers its calls in this pass and direction."""


class _Frame(NamedTuple):
    """One running call of a hooked module."""

    module: nn.Module
    direction: Direction
    call: int
    entered: Any


class ModuleTap:
    """Hooks on a model that tell a sink what goes in and out of its layers, and which way.

    The direction of a call is that of the innermost enclosing call which states one; FrEIA's
    invertible modules do (``rev``), the subnets inside them inherit it. A pass lasts from the
    outermost call of any module of the model until it returns.
    """

    def __init__(self, model: nn.Module, layers: list[Layer], sink: Sink) -> None:
        self._model = model
        self._sink = sink
        self._layers = {layer.module: layer for layer in layers if layer.end is None}
        self._ends: dict[tuple[nn.Module, str | None], list[Layer]] = {}
        for layer in layers:
            if layer.end is not None:
                self._ends.setdefault((layer.module, layer.end), []).append(layer)
        self._names = {layer.module: layer.name for layer in all_layers(model)}
        self._stack: list[_Frame] = []
        self._calls: Counter[tuple[Layer, Direction]] = Counter()
        self._handles: list[RemovableHandle] = []
        _hide_hooks_from_the_compiler()
        try:
            for module in self._hooked():
                if isinstance(module, torch.jit.ScriptModule):
                    raise TypeError(
                        f"layers: {self._names[module]!r} is a ScriptModule, which takes no "
                        "hooks. Probe the module that it was made of, or choose other layers."
                    )
                before, after = _Hook(self._before), _Hook(self._after)
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                # Called also after an exception, which the model itself may catch.
                self._handles.append(
                    module.register_forward_hook(after, with_kwargs=True, always_call=True)
                )
        except BaseException:
            self.remove()
            raise

    def _hooked(self) -> Iterable[nn.Module]:
        """The model, the layers, whatever has a direction, and all that such may be called in."""
        needed = [self._model, *self._layers]
        needed += [module for module in self._model.modules() if freia.is_invertible(module)]
        inside = set(needed)
        containers = [m for m in self._model.modules() if not inside.isdisjoint(m.modules())]
        return dict.fromkeys([*needed, *containers])

    def remove(self) -> None:
        """Takes every hook off the model again."""
        while self._handles:
            self._handles.pop().remove()

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the model."""
        return bool(self._handles)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        while self._stack and not _is_running(self._stack[-1].module):
            self._stack.pop()  # ended by a KeyboardInterrupt, of which no hook is told
        direction: Direction = self._stack[-1].direction if self._stack else "forward"
        protocol = None
        if freia.is_invertible(module):
            direction = freia.direction(module, args, kwargs)
            protocol = freia.inputs(args, kwargs)
        inputs = protocol or main_tensor(args) or main_tensor(kwargs)
        if not self._stack:
            self._calls.clear()
            name = self._names.get(module, MODEL)
            self._sink.start(inputs, None if name == MODEL else name)
        if protocol:
            end = "input" if direction == "forward" else "output"
            self._pass_ends(module, end, direction, protocol)
        call, entered = 0, None
        layer = self._layers.get(module)
        if layer is not None:
            call = self._count_call(layer, direction)
            entered = self._sink.enter(inputs)
        self._stack.append(_Frame(module, direction, call, entered))

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        frame = self._pop(module)
        if frame is None or output is None:  # None: the call raised
            return
        protocol = None
        if freia.is_invertible(module):
            protocol = freia.outputs(module, frame.direction, output)
        layer = self._layers.get(module)
        if layer is not None:
            outputs = protocol or main_tensor(output)
            self._sink.exit(layer, frame.direction, frame.call, frame.entered, outputs)
        if protocol:
            end = "output" if frame.direction == "forward" else "input"
            self._pass_ends(module, end, frame.direction, protocol)

    def _pass_ends(
        self, graph: nn.Module, end: str, direction: Direction, tensors: list[Tensor]
    ) -> None:
        """A graph's ends hand on unchanged what they are given."""
        for layer in self._ends.get((graph, end), []):
            tensor = tensors[layer.channel : layer.channel + 1]
            if tensor:  # too few make the graph raise an error of its own
                call = self._count_call(layer, direction)
                self._sink.exit(layer, direction, call, self._sink.enter(tensor), tensor)

    def _count_call(self, layer: Layer, direction: Direction) -> int:
        self._calls[layer, direction] += 1
        return self._calls[layer, direction] - 1

    def _pop(self, module: nn.Module) -> _Frame | None:
        """The frame of this call, without what an interrupted call has left above it."""
        for depth in reversed(range(len(self._stack))):
            if self._stack[depth].module is module:
                frame = self._stack[depth]
                del self._stack[depth:]
                return frame
        return None


def _is_running(module: nn.Module) -> bool:
    """Whether a call of this module is among the callers of the call that a hook is about."""
    frame: FrameType | None = sys._getframe()
    inside = True
    while frame is not None:
        if frame.f_code.co_name == "_call_impl":  # of nn.Module, which calls hooks and forward
            if not inside and frame.f_locals.get("self") is module:
                return True
            inside = False
        frame = frame.f_back
    return False


class _Hook:
    """A hook that acts on the model it was put on alone: copies and pickles of it do nothing."""

    def __init__(self, act: Callable[..., None] | None = None) -> None:
        self._act = act

    def __call__(self, *args: Any) -> None:
        if self._act is not None:
            self._act(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return _Hook()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


@functools.cache
def _hide_hooks_from_the_compiler() -> None:
    """Otherwise torch.compile traces them, and compiles anew for every tensor.

    Done when it is first needed, since importing the compiler takes a second.
    """
    hidden = torch.compiler.disable(_Hook.__call__)  # type: ignore[no-untyped-call]
    _Hook.__call__ = hidden  # type: ignore[method-assign]


def main_tensor(value: Any) -> list[Tensor]:
    """The first floating-point tensor in nested tuples, lists and mappings, or the first tensor.

    As a list of at most one.
    """
    found = list(_leaves(value))
    return ([x for x in found if x.is_floating_point() or x.is_complex()] or found)[:1]


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _leaves(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
