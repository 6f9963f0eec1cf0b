"""Modules whose hooks need more than tensors: they run uncompiled while their passes are measured.

Some hooks must know what a map is called with, or change it, which compiled code cannot tell them.
A module that was compiled in place has an attribute, ``_compiled_call_impl``, that is called in
its stead. Once anything was compiled, and as long as passes are measured, modules with such hooks
have one by which they run uncompiled: compiled code that comes to them ends there, and goes on
behind them. What ``torch.compile`` made of the model, or of what it is a part of, may not be
allowed to break off (``fullgraph=True``), so it calls what it was made of for the time. All other
models stay compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import nn

from infoprobe.forks import forkable_lock
from infoprobe.torch_internals import (
    CALL_OF_COMPILED,
    anything_was_compiled,
    call_as_it_is,
    made_by_compiling,
    may_leave_compiled_code,
)

# A module, the attribute by which it is called, and what is called instead.
_Call: TypeAlias = tuple[nn.Module, str, Callable[..., Any]]
_NONE = object()
_lock: Any = forkable_lock()


class _StandIn:
    """What is called for a time instead of a method of a module.

    Attributes:
        call: What it does when it is called.
        before: What was called before; :data:`_NONE` if it was the class's method.
        users: How many taps need it.
    """

    def __init__(self, call: Callable[..., Any], before: Any) -> None:
        self.call = call
        self.before = before
        self.users = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


class Uncompiled:
    """Lets some modules run uncompiled from :meth:`begin` to :meth:`end`.

    Arguments:
        model: The model that they belong to.
        modules: Those that have hooks.
    """

    def __init__(self, model: nn.Module, modules: Iterable[nn.Module]) -> None:
        self._model = model
        self._is_in_place = any(map(compiled_in_place, model.modules()))
        self._of_wrappers = self._wrappers()  # before what follows imports the compiler
        self._of_modules: list[_Call] = []
        for module in modules:
            run = functools.partial(call_as_it_is, module)
            self._of_modules.append((module, CALL_OF_COMPILED, uncompiled(run, run)))
        self._used: list[tuple[_Call, _StandIn]] = []

    def _wrappers(self) -> list[_Call]:
        return [
            (wrapper, "forward", original.__call__)
            for wrapper, original in made_by_compiling()
            if self._model in original.modules() or original in self._model.modules()
        ]

    @property
    def is_needed(self) -> bool:
        """Whether anything was compiled, so that the modules may be called by compiled code."""
        return bool(self._of_wrappers) or self._is_in_place or anything_was_compiled()

    def look_again(self) -> None:
        """Finds what was made by compiling meanwhile; it counts from the next beginning on."""
        self.end()
        self._of_wrappers = self._wrappers()

    def begin(self) -> None:
        """From now on they run uncompiled."""
        with _lock:
            if not self._used:
                calls = [*self._of_modules, *self._of_wrappers]
                self._used = [(call, _put(*call)) for call in calls]

    def end(self) -> None:
        """From now on they run as they did before."""
        with _lock:
            for (module, name, _), used in self._used:
                used.users -= 1
                # Else somebody else needs it, or has compiled the module meanwhile.
                if used.users == 0 and vars(module).get(name) is used:
                    if used.before is _NONE:
                        del vars(module)[name]
                    else:
                        vars(module)[name] = used.before
            self._used = []


def _put(module: nn.Module, name: str, call: Callable[..., Any]) -> _StandIn:
    own = vars(module)
    used = own.get(name, _NONE)
    if not isinstance(used, _StandIn):
        used = own[name] = _StandIn(call, used)
    used.users += 1
    return used


def compiled_in_place(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called: its hooks are no part of what is compiled then."""
    call = vars(module).get(CALL_OF_COMPILED)
    if isinstance(call, _StandIn):
        call = call.before
    return call is not None and call is not _NONE


def uncompiled(run: Callable[..., Any], in_one_graph: Callable[..., Any]) -> Callable[..., Any]:
    """A function for which compiled code is left.

    Arguments:
        run: What it does.
        in_one_graph: What it does instead in compiled code that may not be left.
    """
    leave, may_leave = _ways_out()

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            return run(*args, **kwargs)
        if may_leave():
            return leave(run, *args, **kwargs)
        return in_one_graph(*args, **kwargs)

    return call


def _call(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return run(*args, **kwargs)


@functools.cache
def _ways_out() -> tuple[Callable[..., Any], Callable[[], bool]]:
    """Calls a function from compiled code, which is left for that, and tells whether it may be."""
    return (
        torch.compiler.disable(_call),  # type: ignore[no-untyped-call]
        torch.compiler.assume_constant_result(  # type: ignore[no-untyped-call]
            may_leave_compiled_code
        ),
    )
