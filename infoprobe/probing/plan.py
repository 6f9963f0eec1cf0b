"""What is to be kept of which tensors, decided once from all that the measures need."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from infoprobe.probing.kept.base import CallReduction, Problem, Reduction, TensorReduction
from infoprobe.probing.kept.counts import Counting
from infoprobe.probing.measures.base import Measure, Need
from infoprobe.probing.reducing import reduced
from infoprobe.probing.roles import ROLES, Role, layer_of
from infoprobe.probing.run import Pieces, Run, Seen
from infoprobe.torch_internals import version

_NO_TENSOR = Problem("there is no tensor.")
_NO_INPUT_OF_ITS_OWN = Problem(
    "A tap has no input of its own that it could be compared with.", applies=False
)


@dataclass(frozen=True)
class Plan:
    """The reductions of the tensors in each role, by numbers, which hooks look up fast.

    Attributes:
        sources: The role and the number of the reduction for all that is kept of a call.
        of_tensors: The reductions of the tensors in each role.
        of_calls: The reductions of calls of layers.
        named: Of the layers that measures refer to, what there is before they were called.
        nothing_before: What there is of the input of a point, which has none of its own.
        asks_for_sources: Whether it must be known which layer follows which.
        asks_for_noise: Whether it must be known where random numbers may have been drawn.
        asks_for_facts: Whether the circumstances of calls must be known.
        can_wait: Whether what was made of tensors is small, so that it may be added up after the
            pass.
    """

    sources: list[tuple[Role, int]] = field(default_factory=list)
    of_tensors: dict[Role, dict[int, TensorReduction]] = field(
        default_factory=lambda: {role: {} for role in ROLES}
    )
    of_calls: dict[int, CallReduction] = field(default_factory=dict)
    named: dict[str, Pieces] = field(default_factory=dict)
    nothing_before: Pieces = field(default_factory=dict)
    asks_for_sources: bool = False
    asks_for_noise: bool = False
    asks_for_facts: bool = False
    can_wait: bool = True

    @classmethod
    def of(cls, measures: Sequence[Measure], needs: Iterable[Need]) -> Plan:
        """The plan for some measures, which need this, in the order in which it is kept."""
        needs = list(needs)
        asks_for_sources = any(
            measure.never_rises or any(need.role == "unmeasured" for need in measure.needs)
            for measure in measures
        )
        plan = cls(
            asks_for_sources=asks_for_sources,
            asks_for_noise=any(measure.asks_for_noise for measure in measures),
            # A measure that says nothing of a call's circumstances need not know them.
            asks_for_facts=asks_for_sources
            or any(type(measure).remarks is not Measure.remarks for measure in measures),
            can_wait=all(isinstance(need.reduction, Counting) for need in needs),
        )
        numbers: dict[Reduction, int] = {}
        for role, reduction in needs:
            number = numbers.setdefault(reduction, len(numbers))
            plan.sources.append((role, number))
            if isinstance(reduction, TensorReduction):
                as_role = "previous" if role == "unmeasured" else role
                layer = layer_of(role)
                if layer is not None:
                    plan.named.setdefault(layer, {})[number] = _not_yet(layer)
                    as_role = "output"
                plan.of_tensors[as_role][number] = reduction
            elif isinstance(reduction, CallReduction):
                plan.of_calls[number] = reduction
        plan.nothing_before.update(
            dict.fromkeys(plan.of_tensors["previous"], _NO_INPUT_OF_ITS_OWN)
        )
        return plan

    def reduce(
        self,
        run: Run,
        role: Role,
        tensors: list[Tensor],
        afresh: bool = False,
        missing: Problem = _NO_TENSOR,
    ) -> Pieces:
        """What is kept of some tensors together, in every way that this role needs."""
        reductions = self.of_tensors[role]
        if not reductions:
            return {}
        if not tensors:
            return dict.fromkeys(reductions, missing)
        pieces: Pieces = {}
        (tensor,) = tensors if len(tensors) == 1 else (None,)
        changes = None if tensor is None else version(tensor)
        if tensor is not None and changes is not None:
            seen = None if afresh else run.seen.get(id(tensor))
            # A change through tensor.data between two layers goes unnoticed.
            if seen and seen.tensor() is tensor and seen.version == changes:
                pieces = seen.pieces
            else:
                run.seen[id(tensor)] = Seen(weakref.ref(tensor), changes, pieces)
        for number, reduction in reductions.items():
            if number not in pieces:
                pieces[number] = reduced(run, role, reduction, tensors)
        return pieces


def _not_yet(layer: str) -> Problem:
    return Problem(
        f"It does not apply: {layer!r}, which it refers to, is not called before this layer.",
        applies=False,
    )
