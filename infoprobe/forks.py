"""Locks that a forked process does not inherit from a thread that it has not."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

# Held while locks are made, and while a process forks.
_making = threading.RLock()
_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_held: list[Any] = []


def forkable_lock() -> Any:
    """A reentrant lock for which a fork waits, so that it is free in the child, its work done."""
    with _making:
        lock = threading.RLock()
        _locks.add(lock)
    return lock


def _acquire() -> None:
    _making.acquire()
    for lock in list(_locks):
        lock.acquire()
        _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()
    _making.release()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
