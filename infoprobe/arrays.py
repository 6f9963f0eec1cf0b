"""Anything that holds real numbers, as a tensor that torch can compute with."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils.dlpack import from_dlpack

from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.torch_internals import lacks_values

_COMPUTABLE = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
# More axes than numpy knows, so that it refuses lists that are deeper.
_MOST_AXES = 65


class SupportsDLPack(Protocol):
    """An array of another library that hands its memory over, as those of JAX and CuPy do."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """The array as a capsule, see https://dmlc.github.io/dlpack."""

    def __dlpack_device__(self) -> tuple[Any, Any]:
        """The kind of device on which it is, and the number of the device."""


ArrayLike: TypeAlias = Tensor | npt.ArrayLike | SupportsDLPack
"""What holds numbers: tensors, arrays of NumPy and of other libraries, numbers and lists."""


def as_tensor(x: object, name: str) -> Tensor:
    """A tensor of real numbers with at least one element.

    Nested tensors become one tensor of all their samples, quantised ones are dequantised, and
    unsigned integers of more than 8 bits become signed ones, since torch can do little with them.

    Arguments:
        x: Anything that :func:`torch.as_tensor` takes, and arrays of other libraries by DLPack,
            on their devices and without a copy where torch can share their memory.
        name: What the caller calls it, for error messages.

    Raises:
        TypeError: It is no array of real numbers, or one of which this process holds a part, or
            whose values are not known yet.
        ValueError: It is empty, or some of its values are masked.
    """
    tensor = x if isinstance(x, Tensor) else _from_elsewhere(x, name)
    _require_values(tensor, name)
    if type(tensor) is not Tensor:
        _require_whole(tensor, name)
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_nested:
        tensor = _joined(tensor, name)
    if tensor.layout is not torch.strided or tensor.is_meta:
        kind = "meta" if tensor.is_meta else tensor.layout
        raise ArgumentTypeError(
            name,
            f"expected a dense tensor with values, got a {kind} one. "
            "Pass x.to_dense() of a sparse tensor.",
        )
    if tensor.is_complex():
        raise ArgumentTypeError(
            name,
            f"expected real numbers, got dtype {tensor.dtype}. "
            "Measure torch.view_as_real(x), or its abs() or angle().",
        )
    if tensor.numel() == 0:
        raise ArgumentValueError(
            name,
            f"expected at least one value, got an empty tensor of shape "
            f"{tuple(tensor.shape)}. Check the slice or the batch that it comes from.",
        )
    return _computable(tensor, name)


def _from_elsewhere(x: Any, name: str) -> Tensor:
    """A tensor from anything else that holds numbers."""
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
        return _from_array(x, name)
    try:
        return from_dlpack(x)
    except Exception as error:  # somebody else's: of a device, a type, or read-only memory
        problem, cause = str(error), error
    if hasattr(x, "__array__"):
        try:
            return _from_array(x, name)  # a copy
        except ArgumentTypeError as error:
            problem, cause = f"{problem}; {error.__cause__}", error
    raise ArgumentTypeError(
        name,
        f"expected an array that torch can share, got {type(x).__name__}{_dtype_of(x)} "
        f"({problem}). Copy it to the CPU as a NumPy array (x.get() in CuPy), or to a device that "
        "torch has.",
    ) from cause


def _from_array(x: Any, name: str) -> Tensor:
    """A tensor from anything that NumPy takes for an array of numbers."""
    if _is_masked(x):
        raise ArgumentValueError(
            name,
            "expected values without a mask, got a numpy masked array with masked values. Pass "
            "those that count: x.compressed(), or x[~x.mask.any(1)] for whole samples.",
        )
    try:
        if isinstance(x, (list, tuple)) and x and all(isinstance(part, Tensor) for part in x):
            return torch.stack(tuple(x))
        # By way of numpy, lists keep the precision of Python's floats.
        array = np.require(x, requirements=["C", "W"])
        if any(stride < 0 or stride % array.itemsize for stride in array.strides):
            array = array.copy()  # along an axis of one element, to numpy any stride will do
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (
        *(TypeError, ValueError, RuntimeError, AttributeError, OverflowError),
        RecursionError,
    ) as error:
        raise ArgumentTypeError(
            name,
            f"expected a tensor or an array of real numbers, got "
            f"{type(x).__name__}{_dtype_of(x)} ({error}). {_way_out(x)}",
        ) from error


