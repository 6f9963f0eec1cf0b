"""Layers of a model, how users name them, and how they choose among them."""

from __future__ import annotations

import difflib
import fnmatch
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries import freia
from infoprobe.taps.transform_hooks import (
    is_lazy_distribution,
    is_lazy_transform,
    is_made_of_transforms,
    named_transforms,
)

LayerSpec = str | nn.Module | type | Callable[[str, nn.Module], bool]

# The name of the whole model, which no path can equal.
MODEL = "(model)"


@dataclass(frozen=True, eq=False)  # transforms have no hash
class Layer:
    """A place in a model where tensors can be caught.

    Attributes:
        name: What the user calls it: the path of a module, which begins anew at the name of a
            FrEIA node (``conv1``, ``conv1.subnet1.0``); ``(model)`` for the model itself.
        path: The path of the module, as :meth:`torch.nn.Module.named_modules` gives it, without
            the segments that wrappers add.
        type: The class of the module, or ``InputNode`` / ``OutputNode`` for a graph's ends.
        module: The module or transform; for a graph's ends, the graph.
        end: For a graph's ends, which one.
        channel: For a graph's ends, which of several inputs or outputs.
    """

    name: str
    path: str
    type: str
    module: Any
    end: Literal["input", "output"] | None = None
    channel: int = 0


def all_layers(model: Any) -> list[Layer]:
    """Every layer of a model: its modules or transforms, and the ends of its FrEIA graphs."""
    if not isinstance(model, nn.Module):
        return [
            Layer(path or MODEL, path, type(one).__name__, one)
            for path, one, _ in named_transforms(model)
        ]
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


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without the wrappers of torch.compile and data parallelism."""
    while _is_wrapper(module):
        (module,) = module.children()
    return module


def select_layers(
    model: Any, layers: LayerSpec | Iterable[LayerSpec] | None = None
) -> list[Layer]:
    """The layers that a user asks for, in the order of the model.

    Arguments:
        model: Where to look.
        layers: ``None`` for the leaf modules, for FrEIA graphs their nodes and ends, and for
            normalizing flows their maps; or one or several of: a glob pattern on names or paths,
            a module, a class of modules, a predicate ``f(name, module)``. A pattern chooses among
            the layers that ``None`` stands for, or, where it matches none of them, among all
            modules.

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
        raise ArgumentValueError(
            "layers", "expected at least one, got none. Pass None for the usual ones."
        )
    chosen = {layer for spec in specs for layer in _matching(spec, usual, everything)}
    return [layer for layer in everything if layer in chosen]


# Children that hold a module's weights, and what quantised modules call theirs.
_WEIGHTS = ("parametrizations", "_packed_params", "_all_weight_values")
_NEVER_CALLED = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def _default(module: Any, whole: bool = True) -> Iterator[tuple[Any, str | None]]:
    if not isinstance(module, nn.Module):
        for _, one, has_parts in named_transforms(module):
            if not has_parts:
                yield one, None
        return
    children = [m for name, m in module.named_children() if name not in _WEIGHTS]
    if freia.is_graph(module):
        yield module, "input"
        for node in module.module_list:  # type: ignore[union-attr]
            yield node, None
        yield module, "output"
    elif _is_unit(module, whole) or not any(map(_is_ever_called, children)):
        if not isinstance(module, _NEVER_CALLED):
            yield module, None
    else:
        flow = _is_distribution(module) and _has_maps(module)
        for child in children:
            if not (flow and _is_base(child)):
                yield from _default(child, whole and _is_wrapper(module))


def _is_ever_called(module: nn.Module) -> bool:
    """Not so for lists, unless they hold what is."""
    return not isinstance(module, _NEVER_CALLED) or any(map(_is_ever_called, module.children()))


def has_inverse(module: nn.Module) -> bool:
    """Whether a module has a method ``inverse``; FrEIA's say it in another way."""
    return callable(getattr(type(module), "inverse", None)) and not freia.is_invertible(module)


def _is_map(module: nn.Module) -> bool:
    return has_inverse(module) or is_lazy_transform(module)


def _has_maps(module: nn.Module) -> bool:
    return any(map(_is_map, module.modules()))


def _is_one_map(module: nn.Module) -> bool:
    """Whether this is a map that holds no list of others; what it holds one by one are details."""
    inner = [child for child in module.children() if _has_maps(child)]
    return _is_map(module) and all(map(_is_one_map, inner))


def _is_distribution(module: nn.Module) -> bool:
    methods = [getattr(type(module), name, None) for name in ("log_prob", "sample")]
    return all(map(callable, methods)) or is_lazy_distribution(module)


def _is_base(module: nn.Module) -> bool:
    """Whether a part of a flow is none of its layers: a distribution, or a net that is none."""
    if isinstance(module, nn.ModuleList):
        return all(map(_is_base, module))
    if isinstance(module, nn.Identity):
        return True
    return _is_distribution(module) and not _has_maps(module)


def _is_unit(module: nn.Module, whole: bool) -> bool:
    """Whether a module with parts is one layer.

    Attention, FrEIA's modules but for graphs, and maps; a whole model only if no map is in it.
    """
    invertible = freia.is_invertible(module) and not any(map(freia.is_graph, module.modules()))
    single = _is_one_map(module) and not (whole and any(map(_has_maps, module.children())))
    # Attention uses the weights of its output projection without calling it.
    return invertible or single or isinstance(module, nn.MultiheadAttention)


def _matching(spec: Any, usual: list[Layer], everything: list[Layer]) -> list[Layer]:
    modules = [layer for layer in everything if layer.end is None]
    if isinstance(spec, str):
        found = _like(spec, usual) or _like(spec, everything)
    elif isinstance(spec, nn.Module):
        found = [layer for layer in modules if layer.module is unwrapped(spec)]
    elif is_made_of_transforms(spec):
        found = [layer for layer in modules if layer.module is spec]
    elif isinstance(spec, type):
        found = [layer for layer in modules if isinstance(layer.module, spec)]
    elif callable(spec):
        found = [layer for layer in everything if spec(layer.name, layer.module)]
    else:
        raise ArgumentTypeError(
            "layers",
            "expected a pattern, a module, a class or a predicate f(name, module), got "
            f"{spec!r} of type {type(spec).__name__}.",
        )
    if not found:
        names = [layer.name for layer in everything]
        what = repr(spec) if isinstance(spec, (str, type)) else f"this {type(spec).__name__}"
        near = difflib.get_close_matches(spec, names) if isinstance(spec, str) else []
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ArgumentValueError(
            "layers",
            f"{what} matches none of the model's {len(names)} layers. {hint}"
            f"There are: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}.",
        )
    return found


def _like(pattern: str, layers: list[Layer]) -> list[Layer]:
    match = functools.partial(fnmatch.fnmatchcase, pat=pattern)
    return [layer for layer in layers if match(layer.name) or (layer.path and match(layer.path))]
