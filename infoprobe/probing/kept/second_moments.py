"""Second moments that are kept: the mean and the covariance of all samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.errors import GROUPS
from infoprobe.estimators.moments import GroupedMoments, SecondMoments, add_outer, groups_for
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.base import MERGED, Kept, Piece, Problem, TensorReduction
from infoprobe.probing.kept.damage import count_of
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, most, total
from infoprobe.probing.processes.means import Means, common_means
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.probing.roles import Role, described
from infoprobe.probing.selection import DoesNotApplyError, Select, require_select

# Samples with more values than these are projected, to the second number of directions.
_WIDEST, _PROJECTED = 4096, 1024


@dataclass(frozen=True, eq=False)
class SecondMomentsPiece(Piece):
    """The moments of one call.

    Attributes:
        groups: The moments of each group of samples.
    """

    groups: Mapping[int, SecondMoments]


@dataclass(eq=False)
class KeptSecondMoments(Kept[SecondMomentsPiece]):
    """The moments of the tensors that had one role at one call of a layer.

    Attributes:
        groups: The moments of each group of samples.
    """

    groups: dict[int, SecondMoments] = field(default_factory=dict)
    _together: GroupedMoments | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return not self.groups

    @property
    def moments(self) -> GroupedMoments | None:
        """The moments of all calls; ``None`` before the first one.

        It is one object until the next call, so that measures share what is found from it.
        """
        if self.groups and self._together is None:
            self._together = GroupedMoments([self.groups[i] for i in sorted(self.groups)])
        return self._together

    def remarks(self) -> Iterator[str]:
        """What a reader should know of the calls that were measured and left out."""
        yield from super().remarks()
        refused = sum(int(moments.refused) for moments in self.groups.values())
        if refused:
            yield f"{refused:,} batches with values that are not finite were left out."

    def _add(self, piece: SecondMomentsPiece, run: Pass) -> bool:
        self._require_same_width(piece.groups)
        self._together = None
        for group, moments in piece.groups.items():
            before = self.groups.get(group)
            self.groups[group] = moments if before is None else run.sum(before, moments)
        return False

    def _merge(self, other: KeptSecondMoments, merging: Merging | None) -> None:
        widths = [x.d for kept in (self, other) for x in list(kept.groups.values())[:1]]
        if len(set(widths)) > 1:
            self.leave_out(Problem(_other_width(*widths)), MERGED)
            self._uncount(other.n, other.values)
            return
        self._together = None
        for group, moments in other.groups.items():
            before = self.groups.get(group)
            self.groups[group] = moments if before is None else before + moments

    def outline(self) -> dict[str, Any]:
        """What processes must agree on: how many values the samples have."""
        return {**super().outline(), "widths": {x.d: None for x in self.groups.values()}}

    def _disagreement(self, agreed: Mapping[str, Any]) -> str:
        widths = list(agreed["widths"])
        if len(widths) < 2:
            return ""
        return f"{MERGED} could not be measured: {_other_width(*widths[:2])}"

    def _is_odd(self, agreed: Mapping[str, Any]) -> bool:
        width = next(iter(agreed["widths"]), None)
        return any(x.d != width for x in self.groups.values())

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[KeptSecondMoments, KeptSecondMoments]]:
        width = next(iter(agreed["widths"]), None)
        if width is None:  # nobody has seen anything
            return KeptSecondMoments(), KeptSecondMoments()
        mine = {} if self._is_odd(agreed) else self.groups
        there = torch.zeros(GROUPS, dtype=torch.int64, device="cpu")
        there[list(mine)] = 1
        groups = (yield most(there)).nonzero().squeeze(1).tolist()
        none = SecondMoments.none(width)
        both = yield from pooled([mine.get(group, none).to("cpu") for group in groups])
        whole, rest = (dict(zip(groups, found, strict=True)) for found in both)
        rest = {group: moments for group, moments in rest.items() if not moments.is_empty}
        return KeptSecondMoments(groups=whole), KeptSecondMoments(groups=rest)

    def _require_same_width(self, groups: Mapping[int, SecondMoments]) -> None:
        for mine, theirs in zip(self.groups.values(), groups.values(), strict=False):
            mine.require_same_width(theirs)

    def _state(self) -> dict[str, Any]:
        return {"groups": {i: self.groups[i].state_dict() for i in sorted(self.groups)}}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._together = None
        self.groups = {
            count_of(group): SecondMoments.from_state_dict(moments)
            for group, moments in state["groups"].items()
        }


def _other_width(expected: int, got: int) -> str:
    return f"expected samples of {expected:,} values, got {got:,}."


def pooled(
    own: Sequence[SecondMoments],
) -> Answered[tuple[list[SecondMoments], list[SecondMoments]]]:
    """The moments of what all processes have, and of what all but this one have.

    Arguments:
        own: Those of each group of samples here, on the CPU.
    """
    n, mean, panels, refused = (
        torch.stack([getattr(x, name) for x in own]) for name in ("n", "mean", "panels", "refused")
    )
    whole, rest = yield from common_means(Means(n, mean))
    _add_outers(panels, mean - whole.mean, n)
    everything = yield total(panels)
    together = yield total(refused)
    coarsest = torch.tensor(max(x.eps for x in own), dtype=torch.float64, device="cpu")
    eps = float((yield most(coarsest)))

    def moments(known: Means, panels: Tensor, refused: Tensor) -> list[SecondMoments]:
        _add_outers(panels, known.mean - whole.mean, -known.n)
        panels = torch.where(known.n.unsqueeze(1) > 0, panels, 0.0)
        parts = zip(*known, panels, refused, strict=True)
        return [SecondMoments(*part, eps) for part in parts]

    others = everything - panels
    return moments(whole, everything, together), moments(rest, others, together - refused)


def _add_outers(panels: Tensor, apart: Tensor, n: Tensor) -> None:
    """Adds n times the outer product of each group's vector to the group's panels."""
    for each, x, weight in zip(panels, apart, n, strict=True):
        add_outer(each, x, x * weight)


@dataclass(frozen=True, eq=False)
class Correlating(TensorReduction):
    """The mean and the covariance of all samples are kept, in groups of whole sequences.

    Samples of d values take :math:`4 d^2` bytes and a little for each group: 10 MB in 32 groups
    at d = 256, 20 MB in 16 at 512, 38 MB in 8 at 1,024, and 290 MB in 4 at 4,096.

    Attributes:
        project: The number of random directions onto which wider samples are projected;
            ``None`` projects samples of more than 4,096 values onto 1,024.
        select: What the samples are: see :func:`infoprobe.probing.selection.require_select`.
    """

    project: int | None = None
    select: Select = None

    takes_for_independent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.project is not None:
            checks.require_integer_field(self, "project", 1)
        object.__setattr__(self, "select", require_select(self.select))

    def empty(self) -> KeptSecondMoments:
        """Nothing kept yet."""
        return KeptSecondMoments()

    def directions(self, width: float) -> int | None:
        """Onto how many directions samples of this width are projected; ``None`` if not."""
        most = _WIDEST if self.project is None else self.project
        return None if width <= most else _PROJECTED if self.project is None else self.project

    def reduce(self, tensors: list[Tensor], run: Pass) -> SecondMomentsPiece:
        """The moments of some tensors; those of several tensors side by side."""
        parts = [run.tokens.samples(self.select, checks.as_tensor(x, "x")) for x in tensors]
        if not all(x.is_floating_point() for x in parts):
            raise DoesNotApplyError(
                "x",
                "It does not apply: integers, such as token ids, are symbols, which have no "
                "covariance.",
            )
        parts = [x.flatten(1) if x.dim() > 1 else x.reshape(-1, 1) for x in parts]
        checks.require_same_length(**{f"x[{i}]": x for i, x in enumerate(parts)})
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        values = x.numel()
        x = run.choices.project(x, self.directions(x.shape[1]))
        groups = groups_for(x.shape[1])
        blocks = min(len(run.groups), groups)
        sizes = run.tokens.sizes(self.select, len(x), blocks)
        numbers = [(run.groups[0] + i) % groups for i in range(blocks)]
        return SecondMomentsPiece(
            n=len(x),
            values=values,
            groups={
                number: SecondMoments.of(part)
                for number, part in zip(numbers, torch.split(x, sizes), strict=True)
                if len(part)
            },
        )

    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> list[GroupedMoments | None]:
        """The moments of each."""
        return [x.moments for x in kept if isinstance(x, KeptSecondMoments)]

    def remarks(
        self,
        kept: Mapping[Role, Kept[Any]],
        used: int,
        seed: int,
        reservoir: Reservoir | None,
    ) -> Iterator[str]:
        """Which samples were projected."""
        for role, x in kept.items():
            directions = None if x.width is None else self.directions(x.width)
            if directions is not None:
                yield (
                    f"{described(role)} ({x.width:,g} dimensions) was projected onto "
                    f"{directions:,} random directions (seed {seed})."
                )
