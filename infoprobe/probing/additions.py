"""What was made of one call of a layer is added to what is kept of such calls."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from infoprobe.probing.circumstances import Facts
from infoprobe.probing.kept.base import Kept, Piece, Problem
from infoprobe.probing.plan import Plan
from infoprobe.probing.record import Record
from infoprobe.probing.reducing import problem_of
from infoprobe.probing.roles import Role, described
from infoprobe.probing.run import Pieces, Run
from infoprobe.rows import LayerCall


class Addition(NamedTuple):
    """One call of a layer, which is to be added to a record.

    Attributes:
        run: The pass.
        record: The record that was being filled when the layer returned.
        call: The call.
        facts: What is known of it, if a measure asks.
        pieces: What was made of the tensors in each role.
    """

    run: Run
    record: Record
    call: LayerCall
    facts: Facts | None
    pieces: Mapping[Role, Pieces]

    def add(self, plan: Plan, memory: int) -> None:
        """Adds it.

        Arguments:
            plan: What is to be kept of which tensors.
            memory: The number of bytes that all kept samples may take.
        """
        run, at_call = self.run, self.record.at(self.call)
        if self.facts is not None:
            self.record.note(self.call, self.facts)
        for (role, number), kept in zip(plan.sources, at_call.values(), strict=True):
            piece = self.pieces[role].get(number)
            if piece is None:  # another row has it
                continue
            problem = self._add(kept, piece, memory)
            if problem is not None:
                # A measure must not stop somebody's training: it warns and goes on. A NaN
                # spreads to all layers behind, so of each kind of problem it tells the first.
                new = problem.kind not in run.warned and not any(
                    x.left_out for x in at_call.values()
                )
                kept.leave_out(problem, f"In pass {run.number + 1}, {described(role)}")
                if problem.applies and new:
                    run.warned.add(problem.kind)
                    warn_of(self.call, kept)
            elif role == "input":
                kept.notes |= run.notes

    def _add(self, kept: Kept[Any], piece: Piece | Problem, memory: int) -> Problem | None:
        """Adds a piece to what was kept, or returns why not."""
        if isinstance(piece, Problem):
            return piece
        try:
            widened = kept.add(piece, self.run.common)
        except Exception as error:
            return problem_of(error)
        if widened:
            self.record.shrink(memory)
        return None


def warn_of(call: LayerCall, kept: Kept[Any]) -> None:
    """Warns that a call is left out."""
    # Where warnings are errors, the report alone says it: the model's forward must not fail.
    with contextlib.suppress(RuntimeWarning):
        warnings.warn(
            f"layer {call.layer!r} ({call.direction}): a call is left out of its measures. "
            f"{kept.why_left_out}",
            RuntimeWarning,
            stacklevel=3,
        )
