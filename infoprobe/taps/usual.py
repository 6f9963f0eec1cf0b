"""Which parts of a model are its layers, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch import nn

from infoprobe.libraries.adapter import Graph, Library
from infoprobe.libraries.distributions import is_distribution, named_transforms
from infoprobe.libraries.wrappers import is_wrapper
from infoprobe.torch_internals import QUANTIZED_WEIGHTS

# The two ends of a graph.
End = Literal["input", "output"]

# Children that hold a module's weights, and what quantised modules call theirs.
_WEIGHTS = ("parametrizations", *QUANTIZED_WEIGHTS)
_NEVER_CALLED = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def usual_transforms(model: Any) -> Iterator[Any]:
    """The parts of a transform or a distribution that have no parts themselves."""
    return (one for _, one, has_parts in named_transforms(model) if not has_parts)


class UsualLayers:
    """Finds the layers of a tree of modules.

    They are the leaf modules; for graphs their nodes and ends; for flows their maps.

    Arguments:
        libraries: The adapter of each module in the tree.
        graphs: The modules in the tree that are graphs.
    """

    def __init__(
        self, libraries: Mapping[nn.Module, Library], graphs: Mapping[nn.Module, Graph]
    ) -> None:
        self._libraries = libraries
        self._graphs = graphs

    def of(self, module: nn.Module, whole: bool = True) -> Iterator[tuple[nn.Module, End | None]]:
        """The layers in a module, and for the ends of a graph, which end.

        Arguments:
            module: Where to look.
            whole: Whether this is the whole model.
        """
        children = [m for name, m in module.named_children() if name not in _WEIGHTS]
        graph = self._graphs.get(module)
        if graph is not None:
            yield module, "input"
            for node in graph.nodes:
                yield node, None
            yield module, "output"
        elif self._is_one_layer(module, whole) or not any(map(_is_ever_called, children)):
            if not isinstance(module, _NEVER_CALLED):
                yield module, None
        else:
            flow = is_distribution(module) and self._has_links(module)
            for child in children:
                if not (flow and self._is_base(child)):
                    yield from self.of(child, whole and is_wrapper(module))

    def _is_one_layer(self, module: nn.Module, whole: bool) -> bool:
        """Whether a module with parts is one layer.

        So are maps, unless they hold lists of maps. A whole model is one only if it holds none.
        """
        single = self._is_one_link(module) and not (
            whole and any(map(self._has_links, module.children()))
        )
        # Attention uses the weights of its output projection without calling it.
        attention = isinstance(module, nn.MultiheadAttention)
        return single or attention or self._libraries[module].is_layer(module)

    def _is_one_link(self, module: nn.Module) -> bool:
        """Whether a map holds no list of others; what it holds one by one are its details."""
        inner = [child for child in module.children() if self._has_links(child)]
        return self._is_link(module) and all(map(self._is_one_link, inner))

    def _has_links(self, module: nn.Module) -> bool:
        return any(map(self._is_link, module.modules()))

    def _is_link(self, module: nn.Module) -> bool:
        return self._libraries[module].is_link(module)

    def _is_base(self, module: nn.Module) -> bool:
        """Whether a part of a flow is not one of its layers but what samples are drawn from.

        That is a distribution that has no maps, or something around it that does nothing.
        """
        if isinstance(module, nn.ModuleList):
            return all(map(self._is_base, module))
        if isinstance(module, nn.Identity):
            return True
        return is_distribution(module) and not self._has_links(module)


def _is_ever_called(module: nn.Module) -> bool:
    """Whether a module is called: lists are not, unless they hold something that is."""
    return not isinstance(module, _NEVER_CALLED) or any(map(_is_ever_called, module.children()))
