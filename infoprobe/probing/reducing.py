"""One tensor, or one call of a layer, by one reduction; whatever stands against it is told."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from infoprobe.devices import to_compute_with
from infoprobe.errors import ArgumentError
from infoprobe.probing.kept.base import CallReduction, Piece, Problem, TensorReduction
from infoprobe.probing.roles import Role
from infoprobe.probing.run import Run
from infoprobe.probing.selection import DoesNotApplyError
from infoprobe.probing.shards import local
from infoprobe.taps.sink import Event
from infoprobe.torch_internals import is_ordinary, outside_of_transforms, plain


def reduced(
    run: Run, role: Role, reduction: TensorReduction, tensors: list[Tensor]
) -> Piece | Problem:
    """What a reduction makes of the tensors in a role, or why it cannot."""
    if run.under_vmap:
        return Problem("under torch.func.vmap tensors have no values. Call the model itself.")
    try:
        if len(tensors) == 1 and is_ordinary(tensors[0]) and role != "target":
            return _with_padding(run, reduction, [tensors[0].detach()])
        with outside_of_transforms():
            given = [to_compute_with(plain(local(x))) for x in tensors]
            if role == "target":
                given = [run.common.tokens.target(reduction.select, x) for x in given]
            return _with_padding(run, reduction, given)
    except Exception as error:  # reported on the row, not raised in the user's forward
        return problem_of(error)


def _with_padding(run: Run, reduction: TensorReduction, tensors: list[Tensor]) -> Piece:
    piece = reduction.reduce(tensors, run.common)
    padding = run.common.padding
    counted = None if padding is None else padding.counted(reduction.select, tensors)
    return piece if counted is None else replace(piece, padding=counted)


def reported(run: Run, reduction: CallReduction, event: Event) -> Piece | Problem:
    """What a reduction makes of a call of a layer, or why it cannot."""
    try:
        return reduction.reduce(event, run.common)
    except Exception as error:  # reported on the row, not raised in the user's forward
        return problem_of(error)


def problem_of(error: Exception) -> Problem:
    """What a row says of an error."""
    problem = error.problem if isinstance(error, ArgumentError) else str(error)
    return Problem(problem, applies=not isinstance(error, DoesNotApplyError))
