"""Points inside a forward pass that the user marks, where no module returns."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe.taps.calls import running


def tap(tensor: Tensor, name: str) -> Tensor:
    """Marks a tensor inside a forward pass, so that probes measure it like a layer's output.

    It is for tensors that no module returns: residual sums, attention weights,
    ``torch.relu(x)``. It does nothing if no probe is on the model that is running, nor in
    compiled code.

    Arguments:
        tensor: Any tensor.
        name: The name of the point in the report, which follows the name of the module in whose
            forward it stands (``blocks.3.residual``).

    Returns:
        The same tensor.

    Example:
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + ip.tap(torch.relu(super().forward(x)), "branch")
        >>> with ip.probe(model := Residual(3, 3)) as probe:
        ...     _ = model(torch.randn(8, 3))
        >>> sorted({row["layer"] for row in probe.report().rows})
        ['(model)', 'branch']
    """
    if not torch.compiler.is_compiling():
        for calls in list(running.calls):
            calls.point(tensor, name)
    return tensor
