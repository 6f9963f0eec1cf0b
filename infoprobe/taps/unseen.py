"""What cannot be probed, since no hook sees its calls: it is refused by name, with a way out."""

from __future__ import annotations

import sys

import torch
from torch import fx, nn

from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries.distributions import is_made_of_transforms

_OPERATION = type(torch.ops.aten.relu.default)


def require_model(model: object) -> None:
    """Raises a TypeError unless this is a module, a transform, or a distribution made of these."""
    if isinstance(model, nn.Module) or is_made_of_transforms(model):
        return
    # Looked up where torch keeps it, since importing it takes time.
    program = getattr(sys.modules.get("torch.export"), "ExportedProgram", None)
    if program is not None and isinstance(model, program):
        way_out = (
            "It runs as one graph and calls no layers. Probe the module that it was made of, or "
            "torch.export.unflatten(program)."
        )
    else:
        way_out = (
            "Transforms of torch.distributions and distributions that are made of them will do as "
            "well."
        )
    raise ArgumentTypeError(
        "model", f"expected a torch.nn.Module, got {type(model).__name__}. {way_out}"
    )


def held_by_exported(model: nn.Module) -> set[nn.Module]:
    """The modules inside those that ``torch.export`` made, which hold parameters and never run."""
    exported = [module for module in model.modules() if _is_exported(module)]
    return {inner for module in exported for inner in module.modules()} - set(exported)


def require_hookable(module: nn.Module, name: str) -> None:
    """Raises a TypeError if a module takes no hooks."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ArgumentTypeError(
            "layers",
            f"{name!r} is a ScriptModule, which takes no hooks. Probe the module that it was made "
            "of, or choose other layers.",
        )


def require_called(module: nn.Module, name: str, never_called: set[nn.Module]) -> None:
    """Raises a TypeError if a layer is among those that never run."""
    if module in never_called:
        raise ArgumentTypeError(
            "layers",
            f"{name!r} is part of a module that torch.export made, which runs as one graph and "
            "calls no layers. Probe the module that it was made of, or "
            "torch.export.unflatten(program), or the exported module as a whole.",
        )


def _is_exported(module: nn.Module) -> bool:
    """Whether a module is a graph of torch's operations, as ``ExportedProgram.module()`` is."""
    return isinstance(module, fx.GraphModule) and any(
        isinstance(node.target, _OPERATION) for node in module.graph.nodes
    )