def _way_out(x: Any) -> str:
    """What to do with something that is no array of numbers."""
    if hasattr(x, "toarray"):
        return "Pass x.toarray() of a sparse matrix."
    if isinstance(x, (list, tuple)) or (hasattr(x, "shape") and x.shape):
        return (
            "Pass numbers: of a data frame the columns that hold numbers, and in place of texts "
            "or categories np.unique(x, return_inverse=True)[1]."
        )
    return "Convert it to a numeric torch tensor first."


def _is_masked(x: Any, depth: int = 0) -> bool:
    if isinstance(x, np.ma.MaskedArray):
        return bool(np.ma.is_masked(x))
    is_list = isinstance(x, (list, tuple)) and depth < _MOST_AXES
    return is_list and any(_is_masked(part, depth + 1) for part in x)


def _dtype_of(x: Any) -> str:
    return f" of dtype {x.dtype}" if hasattr(x, "dtype") else ""


def _require_values(x: Tensor, name: str) -> None:
    """Raises if a tensor has no values, or none yet."""
    if type(x) is not Tensor and is_lazy(x):
        raise ArgumentTypeError(
            name,
            "expected a tensor with values, got a parameter that waits for the first batch. Run "
            "its module on a batch first.",
        )
    if lacks_values(x):
        raise ArgumentTypeError(
            name,
            "expected a tensor with values, got one without, as there are in FakeTensorMode, in "
            "traces and in torch.func.vmap. Measure real data there, or the samples in a loop.",
        )


def _require_whole(x: Tensor, name: str) -> None:
    """Raises if some of the values are elsewhere, or do not count."""
    # Both are looked up where torch keeps them, since importing them takes time.
    for module, kind, way_out in (
        ("torch.distributed.tensor", "DTensor", "x.full_tensor(), or x.to_local() for a part"),
        ("torch.masked", "MaskedTensor", "the values that count: x.get_data()[x.get_mask()]"),
    ):
        known = getattr(sys.modules.get(module), kind, None)
        if known is not None and isinstance(x, known):
            raise ArgumentTypeError(
                name, f"expected a plain tensor, got a {kind}. Pass {way_out}."
            )


def _joined(x: Tensor, name: str) -> Tensor:
    """The samples of all components of a nested tensor, one after the other."""
    parts = x.unbind()
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) != 1 or any(part.dim() == 0 for part in parts):
        raise ArgumentTypeError(
            name,
            f"expected a nested tensor of samples that have one shape, got {len(parts)} "
            f"components with samples of {len(shapes)} different shapes. Pass them one by one, or "
            "padded.",
        )
    return torch.cat(parts)


def _computable(x: Tensor, name: str) -> Tensor:
    """The same numbers in a type that torch can compute with."""
    if x.dtype in _COMPUTABLE:
        return x
    if x.dtype is torch.uint64 and bool((x.to(torch.float64) >= 2**63).any()):
        raise ArgumentValueError(
            name,
            "expected integers below 2**63, got torch.uint64 with larger ones. Subtract an offset "
            "or divide first.",
        )
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return x.to(torch.int64)
    try:
        if not x.is_floating_point():
            raise TypeError("it holds bits that stand for no numbers")
        return x.to(torch.float32)  # eight bits or fewer
    except (RuntimeError, TypeError) as error:
        raise ArgumentTypeError(
            name,
            f"expected real numbers, got dtype {x.dtype} ({error}). Convert it to float32 first.",
        ) from error
