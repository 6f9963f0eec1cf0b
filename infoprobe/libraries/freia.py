"""What a tap must know of FrEIA.

An invertible module is called as ``module((x, ...), c=(...), rev=..., jac=...)`` and returns
``((z, ...), log_det)``; ``rev=True`` runs it backwards. A :class:`GraphINN` or
:class:`SequenceINN` is such a module made of others. FrEIA is not imported here: unless somebody
else has, there is no module of its to recognise.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from infoprobe.directions import Direction


def is_invertible(module: nn.Module) -> bool:
    """Whether this is one of FrEIA's invertible modules, graphs included."""
    modules = sys.modules.get("FrEIA.modules")
    return modules is not None and isinstance(module, modules.InvertibleModule)


def is_graph(module: nn.Module) -> bool:
    """Whether this is a whole network of FrEIA's: GraphINN, SequenceINN or their old aliases."""
    framework = sys.modules.get("FrEIA.framework")
    return framework is not None and isinstance(
        module, (framework.GraphINN, framework.SequenceINN)
    )


# Modules that are known to claim what is not so of their volume, and what they do.
_KNOWN = {
    "InvAutoConv2D": "claims 0, whatever it does",
    "InvAutoFC": "claims 0, whatever it does",
    "LearnedElementwiseScaling": "claims the wrong sign in reverse",
}


def known_wrong(module: Any, rev: bool) -> list[str]:
    """Which modules in a map are known to claim what is not so, and what they claim."""
    modules = sys.modules.get("FrEIA.modules")
    if modules is None or not isinstance(module, nn.Module):
        return []
    found = {
        name
        for name in _KNOWN
        if any(isinstance(part, getattr(modules, name)) for part in module.modules())
        and (rev or name != "LearnedElementwiseScaling")
    }
    return [f"{name} {_KNOWN[name]}" for name in sorted(found)]


def is_stochastic(module: nn.Module) -> bool:
    """Whether what it claims of its volume is drawn at random around the truth."""
    modules = sys.modules.get("FrEIA.modules")
    return modules is not None and any(
        isinstance(part, modules.IResNetLayer) for part in module.modules()
    )


def ignores_volumes(graph: object) -> bool:
    """Whether a call of this leaves aside what it did not ask its nodes for."""
    framework = sys.modules.get("FrEIA.framework")
    return framework is not None and isinstance(graph, framework.GraphINN)


def node_names(graph: Any) -> dict[nn.Module, str]:
    """The names that the user gave to the nodes of a graph, by the node's module."""
    return {
        node.module: node.name
        for node in getattr(graph, "node_list", [])
        if node.module is not None and _is_named(node)
    }


def end_names(graph: Any) -> tuple[list[str], list[str]]:
    """The names of a graph's inputs and of its outputs, as the user or we call them."""
    return (
        _end_names(getattr(graph, "in_nodes", [None]), "input"),
        _end_names(getattr(graph, "out_nodes", [None]), "output"),
    )


def _end_names(nodes: list[Any], default: str) -> list[str]:
    return [
        node.name
        if node is not None and _is_named(node)
        else default + (str(i) if len(nodes) > 1 else "")
        for i, node in enumerate(nodes)
    ]


def _is_named(node: Any) -> bool:
    # FrEIA's own name for an unnamed node is the end of its address, another one in every run.
    # A copied graph keeps the old one; addresses are multiples of 16.
    return re.fullmatch("[0-9a-f]{5}0", node.name) is None


def direction(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Direction:
    """Which way a call runs an invertible module."""
    return "inverse" if _argument("rev", False, module, args, kwargs) else "forward"


def asks_for_volume(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call wants the log-determinant."""
    return bool(_argument("jac", True, module, args, kwargs))


def _argument(
    name: str,
    default: bool,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    if name in kwargs or len(args) < 2:
        return kwargs.get(name, default)
    # Its place differs between FrEIA's modules.
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    except TypeError:  # the call itself is about to raise it, and says it better
        return default
    return bound.arguments.get(name, default)


def inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
    """What goes into an invertible module's call, without conditions.

    ``None`` if the call does not follow FrEIA's protocol, as a user's subclass may choose.
    """
    return _tensors(args[0] if args else kwargs.get("x_or_z", kwargs.get("x")))


def outputs(module: Any, way: Direction, output: Any) -> list[Tensor] | None:
    """What comes out of an invertible module's call, without the log-determinant.

    ``None`` if it does not follow FrEIA's protocol.
    """
    if not (isinstance(output, tuple) and len(output) == 2):
        return None
    values = output[0]
    if isinstance(values, dict):  # intermediate_outputs=True: every node's, by (node, channel)
        ends = module.out_nodes if way == "forward" else module.in_nodes
        values = tuple(values.get((node, 0)) for node in ends)
    return _tensors(values)


def _tensors(value: Any) -> list[Tensor] | None:
    values = [value] if isinstance(value, Tensor) else value
    if isinstance(values, (tuple, list)) and all(isinstance(x, Tensor) for x in values):
        return list(values)
    return None
