"""The exact changes of entropy along a pass, their sums, and estimates of the same changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from infoprobe.directions import Direction
from infoprobe.errors import ArgumentValueError
from infoprobe.findings import code_of
from infoprobe.libraries.log_determinants import CONDITIONAL
from infoprobe.reporting import ledger_plot
from infoprobe.reporting.collection import Rows
from infoprobe.reporting.frames import frame
from infoprobe.reporting.names import short_names
from infoprobe.reporting.table import aligned, number
from infoprobe.rows import LayerCall, Row, numbered

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


class LedgerTotal(TypedDict):
    """The sums over the layers of one direction.

    Attributes:
        exact: The sum of the means of log|det J|.
        stderr: The sum of the standard errors of the layers. All layers see the same samples, so
            the standard error of the total is at most this sum. It is NaN where the standard
            error of a layer is not known.
        estimates: For the ``repr`` of each estimator, the sum of its estimated changes, or
            ``None`` where one of them is missing.
    """

    exact: float
    stderr: float
    estimates: dict[str, float | None]


class LedgerRow(TypedDict):
    """What one call of an invertible layer adds to differential entropy.

    Attributes:
        layer: The name of the layer in the user's model.
        direction: ``"forward"`` or ``"inverse"``.
        call: The number of this call among the calls of the layer within one pass, from 0.
        conditional: Whether the layer was given a condition c. Then the exact change is that of
            the entropy given the condition, h(output|c) - h(input|c).
        exact: The mean of log|det J|.
        stderr: The standard error of this mean, or ``None`` where it is not known.
        estimates: For the ``repr`` of each estimator whose entropies were measured, too, the
            entropy of the layer's output minus that of its input. It is
            ``None`` where one of the two is missing, and at a conditional layer, since an
            estimator does not know of the condition.
    """

    layer: str
    direction: Direction
    call: int
    conditional: bool
    exact: float
    stderr: float | None
    estimates: dict[str, float | None]


@dataclass(frozen=True, repr=False)
class Ledger(Rows[LedgerRow]):
    r"""What each invertible layer of a pass adds to differential entropy, and the sums.

    Attributes:
        rows: A dictionary for each call of an invertible layer, with the keys of
            :class:`LedgerRow`: ``layer, direction, call, conditional, exact, stderr,
            estimates``.
        totals: For each direction, a dictionary with the keys of :class:`LedgerTotal`:
            ``exact, stderr, estimates``.
        unit: The unit of all of them: ``"nats"``, unless the report is in another one.
    """

    rows: list[LedgerRow]
    totals: dict[Direction, LedgerTotal]
    unit: str = "nats"

    def __repr__(self) -> str:
        """A table with a line for each layer and direction, and the totals."""
        columns = self._estimators
        names = short_names(columns)
        table = [["layer", "direction", "exact", "stderr", *map(names.__getitem__, columns)]]
        for direction, total in self.totals.items():
            for row in self.rows:
                if row["direction"] == direction:
                    name = numbered(row["layer"], row["call"])
                    name += " | c" if row["conditional"] else ""
                    table.append([name, direction, *_cells(row, columns)])
            table.append(["total", direction, *_cells(total, columns)])
        notes = [f"{self.unit}; the standard error of a total is at most the one given"]
        if any(row["conditional"] for row in self.rows):
            notes.append("| c: given a condition, exact is h(output|c) - h(input|c)")
        return "\n".join([aligned(table, left=2), *notes])

    @property
    def _estimators(self) -> list[str]:
        return list(self.totals and next(iter(self.totals.values()))["estimates"])

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns the rows as a pandas DataFrame; needs the extra ``infoprobe[dataframe]``.

        Each estimator has a column, headed by its short name.
        """
        names = short_names(self._estimators)
        lines = []
        for row in self.rows:
            line: dict[str, object] = {k: x for k, x in row.items() if k != "estimates"}
            lines.append(line | {names[k]: x for k, x in row["estimates"].items()})
        return frame(lines, "ledger")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the exact change of entropy at every layer, and the estimates of the same change.

        The bars at the exact values are the interval of 95 % that the standard errors give. Needs
        the extra ``infoprobe[plot]``.

        Arguments:
            ax: The axes to draw on; ``None`` makes a new figure.

        Returns:
            The axes. The figure is neither shown nor saved.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return ledger_plot.draw(self.rows, self.unit, short_names(self._estimators), ax)


def ledger(rows: list[Row]) -> Ledger:
    """The ledger of a report.

    Arguments:
        rows: The rows of the report, all of one step.

    Raises:
        ValueError: No row is of :class:`~infoprobe.EntropyChange`.
    """
    changes: dict[LayerCall, Row] = {}
    entropies: dict[str, dict[LayerCall, float | None]] = {}
    inputs: dict[str, dict[LayerCall, float | None]] = {}
    for row in rows:
        layer_call = LayerCall.of(row)
        if row["measure"] == "entropy_change":
            changes[layer_call] = row
        elif row["measure"] == "entropy":
            entropies.setdefault(row["estimator"], {})[layer_call] = row["value"]
        elif row["measure"] == "input_entropy":
            inputs.setdefault(row["estimator"], {})[layer_call] = row["value"]
    if not changes:
        raise ArgumentValueError(
            "ledger",
            "expected rows of ip.EntropyChange(), and the report has none. Probe an "
            "invertible network with measures=[ip.EntropyChange(), ...].",
        )
    lines: list[LedgerRow] = []
    before: dict[Direction, LayerCall] = {}
    for layer_call, row in changes.items():
        direction = layer_call.direction
        if row["value"] is not None:
            previous = before.get(direction)
            conditional = CONDITIONAL in map(code_of, row["findings"])
            estimates: dict[str, float | None] = {}
            for estimator, values in entropies.items():
                # Where the input is not the output before, it was measured by itself.
                own = inputs.get(estimator, {})
                before_it = None if previous is None else values.get(previous)
                change = _difference(values.get(layer_call), own.get(layer_call, before_it))
                estimates[estimator] = None if conditional else change
            lines.append(
                {
                    "layer": layer_call.layer,
                    "direction": direction,
                    "call": layer_call.call,
                    "conditional": conditional,
                    "exact": row["value"],
                    "stderr": row["stderr"],
                    "estimates": estimates,
                }
            )
        before[direction] = layer_call
    directions = dict.fromkeys(line["direction"] for line in lines)
    totals = {way: _total(lines, way, list(entropies)) for way in directions}
    return Ledger(lines, totals, next(iter(changes.values()))["unit"])


def _total(lines: list[LedgerRow], direction: Direction, estimators: list[str]) -> LedgerTotal:
    own = [line for line in lines if line["direction"] == direction]
    changes = {name: [line["estimates"][name] for line in own] for name in estimators}
    return {
        "exact": sum(line["exact"] for line in own),
        "stderr": sum(math.nan if x["stderr"] is None else x["stderr"] for x in own),
        "estimates": {name: _sum(values) for name, values in changes.items()},
    }


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _cells(line: LedgerRow | LedgerTotal, columns: list[str]) -> list[str]:
    values = [line["exact"], line["stderr"], *(line["estimates"][name] for name in columns)]
    return [number(value) for value in values]
