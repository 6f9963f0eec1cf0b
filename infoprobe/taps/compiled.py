"""Compiled models: what their hooks do becomes an operation of the compiled graph.

The compiler follows the hooks of a model when it compiles it. What they do cannot be compiled, and
to leave the graph for it would be slow, so they leave an operation behind that the compiler does
not look into. When the graph runs, the operation tells the hooks which tensors pass.

Code that was compiled before the hooks were there knows nothing of them. It heeds whether a module
has an attribute ``forward`` of its own, though. So a module whose hooks are to be called has one,
which is its own method: then the compiler makes other code for the model, and afterwards both are
used in turn, the one with hooks and the one without.

Not all hooks can work from tensors alone: see :mod:`infoprobe.taps.uncompiled`.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from infoprobe.taps.arguments import OwnMask, masks_among
from infoprobe.taps.calls import running
from infoprobe.torch_internals import anything_was_compiled


class Listener(Protocol):
    """A hook that can be told of a call from within compiled code.

    Attributes:
        leads: Whether it is the one that leaves the operation behind.
        tell: Is given the tensors that pass, and the masks of tokens among the arguments;
            ``None`` once the hook was removed.
    """

    leads: bool
    tell: Callable[[list[Tensor], list[OwnMask]], None] | None


class _Site:
    """The hooks of one module.

    Attributes:
        number: What the operation knows of the module.
        before: The hooks that are called before the module.
        after: The hooks that are called after it.
        free: The ids that earlier hooks had: of a pair the first, and the second is the next one.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.before: list[Listener] = []
        self.after: list[Listener] = []
        self.free: list[int] = []


_sites: weakref.WeakKeyDictionary[nn.Module, _Site] = weakref.WeakKeyDictionary()
_by_number: weakref.WeakValueDictionary[int, _Site] = weakref.WeakValueDictionary()
_numbers = itertools.count()

# All operations change this, so that the compiler keeps them and their order.
order: torch.Tensor = torch.zeros((), device="cpu")


# Whether any hooks are to be called: what marked points in compiled code depend on.
anybody_listens: bool = False


@functools.cache
def _define_operations() -> None:
    """Makes the operations known to torch: once, when they may be needed, since it takes long."""

    # Schemas are written out, since torch 2.6 infers none from these types.
    @torch.library.custom_op(
        "infoprobe::tensors_pass",
        mutates_args={"order"},
        schema="(Tensor(a!) order, Tensor[] tensors, int number, bool ends, Tensor[] masks, "
        "bool[] marks_padding) -> ()",
    )
    def tensors_pass(
        order: Tensor,
        tensors: list[Tensor],
        number: int,
        ends: bool,
        masks: list[Tensor],
        marks_padding: list[bool],
    ) -> None:
        site = _by_number.get(number)
        if site is not None:
            own = list(map(OwnMask, masks, marks_padding))
            for listener in list(site.after if ends else site.before):
                if listener.tell is not None:
                    # As new objects: compiled code writes other values into the old ones.
                    listener.tell([x.detach() for x in tensors], own)

    @tensors_pass.register_fake
    def _(
        order: Tensor,
        tensors: list[Tensor],
        number: int,
        ends: bool,
        masks: list[Tensor],
        marks_padding: list[bool],
    ) -> None:
        pass

    @torch.library.custom_op(
        "infoprobe::point_passes",
        mutates_args={"order"},
        schema="(Tensor(a!) order, Tensor[] tensors, str name) -> ()",
    )
    def point_passes(order: Tensor, tensors: list[Tensor], name: str) -> None:
        for tensor in tensors:
            for calls in list(running.calls):
                calls.point(tensor.detach(), name, in_compiled_code=True)

    @point_passes.register_fake
    def _(order: Tensor, tensors: list[Tensor], name: str) -> None:
        pass


def number_of(module: nn.Module) -> int:
    """What operations know of a module."""
    site = _sites.get(module)
    if site is None:
        site = _sites[module] = _Site(next(_numbers))
        _by_number[site.number] = site
    return site.number


def registered(
    module: nn.Module, before: Callable[..., Any], after: Callable[..., Any]
) -> list[RemovableHandle]:
    """Puts a pair of hooks on a module.

    Compiled code knows hooks by their ids. The hooks of a probe that is gone leave theirs to those
    of the next one, so that what was compiled for them is used again.
    """
    free = _sites[module].free
    others = RemovableHandle.next_id
    if free:
        RemovableHandle.next_id = free.pop()
    handles: list[RemovableHandle] = []
    try:
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        # Called also after an exception, which the model itself may catch.
        handles.append(module.register_forward_hook(after, with_kwargs=True, always_call=True))
    except BaseException:
        for handle in handles:
            handle.remove()
        raise
    finally:
        RemovableHandle.next_id = max(others, RemovableHandle.next_id)
    return handles


def removed(module: nn.Module, handles: list[RemovableHandle]) -> None:
    """Takes a pair of hooks off a module again."""
    for handle in handles:
        handle.remove()
    _sites[module].free.append(handles[0].id)


def listen(module: nn.Module, before: Listener, after: Listener) -> None:
    """From now on compiled code tells these hooks of the calls of a module."""
    _define_operations()
    site = _by_number[number_of(module)]
    before.leads, after.leads = not site.before, not site.after
    site.before.append(before)
    site.after.append(after)
    _update()
    if anything_was_compiled() and "forward" not in vars(module):
        vars(module)["forward"] = module.forward


def forget(module: nn.Module, before: Listener, after: Listener) -> None:
    """Undoes :func:`listen`."""
    site = _by_number[number_of(module)]
    site.before.remove(before)
    site.after.remove(after)
    for listeners in (site.before, site.after):
        if listeners:
            listeners[0].leads = True
    _update()
    own = vars(module).get("forward")
    if not site.before and own is not None and own == _method(module):
        del vars(module)["forward"]


def _update() -> None:
    global anybody_listens
    anybody_listens = any(site.before for site in _sites.values())


def _method(module: nn.Module) -> Any:
    """The method that the module's class gives it."""
    return getattr(type(module), "forward", None).__get__(module)  # type: ignore[union-attr]


def leave_operation(
    number: int, ends: bool, value: Any, named: Mapping[str, Any] | None = None
) -> None:
    """Leaves an operation behind, in code that is being compiled.

    Arguments:
        number: What :func:`number_of` said of the module.
        ends: Whether its call ends, instead of beginning.
        value: What goes into the module, or comes out of it.
        named: The arguments by their names, of which the masks are to be told.
    """
    masks = masks_among(named or {})
    torch.ops.infoprobe.tensors_pass(
        order,
        main_tensor(value),
        number,
        ends,
        [mask.values.detach() for mask in masks],
        [mask.marks_padding for mask in masks],
    )


def leave_point(tensor: Any, name: str) -> None:
    """Leaves an operation behind for a marked point, in code that is being compiled."""
    torch.ops.infoprobe.point_passes(order, main_tensor(tensor), name)


def main_tensor(value: Any) -> list[Tensor]:
    """As :func:`infoprobe.taps.tensors.main_tensor`, in steps that the compiler can follow."""
    found = _first_tensor(value, floating=True) or _first_tensor(value, floating=False)
    return [x.detach() for x in found]


def _first_tensor(value: Any, floating: bool) -> list[Tensor]:
    if isinstance(value, Tensor):
        fits = not floating or value.is_floating_point() or value.is_complex()
        return [value] if fits else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for part in value:
            found = _first_tensor(part, floating)
            if found:
                return found
    return []
