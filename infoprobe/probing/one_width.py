"""Brings the values of all layers onto bins of one width, so that they can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from infoprobe.findings import Finding
from infoprobe.probing.measures.levels import Levels
from infoprobe.rows import Row

# With fewer bins than these, the shape of a layer's distribution is lost.
_FEW = 8


class DraftRow(Row, total=False):
    """A row whose value may still be brought onto wider bins.

    Attributes:
        levels: The value on bins of all widths.
    """

    levels: Levels


def settled(row: DraftRow) -> DraftRow:
    """The draft without the counts that its levels would be computed from."""
    if "levels" in row:
        row["levels"] = Levels(row["levels"].own, row["levels"].all())
    return row


def state_of(row: DraftRow) -> dict[str, Any]:
    """A draft as plain data."""
    state: dict[str, Any] = dict(row)
    if "levels" in row:
        state["levels"] = row["levels"].state()
    return state


def from_state(state: dict[str, Any]) -> DraftRow:
    """The draft that :func:`state_of` describes."""
    row = dict(state)
    if "levels" in row:
        row["levels"] = Levels.from_state(row["levels"])
    return cast("DraftRow", row)


def on_one_width(drafts: Sequence[DraftRow]) -> tuple[list[Row], dict[str, float]]:
    """The rows of all layers and steps, and the width of the bins of each estimator.

    The width is the one that fits the most rows. A row does not fit if its own bins are wider,
    or if its values would be left with fewer than eight bins, though their own are more. Of
    widths that fit equally many rows it is the widest.

    Arguments:
        drafts: The rows, each with its levels if it has any.
    """
    by_estimator: dict[str, list[Levels]] = {}
    for draft in drafts:
        if "levels" in draft:
            by_estimator.setdefault(draft["estimator"], []).append(draft["levels"])
    chosen = {estimator: _level(levels) for estimator, levels in by_estimator.items()}
    rows = [_row(draft, chosen) for draft in drafts]
    return rows, {estimator: 2.0 ** (e - 1) * 2 for estimator, e in chosen.items()}


def _level(levels: Sequence[Levels]) -> int:
    candidates = {each.own for each in levels}
    misfits = {e: sum(each.own > e or _is_coarse(each, e) for each in levels) for e in candidates}
    return max(candidates, key=lambda e: (-misfits[e], e))


def _is_coarse(levels: Levels, exponent: int) -> bool:
    return levels.occupied(exponent) < _FEW <= levels.occupied(levels.own)


def _row(draft: DraftRow, chosen: dict[str, int]) -> Row:
    row = cast("Row", {key: value for key, value in draft.items() if key != "levels"})
    if "levels" not in draft:
        return row
    levels, exponent = draft["levels"], chosen[draft["estimator"]]
    own = levels.at(levels.own)
    level = levels.at(max(exponent, levels.own))
    findings = list(level.findings)
    if levels.own > exponent:
        findings.append(str(_wider(levels.own - exponent)))
    elif _is_coarse(levels, exponent):
        findings.append(str(_coarse(level.occupied, own.occupied)))
    others = [finding for finding in draft["findings"] if finding not in own.findings]
    row["value"], row["stderr"] = level.value, level.stderr
    row["findings"] = [*findings, *others]
    return row


def _wider(doublings: int) -> Finding:
    most = doublings * math.log(2)
    return Finding(
        "warning",
        f"the values reach so far that their bins are {1 << doublings:,} times as wide as those "
        f"of other layers, in which the entropy would be up to {most:.2f} nats larger",
        most,
        "To compare this layer, give all an explicit range=(low, high) with outside='clip'.",
        code="wider-bins",
    )


def _coarse(occupied: int, own: int) -> Finding:
    return Finding(
        "warning",
        f"in bins as wide as those of other layers, the values fill {occupied} bins instead of "
        f"{own}",
        occupied,
        "Read it as 'narrow'; h.entropy(probe.counts(layer)) has the layer's own bins.",
        code="coarse-bins",
    )
