"""Points inside a forward pass that the user marks, where no module returns."""

from __future__ import annotations

from typing import TypeVar

import torch

from infoprobe.taps import compiled
from infoprobe.taps.calls import running
from infoprobe.taps.tensors import main_tensor
from infoprobe.torch_internals import is_traced, outside_of_modes

T = TypeVar("T")


def tap(tensor: T, name: str) -> T:
    """Marks a tensor inside a forward pass, so that probes measure it like a layer's output.

    It is for tensors that no module returns: residual sums, attention weights,
    ``torch.relu(x)``. It does nothing if no probe is on the model that is running.

    Arguments:
        tensor: Any tensor; of a container, the first floating-point tensor in it is measured.
            Nothing is measured where there is none.
        name: The name of the point in the report, which follows the name of the module in whose
            forward it stands (``blocks.3.residual``).

    Returns:
        The same object.

    Example:
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + ip.tap(torch.relu(super().forward(x)), "branch")
        >>> with ip.probe(model := Residual(3, 3)) as probe:
        ...     _ = model(torch.randn(8, 3))
        >>> sorted({row["layer"] for row in probe.report().rows})
        ['(model)', 'branch']
    """
    if torch.compiler.is_compiling():
        if compiled.anybody_listens and not torch.compiler.is_exporting():
            compiled.leave_point(tensor, name)
    elif running.calls and not is_traced():
        with outside_of_modes():
            for found in main_tensor(tensor):
                for calls in list(running.calls):
                    calls.point(found, name)
    return tensor
