"""The roles that tensors play for a layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeAlias

from infoprobe import checks
from infoprobe.errors import ArgumentValueError

Role: TypeAlias = str
"""One of :data:`ROLES`, or what :func:`role_of` gives for the name of a layer."""

# What a role stands for, as a reader is told.
ROLES: dict[Role, str] = {
    "output": "the output",
    "previous": "the layer's input",
    "input": "the model's input",
    "target": "the target",
    "layer": "what the layer reports",
    # The layer's input, where it is not the output of the layer that was measured before.
    "unmeasured": "the layer's input",
}

_OUTPUT_OF = "output of "


def require_reference(value: Any, roles: Iterable[Role]) -> None:
    """Raises a ValueError unless a measure can refer to this.

    Arguments:
        value: One of the roles, or the name of a layer, which is looked up by ``ip.probe``.
        roles: The roles that it may be.
    """
    if not isinstance(value, str) or not value or value in ROLES:
        checks.require_one_of(value, roles, "reference")


def role_of(reference: str) -> Role:
    """The role of what a measure refers to: itself, or that of the output of another layer."""
    return reference if reference in ROLES else f"{_OUTPUT_OF}{reference}"


def layer_of(role: Role) -> str | None:
    """The layer whose output has this role at other layers; ``None`` for any other role."""
    return role.removeprefix(_OUTPUT_OF) if role.startswith(_OUTPUT_OF) else None


def described(role: Role) -> str:
    """What a role stands for, as a reader is told."""
    return ROLES.get(role, f"the {role}")


def require_layers(roles: Iterable[Role], layers: Iterable[str]) -> None:
    """Raises a ValueError unless the layers that measures refer to are among those probed."""
    there = list(layers)
    for role in roles:
        layer = layer_of(role)
        if layer is not None and layer not in there:
            close = difflib.get_close_matches(layer, there)
            near = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
            raise ArgumentValueError(
                "reference",
                f"expected 'input', 'previous', 'target' or a layer that is probed, got "
                f"{layer!r}. {near}There are: {', '.join(there[:40])}"
                f"{', ...' if len(there) > 40 else ''}.",
            )
