"""Every use of a name that torch calls private, each with its reason.

Torch may rename or remove such a name in any version. Then the function that needs it raises a
:class:`TorchChangedError`, which says what is missing; the rest of the library goes on. No other
file of the library uses a private name of torch.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.distributions import Transform

TESTED_TORCH: Final = "2.14"
"""The newest version of torch that the tests ran with."""

QUANTIZED_WEIGHTS: Final = ("_packed_params", "_all_weight_values")
"""The children in which quantized modules keep their weights: torch never calls them.

Torch has no public way to tell them from layers.
"""


class TorchChangedError(RuntimeError):
    """This version of torch no longer has a private name that infoprobe uses."""

    def __init__(self, name: str, purpose: str) -> None:
        super().__init__(
            f"infoprobe uses torch's private {name} to {purpose}, and torch {torch.__version__} "
            "does not have it. Update infoprobe, or install a version of torch that it was tested "
            f"with: torch<={TESTED_TORCH}."
        )


class _Private:
    """A private name of torch, which is looked up when it is first used."""

    def __init__(self, name: str, purpose: str) -> None:
        self._name = name
        self._purpose = purpose

    @functools.cached_property
    def value(self) -> Any:
        """What torch has under this name."""
        try:
            return pkgutil.resolve_name(self._name)
        except (AttributeError, ImportError):
            raise TorchChangedError(self._name, self._purpose) from None


_GRAPH_TASK = _Private("torch._C._current_graph_task_id", "recognise a backward pass")
_DISABLED = _Private("torch._C.DisableTorchFunctionSubclass", "ask any tensor for its version")
_TOP = _Private("torch._C._functorch.peek_interpreter_stack", "see the transforms of torch.func")
_STACK = _Private("torch._C._functorch.get_interpreter_stack", "see the transforms of torch.func")
_VMAP = _Private("torch._C._functorch.TransformType.Vmap", "recognise torch.func.vmap")
_CLEARED = _Private(
    "torch._functorch.pyfunctorch.temporarily_clear_interpreter_stack",
    "work outside of the transforms of torch.func",
)
_IS_TRACKED = _Private(
    "torch._C._functorch.is_gradtrackingtensor", "read tensors within torch.func.grad"
)
_UNWRAPPED = _Private("torch._C._functorch.get_unwrapped", "read tensors within torch.func.grad")
_MODULE_CALL = _Private("torch.nn.Module._call_impl", "find the modules that are being called")
_INVERSE = _Private(
    "torch.distributions.transforms._InverseTransform", "recognise the inverse of a transform"
)
_INVERSE_CALL = _Private(
    "torch.distributions.Transform._inv_call", "see the calls of a transform's inverse"
)
_DISPATCH_MODES = _Private("torch._C._len_torch_dispatch_stack", "see modes that are at work")
_FUNCTION_MODES = _Private("torch._C._len_torch_function_stack", "see modes that are at work")
_IS_TRACING = _Private("torch._C._is_tracing", "recognise a trace")
_IS_KEY_AT_WORK = _Private(
    "torch._C._dispatch_tls_is_dispatch_key_included", "see modes that are at work"
)
_KEY_OF_TRACES = _Private("torch._C.DispatchKey.PreDispatch", "see modes that are at work")
_ALL_DISPATCH_MODES = _Private(
    "torch.utils._python_dispatch._get_current_dispatch_mode_stack", "recognise a trace"
)
_NO_DISPATCH_MODES = _Private(
    "torch.utils._python_dispatch._disable_current_modes", "work outside of the user's modes"
)
_PUSH_MODE = _Private("torch._C._push_on_torch_function_stack", "work outside of modes")
_POP_MODE = _Private("torch._C._pop_torch_function_stack", "work outside of the user's modes")
_DEVICE_MODE = _Private("torch.utils._device.DeviceContext", "know the mode of a default device")
_IS_FAKE = _Private("torch._subclasses.fake_tensor.is_fake", "recognise tensors without values")
_BATCH_NORM = _Private("torch.nn.modules.batchnorm._BatchNorm", "recognise batch normalization")
_DROPOUT = _Private("torch.nn.modules.dropout._DropoutNd", "recognise dropout")


# Tensors.


def version(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; ``None`` for inference tensors, which forget.

    Torch has no public way to ask for it, and none to ask a tensor of a subclass that refuses
    all functions.
    """
    if type(tensor) is Tensor:
        return _version(tensor)
    with _DISABLED.value():
        return _version(tensor)


def _version(tensor: Tensor) -> int | None:
    if tensor.is_inference():
        return None
    try:
        return tensor._version
    except AttributeError:
        raise TorchChangedError(
            "Tensor._version", "see that a tensor was changed in place"
        ) from None


def dtype_of(tensor: Tensor) -> torch.dtype:
    """The type of a tensor's values, also where a subclass refuses all functions."""
    if type(tensor) is Tensor:
        return tensor.dtype
    with _DISABLED.value():
        return tensor.dtype


