"""Layers of a model, how users name them, and the hooks that catch what goes in and out."""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from infoprobe.taps import freia

LayerSpec = str | nn.Module | type | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Layer:
    """A place in a model where tensors can be caught.

    Attributes:
        name: What the user calls it: the path of a module, which begins anew at the name of a
            FrEIA node (``conv1``, ``conv1.subnet1.0``).
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
    layers: list[Layer] = []
    node_names: dict[nn.Module, str] = {}
    names: dict[str, str] = {}
    for path, module in _named_modules(model):
        parent, _, last = path.rpartition(".")
        names[path] = node_names.get(module) or f"{names.get(parent, '')}.{last}".lstrip(".")
        layers.append(Layer(names[path] or "model", path, type(module).__name__, module))
        if freia.is_graph(module):
            node_names.update(freia.node_names(module))
            prefix = f"{path}." if path else ""
            names_in, names_out = freia.end_names(module)
            for i, name in enumerate(names_in):
                layers.append(Layer(name, prefix + name, "InputNode", module, "input", i))
            for i, name in enumerate(names_out):
                layers.append(Layer(name, prefix + name, "OutputNode", module, "output", i))
    # Two graphs may use one node name: then only the path tells their nodes apart.
    times = Counter(layer.name for layer in layers)
    return [
        Layer(x.path or x.name, x.path, x.type, x.module, x.end, x.channel)
        if times[x.name] > 1
        else x
        for x in layers
    ]


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """``model.named_modules()`` as users think of it.

    Without the modules that hold parametrizations, whose "activations" are weights, and without
    the path segments that torch.compile and data-parallel wrappers add.
    """
    prefixes: dict[str, str] = {}
    for path, module in model.named_modules():
        parent, _, name = path.rpartition(".")
        if "parametrizations" in path.split("."):
            continue
        inside = prefixes.get(parent, "")
        wrapped = name == "_orig_mod" or (
            name == "module" and _is_parallel_wrapper(model.get_submodule(parent))
        )
        prefixes[path] = inside if wrapped else f"{inside}.{name}".lstrip(".")
        yield prefixes[path], module


def _is_parallel_wrapper(module: nn.Module) -> bool:
    return isinstance(module, (DataParallel, DistributedDataParallel))


def select_layers(
    model: nn.Module, layers: LayerSpec | Iterable[LayerSpec] | None = None
) -> list[Layer]:
    """The layers that a user asks for, in the order of the model.

    Arguments:
        model: Where to look.
        layers: ``None`` for the leaf modules, and for FrEIA graphs their nodes and ends; or one
            or several of: a glob pattern on names or paths, a module, a class of modules, a
            predicate ``f(name, module)``.

    Raises:
        TypeError: Something that is none of these.
        ValueError: Something that matches no layer.
    """
    everything = all_layers(model)
    if layers is None:
        wanted = {(id(module), end) for module, end in _default(model)}
        return [layer for layer in everything if (id(layer.module), layer.end) in wanted]
    specs = [layers] if isinstance(layers, (str, nn.Module)) or callable(layers) else list(layers)
    matches = [_matching(spec, everything) for spec in specs]
    chosen = {layer for match in matches for layer in match}
    return [layer for layer in everything if layer in chosen]


def _default(module: nn.Module) -> Iterator[tuple[nn.Module, str | None]]:
    children = [m for name, m in module.named_children() if name != "parametrizations"]
    if freia.is_graph(module):
        yield module, "input"
        for node in module.module_list:  # type: ignore[union-attr]
            yield node, None
        yield module, "output"
    elif freia.is_invertible(module) or not children:
        if not isinstance(module, _NEVER_CALLED):
            yield module, None
    else:
        for child in children:
            yield from _default(child)


_NEVER_CALLED = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def _matching(spec: Any, layers: list[Layer]) -> list[Layer]:
    if isinstance(spec, str):
        found = [
            x
            for x in layers
            if fnmatch.fnmatchcase(x.name, spec) or fnmatch.fnmatchcase(x.path, spec)
        ]
    elif isinstance(spec, nn.Module):
        found = [x for x in layers if x.module is spec and x.end is None]
    elif isinstance(spec, type):
        found = [x for x in layers if isinstance(x.module, spec) and x.end is None]
    elif callable(spec):
        found = [x for x in layers if spec(x.name, x.module)]
    else:
        raise TypeError(
            "layers: expected a pattern, a module, a class or a predicate f(name, module), got "
            f"{spec!r} of type {type(spec).__name__}."
        )
    if not found:
        names = [x.name for x in layers]
        what = repr(spec) if isinstance(spec, (str, type)) else f"this {type(spec).__name__}"
        near = difflib.get_close_matches(spec, names) if isinstance(spec, str) else []
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"layers: {what} matches none of the model's {len(names)} layers. {hint}"
            f"There are: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}."
        )
    return found


class Sink(Protocol):
    """Who is told what passes through a model."""

    def start(self, inputs: list[Tensor]) -> None:
        """A pass begins with these tensors."""

    def enter(self, layer: Layer, inputs: list[Tensor]) -> Any:
        """A layer is about to be called; what is returned comes back at its exit."""

    def exit(
        self, layer: Layer, direction: str, call: int, entered: Any, outputs: list[Tensor]
    ) -> None:
        """A layer has returned; ``call`` numbers its calls in this pass and direction."""


class _Frame(NamedTuple):
    """One running call of a hooked module."""

    module: nn.Module
    direction: str
    call: int
    entered: Any


class ModuleTap:
    """Hooks on a model that tell a sink what goes in and out of its layers, and which way.

    The direction of a call is that of the innermost enclosing call which states one; FrEIA's
    invertible modules do (``rev``), the subnets inside them inherit it. A pass lasts from the
    outermost call of a hooked module until it returns.
    """

    def __init__(self, model: nn.Module, layers: list[Layer], sink: Sink) -> None:
        self._model = model
        self._sink = sink
        self._layers = {layer.module: layer for layer in layers if layer.end is None}
        self._ends: dict[tuple[nn.Module, str | None], list[Layer]] = {}
        for layer in layers:
            if layer.end is not None:
                self._ends.setdefault((layer.module, layer.end), []).append(layer)
        self._stack: list[_Frame] = []
        self._calls: Counter[tuple[Layer, str]] = Counter()
        self._handles: list[RemovableHandle] = []
        directed = [module for module in model.modules() if freia.is_invertible(module)]
        try:
            for module in dict.fromkeys([model, *self._layers, *directed]):
                before, after = _Hook(self._before), _Hook(self._after)
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                # Called also after an exception, which the model itself may catch.
                self._handles.append(
                    module.register_forward_hook(after, with_kwargs=True, always_call=True)
                )
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Takes every hook off the model again."""
        while self._handles:
            self._handles.pop().remove()

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the model."""
        return bool(self._handles)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        invertible = freia.is_invertible(module)
        if invertible:
            inputs = freia.tensors(freia.inputs(args, kwargs))
            direction = freia.direction(module, args, kwargs)
        else:
            inputs = first_tensor((args, kwargs))
            direction = self._stack[-1].direction if self._stack else "forward"
        if module is self._model:
            # A KeyboardInterrupt in an earlier pass may have left calls behind.
            self._stack.clear()
        if not self._stack:
            self._calls.clear()
            self._sink.start(inputs)
        self._pass_ends(module, "input" if direction == "forward" else "output", direction, inputs)
        call, entered = 0, None
        layer = self._layers.get(module)
        if layer is not None:
            call = self._count_call(layer, direction)
            entered = self._sink.enter(layer, inputs)
        self._stack.append(_Frame(module, direction, call, entered))

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        frame = self._pop(module)
        if frame is None or output is None:  # None: the call raised
            return
        if freia.is_invertible(module):
            outputs = freia.tensors(freia.outputs(module, frame.direction, output))
        else:
            outputs = first_tensor(output)
        layer = self._layers.get(module)
        if layer is not None:
            self._sink.exit(layer, frame.direction, frame.call, frame.entered, outputs)
        end = "output" if frame.direction == "forward" else "input"
        self._pass_ends(module, end, frame.direction, outputs)

    def _pass_ends(
        self, graph: nn.Module, end: str, direction: str, tensors: list[Tensor]
    ) -> None:
        """A graph's ends hand on unchanged what they are given."""
        for layer in self._ends.get((graph, end), []):
            tensor = [tensors[layer.channel]]
            call = self._count_call(layer, direction)
            self._sink.exit(layer, direction, call, self._sink.enter(layer, tensor), tensor)

    def _count_call(self, layer: Layer, direction: str) -> int:
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


def first_tensor(value: Any) -> list[Tensor]:
    """The first tensor in nested tuples, lists and mappings, as a list of at most one."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            if found := first_tensor(item):
                return found
    return []
