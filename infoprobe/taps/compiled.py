"""Compiled models run uncompiled while somebody wants to see what passes through them."""

from __future__ import annotations

from typing import Any

import torch


class _Suspension:
    """Lets compiled code run uncompiled as long as anybody needs that.

    Code that was compiled before hooks were put on a model never calls them. The compiler has
    one stance for the whole process, so all users share it.
    """

    def __init__(self) -> None:
        self._users = 0
        self._stance: Any = None

    def begin(self) -> None:
        """Counts one user more; the first one switches compiled code off."""
        self._users += 1
        if self._stance is None:
            self._stance = torch.compiler.set_stance("force_eager")

    def end(self) -> None:
        """Counts one user less; the last one restores the stance that was before."""
        self._users -= 1
        if self._users == 0:
            self._stance.__exit__(None, None, None)
            self._stance = None


suspension = _Suspension()
