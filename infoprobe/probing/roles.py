"""The roles that tensors play for a layer."""

from __future__ import annotations

from typing import Literal

Role = Literal["output", "previous", "input", "target", "layer", "unmeasured"]

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