def asked_as_tensors(tensors: Iterable[Tensor]) -> contextlib.AbstractContextManager[object]:
    """A ``with`` block in which tensors answer also where subclasses refuse all functions.

    Torch has no public way to leave out what subclasses do to its functions.
    """
    if all(type(tensor) is Tensor for tensor in tensors):
        return _NOTHING_TO_LEAVE
    block: contextlib.AbstractContextManager[object] = _DISABLED.value()
    return block


def is_ordinary(tensor: Tensor) -> bool:
    """Whether a tensor is on the CPU, of no subclass, and no transform is at work around it."""
    ordinary = type(tensor) is Tensor and tensor.is_cpu and _TOP.value() is None
    return ordinary and not _in_dual_level()


def plain(tensor: Tensor) -> Tensor:
    """The tensor without what torch.func and forward-mode differentiation put around it.

    Torch has no public way to unwrap a tensor of ``torch.func.grad`` and leave one of
    ``torch.func.vmap`` alone.
    """
    while _IS_TRACKED.value(tensor):
        tensor = _UNWRAPPED.value(tensor)
    if _in_dual_level():
        tensor = forward_ad.unpack_dual(tensor).primal  # type: ignore[no-untyped-call]
    return tensor.detach()


def _in_dual_level() -> bool:
    """Whether forward-mode differentiation is at work.

    Torch has no public way to ask for it, and unpacking every tensor would take longer.
    """
    try:
        return forward_ad._current_level >= 0
    except AttributeError:
        raise TorchChangedError(
            "autograd.forward_ad._current_level", "recognise forward-mode differentiation"
        ) from None


# What runs around us.

_NOTHING_TO_LEAVE = contextlib.nullcontext()  # made once, since every hook asks for it


def in_backward() -> bool:
    """Whether this thread is in a backward pass.

    Torch has no public way to ask for it.
    """
    return bool(_GRAPH_TASK.value() != -1)


def under_vmap() -> bool:
    """Whether this thread is within ``torch.func.vmap``, where tensors have no values.

    Torch has no public way to list the function transforms that are at work.
    """
    stack = _STACK.value()
    return stack is not None and any(one.key() == _VMAP.value for one in stack)


def outside_of_transforms() -> contextlib.AbstractContextManager[object]:
    """A ``with`` block in which the transforms of torch.func do not see what is done.

    Torch has no public way to leave them for a while.
    """
    if _TOP.value() is None:
        return _NOTHING_TO_LEAVE
    block: contextlib.AbstractContextManager[object] = _CLEARED.value()
    return block


def is_traced() -> bool:
    """Whether what this thread computes is recorded and has no values, or must not be read.

    So it is within ``torch.export``, ``torch.jit.trace``, ``make_fx``, FakeTensorMode and the
    capture of a CUDA graph. Torch has no public way to ask for all of them.
    """
    if torch.compiler.is_exporting():  # asked first: export can follow no other question
        return True
    if _IS_TRACING.value():  # what torch.jit.is_tracing() asks, which takes longer
        return True
    cuda: Any = torch.cuda
    if cuda.is_initialized() and cuda.is_current_stream_capturing():
        return True
    if _IS_KEY_AT_WORK.value(_KEY_OF_TRACES.value) or _is_followed_by_fx():
        return True
    if not _DISPATCH_MODES.value():
        return False
    return any(mode.is_infra_mode() for mode in _ALL_DISPATCH_MODES.value())


def _is_followed_by_fx() -> bool:
    """Whether ``torch.fx`` traces a model.

    Torch has no public way to ask for it without a warning.
    """
    fx: Any = torch.fx._symbolic_trace
    try:
        # From torch 2.14 on each thread has a flag of its own, which a function reads.
        if hasattr(fx, "_get_is_fx_tracing"):
            return bool(fx._get_is_fx_tracing())
        return bool(fx._is_fx_tracing_flag)
    except AttributeError:
        raise TorchChangedError(
            "fx._symbolic_trace._is_fx_tracing_flag", "recognise a trace"
        ) from None


def is_fake(tensor: Tensor) -> bool:
    """Whether a tensor is one of FakeTensorMode, which has a shape but no values.

    Torch has no public way to ask for it.
    """
    return type(tensor) is not Tensor and bool(_IS_FAKE.value(tensor))


def in_modes() -> bool:
    """Whether modes see what is computed; torch has no public way to ask for it."""
    return bool(_DISPATCH_MODES.value() or _FUNCTION_MODES.value())


def lacks_values(tensor: Tensor) -> bool:
    """Whether a tensor has no values that can be read here.

    So it is in FakeTensorMode, while ``make_fx`` traces, and within ``torch.func.vmap``.
    """
    return bool(is_fake(tensor) or (_DISPATCH_MODES.value() and is_traced()) or under_vmap())


def outside_of_modes() -> contextlib.AbstractContextManager[object]:
    """A ``with`` block in which the modes that the user has entered do not see what is done.

    Such modes count, log, change or refuse what torch computes. A default device stays. Torch
    has no public way to leave them for a while.
    """
    return _outside_of_modes() if in_modes() else _NOTHING_TO_LEAVE


