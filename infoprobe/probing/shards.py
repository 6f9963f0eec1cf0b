"""Tensors that several processes share: what this process has of them."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch
from torch import Tensor

from infoprobe.errors import ArgumentTypeError
from infoprobe.findings import Finding
from infoprobe.probing.kept.marks import marked_values, marks_of
from infoprobe.torch_internals import outside_of_transforms, plain

# As many samples tell whether two processes were given the same.
_FIRST = 16


def local(x: Tensor) -> Tensor:
    """What this process has of a DTensor, if these are whole samples; a plain tensor as it is.

    A process has whole samples where the tensor is replicated, or cut along the first axis.

    Raises:
        TypeError: It has parts of samples, or parts of a sum. A probe starts no communication of
            its own, for which all processes would have to wait, so it cannot put them together.
    """
    placements = None if type(x) is Tensor else _placements(x)
    if placements is None:
        return x
    if all(one.is_replicate() or one.is_shard(0) for one in placements):
        held: Tensor = x.to_local()  # type: ignore[attr-defined]
        return held
    raise ArgumentTypeError(
        "x",
        f"expected whole samples, got a DTensor of shape {tuple(x.shape)} with the placements "
        f"{', '.join(map(str, placements))}, of which this process has a part. Mark what is to be "
        'measured in forward(): ip.tap(x.full_tensor(), "name") for all of it, or '
        'ip.tap(x.to_local(), "name") for the part.',
    )


def local_if_whole(x: Tensor) -> Tensor:
    """The same, or the tensor as it is where :func:`local` refuses."""
    try:
        return local(x)
    except ArgumentTypeError:
        return x


def doubt_about(one: int, other: int) -> Finding:
    """What is to be known of a number for which two processes have begun with the same samples."""
    return Finding(
        "warning",
        f"processes {one} and {other} began with the same samples, which are counted as different "
        "ones, so that values and errors are wrong",
        2,
        "If they hold parts of one model (tensor parallelism), report without sync(), or pass a "
        "group of processes whose data differ. If not, give each process its own share of the "
        "data.",
        code="same-samples",
    )


def opening_of(x: Tensor) -> Tensor | None:
    """The marks of the first samples (n, ...), by which processes see that they have the same.

    ``None`` if they cannot be marked, as those of a sparse tensor.
    """
    with contextlib.suppress(Exception), outside_of_transforms():
        first = marked_values(plain(x)[:_FIRST])
        return marks_of(first, torch.zeros(len(first), dtype=torch.int64, device="cpu"))
    return None


def _placements(x: Tensor) -> tuple[Any, ...] | None:
    # It is looked up where torch keeps it, since importing it takes time.
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return tuple(x.placements) if kind is not None and isinstance(x, kind) else None
