"""A device that is none: its tensors say ``pretended:0``, and compute on the CPU.

It knows what would make the host wait for a real device, and notes where that was asked for.
"""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
aten = torch.ops.aten

# Operations of which the host must know values before it can go on.
_WAITING = {
    aten._local_scalar_dense.default: "item",
    aten.is_nonzero.default: "is_nonzero",
    aten.nonzero.default: "nonzero",
    aten.argwhere.default: "argwhere",
    aten.masked_select.default: "masked_select",
    aten.bincount.default: "bincount",
    aten.equal.default: "equal",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique_consecutive",
    aten.repeat_interleave.Tensor: "repeat_interleave",
    aten._linalg_check_errors.default: "linalg check",
}
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
# Operations that take tensors of several devices.
_MIXED = {aten._to_copy.default, aten.copy_.default, *_INDEXING}


class _Tensor(torch.Tensor):
    """A tensor on the device, with the values in one on the CPU."""

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=f"{NAME}:0",
            requires_grad=requires_grad,
        )
        tensor.inner = inner
        return tensor

    def __init__(self, inner, requires_grad=False):
        pass

    def __repr__(self):
        return f"pretended({self.inner!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} was called outside of a `with Device()` block")


class Device(TorchDispatchMode):
    """A ``with`` block in which the device is there.

    Attributes:
        waits: What made the host wait, and the line of infoprobe that asked for it.
        launches: The number of operations that ran on the device.
    """

    def __init__(self):
        super().__init__()
        self.waits = []
        self.launches = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        there = [x for x in leaves if isinstance(x, _Tensor)]
        here = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, _Tensor)]
        device = kwargs.get("device")
        goes_there = device is not None and torch.device(device).type == NAME
        if not there and not goes_there:
            return function(*args, **kwargs)
        if there and function not in _MIXED and any(x.dim() for x in here):
            raise RuntimeError(f"{function}: tensors on the CPU and on the device are mixed")
        self._note_waits(function, args, kwargs, there, here)
        self.launches += 1
        inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
        if device is not None:
            inner_kwargs["device"] = "cpu"
            inner_kwargs.pop("pin_memory", None)
        found = function(*inner_args, **inner_kwargs)
        if device is not None and not goes_there:
            return found
        if function is aten.copy_.default and not isinstance(args[0], _Tensor):
            return args[0]
        known = {id(x.inner): x for x in there}  # what is returned by in-place operations
        return tree_map(lambda x: _outer(x, known), found)

    def _note_waits(self, function, args, kwargs, there, here):
        what = _WAITING.get(function)
        if function in _INDEXING and what is None:
            indices = [x for x in args[1] if x is not None]
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                what = "index by a mask"
            elif any(x.dim() and not isinstance(x, _Tensor) for x in indices):
                what = "index on the host"
        if function is aten._to_copy.default and kwargs.get("device") is not None:
            to_device = torch.device(kwargs["device"]).type == NAME
            if to_device != bool(there) and not (to_device and kwargs.get("non_blocking")):
                what = "copy to the device" if to_device else "copy to the host"
        if function is aten.copy_.default and there and here:
            what = "copy between the host and the device"
        if what is not None:
            self.waits.append(f"{what} at {_line()}")


def _inner(x):
    if isinstance(x, _Tensor):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def _outer(x, known):
    if not isinstance(x, torch.Tensor) or isinstance(x, _Tensor):
        return x
    return known.get(id(x)) if id(x) in known else _Tensor(x)


def _line():
    for frame in reversed(traceback.extract_stack()):
        if frame.name == "_call_impl":  # a module was called, which does what it does
            break
        if "/infoprobe/" in frame.filename and "/tests/" not in frame.filename:
            return f"{frame.filename.split('/infoprobe/')[-1]}:{frame.lineno}"
    return "outside of infoprobe"


def there(x):
    """A tensor or a module on the device; of a module, in place."""
    if isinstance(x, nn.Module):
        for module in x.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(
                        _Tensor(parameter.detach().clone()), parameter.requires_grad
                    )
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = _Tensor(buffer.clone())
        return x
    return _Tensor(x.detach().clone())


def register():
    """Makes the device known to torch, once in a process; skips the test where it cannot."""
    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None:
        pytest.skip("this version of torch lets no device be written in Python")
    if torch._C._get_privateuse1_backend_name() != NAME:
        setup(NAME)
        # What torch asks every device that it knows, such as in fork_rng().
        module = torch.get_device_module(NAME)
        module.get_rng_state = lambda device=0: torch.zeros(16, dtype=torch.uint8)
        module.set_rng_state = lambda state, device=0: None
        module.get_amp_supported_dtype = lambda: [torch.bfloat16]
        module.is_available = lambda: False  # not to models that take any device there is