@contextlib.contextmanager
def _outside_of_modes() -> Iterator[None]:
    modes = [_POP_MODE.value() for _ in range(_FUNCTION_MODES.value())]
    kept = [mode for mode in modes if isinstance(mode, _DEVICE_MODE.value)]
    for mode in reversed(kept):
        _PUSH_MODE.value(mode)
    try:
        with _NO_DISPATCH_MODES.value():
            yield
    finally:
        for _ in kept:
            _POP_MODE.value()
        for mode in reversed(modes):
            _PUSH_MODE.value(mode)


def module_call() -> CodeType:
    """The code that runs a module with its hooks; the module is ``self`` in its frames.

    Torch has no public way to ask which modules are being called.
    """
    code: CodeType = _MODULE_CALL.value.__code__
    return code


# Modules and transforms.


def compiled_from(module: nn.Module) -> nn.Module | None:
    """The module that ``torch.compile`` made this one from, if it did.

    Torch has no public way to get it back.

    Raises:
        TorchChangedError: The module was compiled and does not say what from.
    """
    # Among its children, since attributes may be those of a module inside.
    original = dict(module.named_children()).get("_orig_mod")
    if original is None and type(module).__name__ == "OptimizedModule":
        raise TorchChangedError("OptimizedModule._orig_mod", "find the module that was compiled")
    return original


def without_hooks(module: nn.Module) -> nn.Module:
    """A module with the same parameters, without hooks, in evaluation mode.

    What it computes leaves no trace on the original: buffers are copies. Torch has no public way
    to call a module without its hooks.
    """
    bare = copy.copy(module)
    state = vars(bare)
    if getattr(state.get("forward"), "__self__", None) is module:
        del state["forward"]  # the method of the original
    for name, value in vars(nn.Module()).items():
        if "hooks" in name:
            state[name] = type(value)()
    try:
        state["_buffers"] = {
            name: None if buffer is None else buffer.detach().clone()
            for name, buffer in state["_buffers"].items()
        }
        state["_modules"] = {
            name: None if child is None else without_hooks(child)
            for name, child in state["_modules"].items()
        }
    except KeyError as error:
        raise TorchChangedError(f"Module.{error.args[0]}", "use a module without hooks") from None
    state["training"] = False
    return bare


def anything_was_compiled() -> bool:
    """Whether ``torch.compile`` has compiled anything in this process.

    Optimizers import the compiler without using it, and torch has no public way to ask. Where it
    no longer counts what it compiles, the answer is that it may have.
    """
    conversion = sys.modules.get("torch._dynamo.convert_frame")
    return conversion is not None and getattr(conversion, "FRAME_COUNTER", 1) > 0


CALL_OF_COMPILED: Final = "_compiled_call_impl"
"""The attribute of a module with what is called in its stead, after ``module.compile()``.

Torch has no public way to ask for it.
"""


def call_as_it_is(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """Calls a module with its hooks, whether it was compiled in place or not.

    Torch has no public way to call such a module uncompiled.
    """
    return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]


def may_leave_compiled_code() -> bool:
    """Whether the code that is being compiled may break off, instead of being one graph.

    Torch has no public way to ask for it. Where it no longer says so, the answer is no.
    """
    translators = sys.modules.get("torch._dynamo.symbolic_convert")
    translator: Any = getattr(translators, "InstructionTranslator", None)
    if translator is None or not hasattr(translator, "current_tx"):
        return False
    current = translator.current_tx()
    whole = getattr(current, "one_graph", True)
    return not (whole or getattr(current, "error_on_graph_break", False))


def made_by_compiling() -> list[tuple[nn.Module, nn.Module]]:
    """The modules that ``torch.compile`` has made, each with the one that it was made of.

    Torch has no public list of them.
    """
    frames = sys.modules.get("torch._dynamo.eval_frame")
    kind = getattr(frames, "OptimizedModule", None)
    if kind is None:
        return []
    found = [x for x in gc.get_objects() if issubclass(type(x), kind)]
    return [(x, original) for x in found if (original := compiled_from(x)) is not None]


def is_batch_norm(module: nn.Module) -> TypeGuard[nn.BatchNorm1d]:
    """Whether this is batch normalization of any kind, all of which have the same attributes.

    Torch has no public name for all of its kinds.
    """
    return isinstance(module, _BATCH_NORM.value)


def is_dropout(module: nn.Module) -> TypeGuard[nn.Dropout]:
    """Whether this is dropout of any kind, all of which have the same attributes.

    Torch has no public name for all of its kinds.
    """
    return isinstance(module, _DROPOUT.value)


def is_inverse_of(inverse: Transform, transform: Transform) -> bool:
    """Whether ``inverse`` is the object with which torch runs ``transform`` backwards.

    Torch has no public way to tell such an object from a transform that somebody wrote: ``inv``
    makes a new object where the first one was collected.
    """
    if not isinstance(inverse, _INVERSE.value):
        return False
    try:
        return vars(inverse)["_inv"] is transform
    except KeyError:
        raise TorchChangedError(
            "_InverseTransform._inv", "recognise the inverse of a transform"
        ) from None


def inverse_call() -> str:
    """The name of the method with which a transform's inverse runs it.

    Torch has no public way to be told of these calls.
    """
    name: str = _INVERSE_CALL.value.__name__
    return name
