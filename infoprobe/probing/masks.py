"""The mask of a batch, as a user gives it."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError


def require_mask(mask: object) -> Tensor:
    """A mask of tokens (n, t) as a bool tensor on the CPU.

    Raises:
        TypeError: It holds neither booleans nor integers.
        ValueError: It has one axis only, or other values than 0 and 1.
    """
    tensor = checks.as_tensor(mask, "mask")
    if tensor.is_floating_point():
        raise ArgumentTypeError(
            "mask",
            f"expected booleans or integers, 1 for a token that counts and 0 for padding, got "
            f"{tensor.dtype}. Pass the attention mask (n, t) of the batch, or mask.bool().",
        )
    if tensor.dim() < 2:
        raise ArgumentValueError(
            "mask",
            f"expected shape (n, t) for n sequences of t tokens, got {tuple(tensor.shape)}. Pass "
            "the mask of the whole batch.",
        )
    on_cpu = tensor.detach().to("cpu")
    if on_cpu.dtype != torch.bool and bool(((on_cpu != 0) & (on_cpu != 1)).any()):
        raise ArgumentValueError(
            "mask",
            "expected 1 for a token that counts and 0 for padding, got other integers, from "
            f"{int(on_cpu.min())} to {int(on_cpu.max())}. Pass mask != 0 if that is meant.",
        )
    return on_cpu.bool()
