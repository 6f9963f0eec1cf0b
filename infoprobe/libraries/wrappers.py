"""What torch wraps around models: compiled code and data parallelism."""

from __future__ import annotations

import sys
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from infoprobe.torch_internals import compiled_from

T = TypeVar("T")


def is_wrapper(module: object) -> bool:
    """Whether ``torch.compile`` or data parallelism made a module around another one."""
    return isinstance(module, nn.Module) and _inner(module) is not None


def unwrapped(module: T) -> T | nn.Module:
    """The model inside all wrappers, or what is given if it is not wrapped."""
    found: T | nn.Module = module
    while isinstance(found, nn.Module) and (inner := _inner(found)) is not None:
        found = inner
    return found


def class_name(module: object) -> str:
    """The name of a module's class, as the user knows it.

    ``fully_shard`` derives a class from that of each module, as in ``FSDPLinear``.
    """
    kind = type(module)
    # It is looked up where torch keeps it, since importing it takes time.
    sharded = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    if sharded is not None and sharded in kind.__bases__:
        kind = next(base for base in kind.__bases__ if base is not sharded)
    return kind.__name__


def _inner(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper is around."""
    if isinstance(module, (DataParallel, DistributedDataParallel)):
        wrapped: nn.Module = module.module
        return wrapped
    return compiled_from(module)
