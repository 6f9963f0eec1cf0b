"""The tensors that hooks are given, as they are underneath whatever torch has wrapped around."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.autograd import forward_ad


def length(x: Tensor) -> int:
    """The number of samples, along the first axis; 0 of a tensor without axes."""
    return x.size(0) if x.dim() else 0


def version(x: Tensor) -> int | None:
    """How often a tensor was changed in place; ``None`` for inference tensors, which forget."""
    with torch._C.DisableTorchFunctionSubclass():  # some refuse to be asked
        return None if x.is_inference() else x._version


def plain(x: Tensor) -> Tensor:
    """The tensor without what torch.func and forward-mode differentiation put around it."""
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    if forward_ad._current_level >= 0:
        x = forward_ad.unpack_dual(x).primal  # type: ignore[no-untyped-call]
    return x.detach()


def under_vmap() -> bool:
    """Whether tensors stand for many, as under ``torch.func.vmap``, and have no values."""
    stack = torch._C._functorch.get_interpreter_stack()
    vmap = torch._C._functorch.TransformType.Vmap
    return stack is not None and any(transform.key() == vmap for transform in stack)


def outside_of_transforms() -> contextlib.AbstractContextManager[object]:
    """A ``with`` block in which torch.func's transforms do not see what we do."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        return contextlib.nullcontext()
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()


def is_traced() -> bool:
    """Whether torch.jit.trace records what is done, and tensors are no numbers."""
    return torch._C._get_tracing_state() is not None
