"""Compiled models run uncompiled while somebody wants to see what passes through them."""

from __future__ import annotations

from typing import Any

import torch


class _Suspension:
    """Compiled code runs uncompiled as long as anybody asks for it.

    Code that was compiled before hooks were put on a model never calls them. The compiler's
    stance is one for the whole process, so all users share it.
    """

    def __init__(self) -> None:
        self._users = 0
        self._stance: Any = None

    def begin(self) -> None:
        """Asks for it."""
        self._users += 1
        if self._stance is None:
            self._stance = torch.compiler.set_stance("force_eager")

    def end(self) -> None:
        """Does no longer ask."""
        self._users -= 1
        if self._users == 0:
            self._stance.__exit__(None, None, None)  # to what it was
            self._stance = None


suspension = _Suspension()
