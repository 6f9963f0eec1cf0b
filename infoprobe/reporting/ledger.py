"""The exact changes of entropy along a pass, summed up, with estimates of the same beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from infoprobe.errors import ArgumentValueError

_Place = tuple[str, str, int]


@dataclass(frozen=True, repr=False)
class Ledger:
    r"""What each invertible layer of a pass adds to differential entropy, and their sums.

    Attributes:
        rows: Dictionaries with the keys ``layer, direction, call``; ``exact`` (the mean of
            log|det J| in nats) and ``stderr``; ``estimates``: for each estimator of the entropies
            that were measured, too, by how much its estimate of the layer's output differs from
            that of the row before in this direction, ``None`` where one is missing.
        totals: For each direction, a dictionary with the sums of the same under the keys
            ``exact``, ``stderr`` and ``estimates``. Layers see the same samples, so the standard
            error of the sum is at most the sum of theirs, which is given.
    """

    rows: list[dict[str, Any]]
    totals: dict[str, dict[str, Any]]

    def __repr__(self) -> str:
        """A table with a line a layer and direction, and the sums below."""
        columns = list(self.totals and next(iter(self.totals.values()))["estimates"])
        table = [["layer", "direction", "exact", "stderr", *columns]]
        for direction, total in self.totals.items():
            for row in self.rows:
                if row["direction"] == direction:
                    name = f"{row['layer']} #{row['call']}" if row["call"] else row["layer"]
                    table.append([name, direction, *_cells(row, columns)])
            table.append(["total", direction, *_cells(total, columns)])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        return "\n".join([*lines, "nats; the standard error of a total is at most what is given"])


def ledger(rows: list[dict[str, Any]]) -> Ledger:
    """The ledger of a report's rows, all of one step."""
    places: dict[_Place, dict[str, Any]] = {}
    entropies: dict[str, dict[_Place, float | None]] = {}
    for row in rows:
        place = row["layer"], row["direction"], row["call"]
        if row["measure"] == "entropy_change":
            places[place] = row
        elif row["measure"] == "entropy":
            entropies.setdefault(row["estimator"], {})[place] = row["value"]
    if not places:
        raise ArgumentValueError(
            "ledger",
            "expected rows of ip.EntropyChange(), and the report has none. Probe an "
            "invertible network with measures=[ip.EntropyChange(), ...].",
        )
    lines = []
    before: dict[str, _Place] = {}
    for place, row in places.items():
        if row["value"] is not None:
            changes = {
                estimator: _difference(values.get(place), values.get(before.get(place[1], place)))
                for estimator, values in entropies.items()
            }
            line = {"layer": place[0], "direction": place[1], "call": place[2]}
            lines.append(
                {**line, "exact": row["value"], "stderr": row["stderr"], "estimates": changes}
            )
        before[place[1]] = place
    directions = dict.fromkeys(line["direction"] for line in lines)
    return Ledger(lines, {way: _total(lines, way, list(entropies)) for way in directions})


def _total(lines: list[dict[str, Any]], direction: str, estimators: list[str]) -> dict[str, Any]:
    own = [line for line in lines if line["direction"] == direction]
    errors = [math.nan if line["stderr"] is None else line["stderr"] for line in own]
    sums = {}
    for estimator in estimators:
        changes = [line["estimates"][estimator] for line in own]
        sums[estimator] = None if None in changes else sum(changes)
    return {
        "exact": sum(line["exact"] for line in own),
        "stderr": sum(errors),
        "estimates": sums,
    }


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _cells(line: dict[str, Any], columns: list[str]) -> list[str]:
    values = [line["exact"], line["stderr"], *(line["estimates"][name] for name in columns)]
    return ["-" if value is None else f"{value:.4f}" for value in values]
