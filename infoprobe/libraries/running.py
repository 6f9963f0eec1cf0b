"""How libraries of invertible networks are run both ways, and what they claim of volumes.

A map is a FrEIA module or graph, a transform or flow of nflows or normflows, or another module
with ``inverse``; a transform of torch.distributions or zuko, or what makes one; or any function
of a tensor. None of these libraries is imported here: unless somebody else has, there is nothing
of theirs to recognise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries import freia
from infoprobe.libraries.log_determinants import per_sample

Tensors = tuple[Tensor, ...]


def run(
    module: Any, xs: Tensors, c: tuple[Any, ...], *, rev: bool, claim: bool = True
) -> tuple[Tensors, Tensor | None]:
    """Runs a map.

    Arguments:
        module: The map.
        xs: What goes in, each (n, ...).
        c: Conditions, as the map takes them.
        rev: Whether to run its inverse.
        claim: Whether its log-determinant is wanted.

    Returns:
        What comes out, and what the map says of log|det J|: (n,) float64, or ``None`` if it says
        nothing.

    Raises:
        TypeError: It is no map, has no inverse, or gives something else than tensors.
        ValueError: The log-determinant is not one number a sample.
    """
    module = unwrapped(module)
    if isinstance(module, nn.Module) and freia.is_invertible(module):
        return _run_freia(module, xs, c, rev, claim)
    transform = _transform(module, c)
    if transform is not None:
        return _run_transform(transform, _only(xs, module), rev, claim)
    function, c = _flow(module, c, rev)
    # Of a map with an inverse, a pair is (z, log_det).
    pair = invertible(module)
    try:
        output = function(*xs, *c)
    except NotImplementedError as error:
        if not rev:
            raise
        raise _no_inverse(module) from error
    if pair and isinstance(output, (tuple, list)) and len(output) == 2:
        values, claimed = output
        return _tensors(values, module), _claimed(claimed, xs[0]) if claim else None
    if isinstance(output, Tensor):
        return (output,), None
    raise ArgumentTypeError(
        "module",
        f"expected a map that returns a tensor, got {_kind(output)} from {_kind(module)}. "
        "Pass a function that picks the output: lambda x: module(x)[0].",
    )


def unwrapped(module: Any) -> Any:
    """The module itself, of one that torch.compile or data parallelism wrapped."""
    while isinstance(module, nn.Module):
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(
            module, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = module.module
        if inner is None:
            break
        module = inner
    return module


def invertible(module: Any) -> bool:
    """Whether a map can be run backwards, as far as its methods tell."""
    module = unwrapped(module)
    if isinstance(module, torch.distributions.Transform) or _is_zuko(module):
        return True
    if not isinstance(module, nn.Module):
        return False
    return (
        freia.is_invertible(module)
        or _is_nflows(module)
        or callable(getattr(module, "inverse", None))
        or callable(getattr(module, "inverse_and_log_det", None))
    )


def inputs_of_parts(graph: Any, run: Callable[[], Any]) -> dict[str, tuple[Any, Tensors, Any]]:
    """What goes into the invertible modules that a FrEIA graph is made of, in a run forward.

    Returns:
        By the names of the modules: the module, its inputs and its conditions.
    """
    graph = unwrapped(graph)
    if not (isinstance(graph, nn.Module) and freia.is_graph(graph)):
        return {}
    caught: dict[nn.Module, tuple[Tensors, Any]] = {}

    def catch(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        xs = freia.inputs(args, kwargs)
        if xs is not None:
            caught[part] = tuple(x.detach().clone() for x in xs), kwargs.get("c")

    paths = {
        part: path
        for path, part in graph.named_modules()
        if freia.is_invertible(part) and not freia.is_graph(part)
    }
    handles = [part.register_forward_pre_hook(catch, with_kwargs=True) for part in paths]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    names = {**paths, **freia.node_names(graph)}
    return {names[part]: (part, *found) for part, found in caught.items()}


def _claimed(claimed: Any, x: Tensor) -> Tensor | None:
    return None if claimed is None else per_sample(claimed, x)


def _run_freia(
    module: nn.Module, xs: Tensors, c: tuple[Any, ...], rev: bool, claim: bool
) -> tuple[Tensors, Tensor | None]:
    conditions: dict[str, Any] = {"c": c} if c else {}
    # Without its log-determinant an InvertibleSigmoid breaks the graph that it is in.
    sigmoid: type = sys.modules["FrEIA.modules"].InvertibleSigmoid
    jac = claim or any(isinstance(part, sigmoid) for part in module.modules())
    given: Any = xs[0] if freia.is_graph(module) and len(xs) == 1 else xs
    output = module(given, **conditions, rev=rev, jac=jac)
    return _tensors(output[0], module), _claimed(output[1], xs[0]) if claim else None


def _transform(module: Any, c: tuple[Any, ...]) -> torch.distributions.Transform | None:
    """The transform that this is, or that it makes under a condition."""
    if isinstance(module, torch.distributions.Transform):
        _no_conditions(module, c)
        return module
    if not _is_zuko(module):
        return None
    made = module(*c)
    if isinstance(made, torch.distributions.Transform):
        return made
    transform: Any = getattr(made, "transform", None)
    if isinstance(transform, torch.distributions.Transform):
        return transform
    raise ArgumentTypeError(
        "module",
        f"expected a flow with a transform, got {_kind(module)}, which makes a "
        f"{_kind(made)}. Pass the transform itself.",
    )


def _run_transform(
    transform: Any, x: Tensor, rev: bool, claim: bool
) -> tuple[Tensors, Tensor | None]:
    if not transform.bijective:
        raise ArgumentValueError(
            "module",
            f"expected a bijective transform, got {_kind(transform)}, which is none: what "
            "it does to an entropy is not told by its Jacobian.",
        )
    if rev:
        transform = transform.inv
    if not claim:
        return (transform(x),), None
    if hasattr(transform, "call_and_ladj"):
        y, claimed = transform.call_and_ladj(x)
    else:
        y = transform(x)
        try:
            claimed = transform.log_abs_det_jacobian(x, y)
        except NotImplementedError:
            return (y,), None
    # What the transform does not count among its event has a log-determinant of its own.
    return (y,), per_sample(claimed.reshape(len(x), -1).sum(1), x)


def _flow(
    module: Any, c: tuple[Any, ...], rev: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What runs a module of nflows or normflows, or any other function, one way."""
    if _is_nflows(module):
        c = (module._embedding_net(*c),) if c else ()
        module = module._transform
    names = ["inverse_and_log_det", "inverse"] if rev else ["forward_and_log_det"]
    for name in names if isinstance(module, nn.Module) else []:
        method: Any = getattr(module, name, None)
        if callable(method):
            return method, c
    if not callable(module):
        raise ArgumentTypeError(
            "module", f"expected a module, a transform or a function, got {_kind(module)}."
        )
    if rev:
        raise _no_inverse(module)
    return module, c


