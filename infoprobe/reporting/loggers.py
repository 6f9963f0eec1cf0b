"""Where the scalars of a report go: TensorBoard and Weights & Biases."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError


def log(scalars: Mapping[str, float], writer: Any, step: int) -> None:
    """Writes the scalars that are finite.

    Arguments:
        scalars: The values by name.
        writer: What :meth:`infoprobe.Report.log_to` takes.
        step: The step of the training.

    Raises:
        TypeError: The writer is something else.
        ValueError: The step is negative.
    """
    step = checks.require_integer(step, 0, None, "step")
    finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
    if callable(getattr(writer, "add_scalar", None)):
        for name, value in finite.items():
            writer.add_scalar(name, value, step)
    elif _takes_steps(getattr(writer, "log", None)):
        writer.log(finite, step=step)
    else:
        raise ArgumentTypeError(
            "writer",
            "expected a SummaryWriter of TensorBoard, with add_scalar(name, value, step), or a "
            f"run of W&B, with log(scalars, step=...), got {type(writer).__name__}. For another "
            "logger, pass it report.scalars() yourself.",
        )


def _takes_steps(method: Callable[..., Any] | None) -> bool:
    """Whether it is called like the ``log`` of a run; many things have a ``log`` of their own."""
    try:
        return callable(method) and bool(inspect.signature(method).bind({}, step=0))
    except (TypeError, ValueError):
        return False
