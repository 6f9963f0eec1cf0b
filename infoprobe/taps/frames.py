"""What Python's and torch's own stacks tell of the calls that are running in this thread."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType

from torch import nn

from infoprobe.torch_internals import module_call


def is_running(frame: FrameType) -> bool:
    """Whether a frame is among the callers of this function."""
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


def frame_of_call() -> FrameType | None:
    """The frame of the innermost module's call, which calls hooks and forward."""
    call = module_call()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not call:
        frame = frame.f_back
    return frame


def running_modules() -> Iterator[nn.Module]:
    """The modules that are being called, the innermost first."""
    call = module_call()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is call:
            yield frame.f_locals["self"]
        frame = frame.f_back
