"""The adapter for FrEIA.

An invertible module is called as ``module((x, ...), c=(...), rev=..., jac=...)`` and returns
``((z, ...), log_det)``; ``rev=True`` runs it backwards. A ``GraphINN`` or ``SequenceINN`` is such
a module that is made of others.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from infoprobe.directions import Direction
from infoprobe.libraries.adapter import Conditions, Graph, Library, Part, Tensors, as_tensors
from infoprobe.libraries.log_determinants import LogDeterminant

# Modules that are known to report a wrong log-determinant, and what they report.
_KNOWN_WRONG = {
    "InvAutoConv2D": "reports 0, whatever it does",
    "InvAutoFC": "reports 0, whatever it does",
    "LearnedElementwiseScaling": "reports the wrong sign in reverse",
}


# From how many nats on it matters that a matrix is not orthogonal.
_NEGLIGIBLE = 1e-3


class Freia(Library):
    """Knows the invertible modules and graphs of FrEIA."""

    def recognises(self, module: object) -> bool:
        """Whether an object is an invertible module; graphs are, too."""
        return _is(module, "FrEIA.modules", "InvertibleModule")

    def run(
        self,
        module: Any,
        xs: Tensors,
        conditions: Conditions,
        *,
        rev: bool,
        log_determinant: bool,
    ) -> tuple[Any, Any]:
        """Runs a module with ``rev``."""
        given: Any = xs[0] if _is_graph(module) and len(xs) == 1 else xs
        c = {"c": conditions} if conditions else {}
        # Without its log-determinant an InvertibleSigmoid breaks the graph that it is in.
        jac = log_determinant or any(
            _is(part, "FrEIA.modules", "InvertibleSigmoid") for part in module.modules()
        )
        output = module(given, **c, rev=rev, jac=jac)
        return output[0], output[1]

    def known_wrong(self, module: Any, rev: bool) -> str:
        """Names the modules whose log-determinants disagree with autograd in FrEIA 0.2."""
        for name, what in _KNOWN_WRONG.items():
            if _is(module, "FrEIA.modules", name):
                return f"{name} {what}" if rev or name != "LearnedElementwiseScaling" else ""
        return ""

    def may_be_wrong(self, module: Any) -> bool:
        """Whether this is an ``OrthogonalTransform``, which is orthogonal now and then only."""
        return _is(module, "FrEIA.modules", "OrthogonalTransform")

    def wrong_now(self, module: Any) -> str:
        """Says so if the matrix of an ``OrthogonalTransform`` has a determinant of its own."""
        if not self.may_be_wrong(module):
            return ""
        left_out = float(torch.linalg.slogdet(module.weights.detach().double()).logabsdet)
        if abs(left_out) < _NEGLIGIBLE:
            return ""
        return (
            "OrthogonalTransform leaves out its matrix, which is not orthogonal until the next "
            f"correction (log|det| = {left_out:.3g})"
        )

    def is_stochastic(self, module: Any) -> bool:
        """Whether this is an ``IResNetLayer``, which estimates a trace from random vectors."""
        return _is(module, "FrEIA.modules", "IResNetLayer")

    def parts(self, module: Any, run: Callable[[], Any]) -> dict[str, Part]:
        """The invertible modules of a graph, graphs within it excluded."""
        if not _is_graph(module):
            return {}
        caught: dict[nn.Module, Part] = {}

        def catch(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            xs = self.inputs(part, args, kwargs)
            if xs is not None:
                conditions = kwargs.get("c")
                caught[part] = Part(
                    part,
                    tuple(x.detach().clone() for x in xs),
                    () if conditions is None else tuple(conditions),
                )

        paths = {
            part: path
            for path, part in module.named_modules()
            if self.recognises(part) and not _is_graph(part)
        }
        handles = [part.register_forward_pre_hook(catch, with_kwargs=True) for part in paths]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
        names = {**paths, **_node_names(module)}
        return {names[part]: found for part, found in caught.items()}

    def is_link(self, module: nn.Module) -> bool:
        """Graphs, not lists of maps, say what the layers are."""
        return False

    def is_layer(self, module: nn.Module) -> bool:
        """A module is one layer unless there is a graph in it."""
        return not any(map(_is_graph, module.modules()))

    def graph(self, module: nn.Module) -> Graph | None:
        """The nodes and ends of a GraphINN, a SequenceINN or one of their old aliases."""
        if not _is_graph(module):
            return None
        nodes: dict[nn.Module, str | None] = dict.fromkeys(module.module_list)  # type: ignore
        return Graph(
            {**nodes, **_node_names(module)},
            _end_names(getattr(module, "in_nodes", [None]), "input"),
            _end_names(getattr(module, "out_nodes", [None]), "output"),
        )

    def direction(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Direction:
        """The direction that ``rev`` says."""
        return "inverse" if _argument("rev", False, module, args, kwargs) else "forward"

    def inputs(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[Tensor] | None:
        """The first argument; ``None`` if a user's subclass takes something else."""
        return as_tensors(args[0] if args else kwargs.get("x_or_z", kwargs.get("x")))

    def is_conditional(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Whether the argument ``c`` holds any conditions."""
        c = _argument("c", None, module, args, kwargs)
        return isinstance(c, Tensor) or bool(c)

    def outputs(self, module: nn.Module, direction: Direction, output: Any) -> list[Tensor] | None:
        """The first of two; ``None`` if a user's subclass returns something else."""
        if not (isinstance(output, tuple) and len(output) == 2):
            return None
        values = output[0]
        if isinstance(values, dict):  # intermediate_outputs=True: by (node, channel)
            ends: Any = module.out_nodes if direction == "forward" else module.in_nodes
            values = tuple(values.get((node, 0)) for node in ends)
        return as_tensors(values)

    def reported(
        self,
        module: nn.Module,
        direction: Direction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
    ) -> LogDeterminant:
        """The second of two, which stands for nothing in a call with ``jac=False``."""
        if not _argument("jac", True, module, args, kwargs):
            return LogDeterminant(
                None, "it ran with jac=False. Call it, or the graph, with jac=True."
            )
        return LogDeterminant(
            output[1] if isinstance(output, tuple) and len(output) == 2 else None
        )

    def with_log_determinant(
        self, kwargs: dict[str, Any], caller: object
    ) -> dict[str, Any] | None:
        """Asks a node of a graph with ``jac=True``: the graph uses only what it asked for."""
        if kwargs.get("jac") is False and _is(caller, "FrEIA.framework", "GraphINN"):
            return {**kwargs, "jac": True}
        return None


def _is(module: object, package: str, name: str) -> bool:
    """Whether an object is of a class of FrEIA's, which only the user imports."""
    found = sys.modules.get(package)
    return found is not None and isinstance(module, getattr(found, name))


def _is_graph(module: object) -> bool:
    """Whether this is a network of modules, such as a GraphINN or a SequenceINN."""
    return _is(module, "FrEIA.framework", "GraphINN") or _is(
        module, "FrEIA.framework", "SequenceINN"
    )


def _node_names(graph: Any) -> dict[nn.Module, str]:
    """The names that the user gave to the nodes of a graph."""
    return {
        node.module: node.name
        for node in getattr(graph, "node_list", [])
        if node.module is not None and _is_named(node)
    }


def _end_names(nodes: list[Any], default: str) -> list[str]:
    """The names of inputs or outputs: the user's, or the default one, numbered if need be."""
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


def _argument(
    name: str,
    default: bool | None,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """An argument of a call, whose position differs between FrEIA's modules."""
    if name in kwargs or len(args) < 2:
        return kwargs.get(name, default)
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    except TypeError:  # the call itself is about to raise it, and says it better
        return default
    return bound.arguments.get(name, default)
