"""The layers of a model, how users name them, and how they choose among them."""

from __future__ import annotations

import difflib
import fnmatch
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.adapter import Graph, Library
from infoprobe.libraries.distributions import is_made_of_transforms, named_transforms
from infoprobe.libraries.lookup import library_of
from infoprobe.libraries.wrappers import class_name, is_wrapper, unwrapped
from infoprobe.taps.sink import Place
from infoprobe.taps.usual import End, UsualLayers, usual_transforms

LayerSpec = str | nn.Module | type | Callable[[str, nn.Module], bool]

# The name of the whole model, which no path can equal.
MODEL = "(model)"


def listed(layers: LayerSpec | Iterable[LayerSpec] | None) -> list[Any] | None:
    """What a user asks for, one or several, as a list; ``None``, the usual layers, as it is."""
    if layers is None:
        return None
    several = isinstance(layers, Iterable) and not isinstance(layers, (str, nn.Module, type))
    return list(checks.items(layers)) if several else [layers]


@dataclass(frozen=True, eq=False)  # transforms have no hash
class Layer:
    """A place in a model where tensors can be caught.

    Attributes:
        name: The user's name of it: the path of a module, which begins anew at the name of a
            graph's node (``conv1``, ``conv1.subnet1.0``); ``(model)`` for the model itself.
        path: The path of the module, as :meth:`torch.nn.Module.named_modules` gives it, without
            the segments that wrappers add.
        type: The class of the module, or ``InputNode`` / ``OutputNode`` for a graph's ends.
        module: The module or transform; for a graph's ends, the graph.
        library: The adapter that knows the module.
        end: Which end of a graph it is, if it is one.
        channel: For a graph's ends, which of several inputs or outputs it is, from 0.
    """

    name: str
    path: str
    type: str
    module: Any
    library: Library
    end: End | None = None
    channel: int = 0

    @property
    def prefix(self) -> str:
        """Where the names of all inside it begin; empty for the model itself."""
        return "" if self.name == MODEL else self.name


class Layout:
    """The layers of a model, enumerated once, and those that were chosen among them.

    Attributes:
        model: The model.
        layers: All layers, in the order of the model.
        chosen: The chosen layers, in the same order.
    """

    def __init__(self, model: Any, layers: Sequence[Layer], chosen: Sequence[Layer]) -> None:
        self.model = model
        self.layers = layers
        self.chosen = chosen
        self._chosen = frozenset(chosen)

    @classmethod
    def of(cls, model: Any) -> Layout:
        """All layers of a module, a transform or a distribution; chosen are the usual ones.

        These are the leaf modules; for FrEIA graphs their nodes and ends; for normalizing flows
        their maps; for transforms the parts.
        """
        if not isinstance(model, nn.Module):
            layers = [
                Layer(path or MODEL, path, type(one).__name__, one, library_of(one))
                for path, one, _ in named_transforms(model)
            ]
            usual = {id(one) for one in usual_transforms(model)}
            return cls(model, layers, [layer for layer in layers if id(layer.module) in usual])
        libraries = {module: library_of(module) for module in model.modules()}
        graphs = {
            module: graph
            for module, library in libraries.items()
            if (graph := library.graph(module)) is not None
        }
        layers = _layers_of_modules(model, libraries, graphs)
        ends = set(UsualLayers(libraries, graphs).of(model))
        return cls(model, layers, [layer for layer in layers if (layer.module, layer.end) in ends])

    def select(self, layers: LayerSpec | Iterable[LayerSpec] | None = None) -> Layout:
        """The same layers, of which those that a user asks for are chosen.

        Arguments:
            layers: ``None`` for the layers that are chosen already; or one or several of: a glob
                pattern on names or paths, a module, a class of modules, a predicate
                ``f(name, module)``. A pattern chooses among the layers that ``None`` stands for,
                or, where it matches none of them, among all modules.

        Raises:
            TypeError: One of them is something else.
            ValueError: One of them matches no layer.
        """
        specs = listed(layers)
        if specs is None:
            return self
        if not specs:
            raise ArgumentValueError(
                "layers", "expected at least one, got none. Pass None for the usual ones."
            )
        found = {layer for spec in specs for layer in _matching(spec, self.chosen, self.layers)}
        return Layout(self.model, self.layers, [layer for layer in self.layers if layer in found])

    def place(self, layer: Layer) -> Place | None:
        """Where the tensors of a layer are reported; ``None`` if it was not chosen."""
        return Place(layer.name, layer.type) if layer in self._chosen else None

    def is_chosen(self, layer: Layer) -> bool:
        """Whether a layer was chosen."""
        return layer in self._chosen


def _layers_of_modules(
    model: nn.Module,
    libraries: dict[nn.Module, Library],
    graphs: dict[nn.Module, Graph],
) -> list[Layer]:
    """The modules of a model and the ends of its graphs, in the order of the model."""
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
        library = libraries[module]
        layer = Layer(short[path] or MODEL, path, class_name(module), module, library)
        layers.append((full[path] or MODEL, layer))
        graph = graphs.get(module)
        if graph is None:
            continue
        for node, name in graph.nodes.items():
            if name is not None:
                nodes[node] = name, _join(full[path], name)
        ends: list[tuple[End, str, list[str]]] = [
            ("input", "InputNode", graph.inputs),
            ("output", "OutputNode", graph.outputs),
        ]
        for end, kind, names in ends:
            for i, name in enumerate(names):
                layer = Layer(name, _join(path, name), kind, module, library, end, i)
                layers.append((_join(full[path], name), layer))
    distinct = _distinct(
        # What users say, what tells two graphs' nodes apart, and what is always different.
        [
            (x.name, name, x.path or MODEL, f"{x.path}#{x.channel}" if x.end else x.path or MODEL)
            for name, x in layers
        ]
    )
    return [replace(x, name=name) for name, (_, x) in zip(distinct, layers, strict=True)]


def _distinct(choices: list[tuple[str, ...]]) -> list[str]:
    """The first name of each, or the next one where several would have the same."""
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
        if is_wrapper(module):
            wrappers.add(path)
        else:
            yield paths[path], module


def _matching(spec: Any, usual: Sequence[Layer], everything: Sequence[Layer]) -> list[Layer]:
    """The layers that one of the user's wishes means."""
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
            f"{checks.typed(spec)}.",
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


def _like(pattern: str, layers: Sequence[Layer]) -> list[Layer]:
    match = functools.partial(fnmatch.fnmatchcase, pat=pattern)
    return [layer for layer in layers if match(layer.name) or (layer.path and match(layer.path))]