def _no_inverse(module: Any) -> TypeError:
    return ArgumentTypeError(
        "module",
        f"expected a map with an inverse to run it backwards, got {_kind(module)} without "
        "a working method 'inverse'. Pass what inverts it as the module, and rev=False.",
    )


def _is_zuko(module: Any) -> bool:
    lazy = sys.modules.get("zuko.lazy")
    return lazy is not None and isinstance(module, (lazy.LazyTransform, lazy.LazyDistribution))


def _is_nflows(module: Any) -> bool:
    flows = sys.modules.get("nflows.flows.base")
    return flows is not None and isinstance(module, flows.Flow)


def _no_conditions(module: Any, c: tuple[Any, ...]) -> None:
    if c:
        raise ArgumentTypeError(
            "c", f"expected no condition, since {_kind(module)} takes none. Leave it out."
        )


def _only(xs: Tensors, module: Any) -> Tensor:
    if len(xs) > 1:
        raise ArgumentTypeError("x", f"expected one tensor for {_kind(module)}, got {len(xs)}.")
    return xs[0]


def _tensors(values: Any, module: Any) -> Tensors:
    found = (values,) if isinstance(values, Tensor) else values
    if isinstance(found, (tuple, list)) and all(isinstance(value, Tensor) for value in found):
        return tuple(found)
    raise ArgumentTypeError(
        "module",
        f"expected tensors and a log-determinant from {_kind(module)}, got "
        f"{_kind(values)} and a log-determinant.",
    )


def _kind(value: Any) -> str:
    return type(value).__name__
