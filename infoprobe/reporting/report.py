"""The result of a measuring session: rows, and ways to read them."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoprobe.errors import ArgumentValueError
from infoprobe.reporting import html as page
from infoprobe.reporting import ledger, plot
from infoprobe.reporting.ledger import Ledger

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

_FORMAT = "infoprobe report"
_VERSION = 1
_NUMBERS = ("value", "stderr")
# How many findings a printed report spells out.
_NOTES = 3


@dataclass(frozen=True, repr=False)
class Report:
    """One row a layer, direction, call and measure.

    Attributes:
        rows: Dictionaries with the keys ``layer, type, direction`` (``"forward"`` or
            ``"inverse"``), ``call`` (numbers the calls of a layer within one pass), ``order``
            (of first appearance), ``step`` (the pass with which a window of steps began, if
            steps are tracked, else ``None``), ``measure, estimator, reference, value, stderr,
            unit, kind`` (``"discrete"``, ``"differential"`` or ``"exact"``), ``n`` (samples),
            ``d`` (values of one sample), ``findings`` (sentences on how far to trust the value).
            The value is ``None`` where a measure does not apply; the findings then say why.
    """

    rows: list[dict[str, Any]]

    @property
    def steps(self) -> list[int]:
        """The steps of the rows, if steps were tracked."""
        return sorted({row["step"] for row in self.rows if row["step"] is not None})

    def at(self, step: int) -> Report:
        """The rows of one of the :attr:`steps`.

        Raises:
            ValueError: No row has this step.
        """
        if step not in self.steps:
            there = ", ".join(map(str, self.steps)) or "none, since no steps were tracked"
            raise ArgumentValueError(
                "step", f"expected one of the report's steps, got {step!r}: {there}."
            )
        return Report([row for row in self.rows if row["step"] == step])

    def scalars(self) -> dict[str, float]:
        """``{"layer/direction/measure": value}``, for any logger.

        A reference is appended to the measure (``conv1/forward/divergence_input``), a repeated
        call to the layer (``conv1#1/...``), and the estimator to the measure where two rows
        would otherwise have the same key. Rows without a value are left out. If steps were
        tracked, these are the values of the last one.

        Example:
            With TensorBoard: ``for key, value in report.scalars().items():
            writer.add_scalar(key, value, step)``; with W&B: ``wandb.log(report.scalars())``.
        """
        rows = self._latest().rows
        keys = [_scalar_key(row) for row in rows]
        times = Counter(keys)
        return {
            key if times[key] == 1 else f"{key}[{row['estimator']}]": row["value"]
            for key, row in zip(keys, rows, strict=True)
            if row["value"] is not None
        }

    def _latest(self) -> Report:
        return self.at(self.steps[-1]) if self.steps else self

    def to_dataframe(self) -> pandas.DataFrame:
        """The rows as a pandas DataFrame. Needs the extra ``infoprobe[dataframe]``."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_dataframe() needs pandas: pip install 'infoprobe[dataframe]'. "
                "report.rows holds the same as a list of dictionaries."
            ) from error
        return pandas.DataFrame(self.rows)

    def plot(
        self, measure: str = "entropy", reference: str | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draws a measure over the layers, in the order in which they were called.

        Values with findings have hollow markers, infinite ones are triangles at the top. If
        several steps were tracked, each layer is a line over the steps instead.

        Arguments:
            measure: Of the rows to draw, such as ``"entropy"`` or ``"divergence"``.
            reference: Draws only rows with this reference; ``None`` draws a line for each.
            ax: Where to draw; ``None`` makes a new figure.

        Returns:
            The axes. Nothing is shown or saved. Needs the extra ``infoprobe[plot]``.

        Raises:
            ValueError: No row has this measure and reference.
        """
        return plot.layers(self.rows, measure, reference, ax)

    def ledger(self) -> Ledger:
        """The exact changes of entropy along a pass, summed up, and estimates of the same.

        Needs rows of :class:`~infoprobe.EntropyChange`; entropies that were measured with it are
        shown as changes beside it. Layers that are not invertible are no part of the sum. Choose
        either a whole graph or its parts as layers, so that nothing is summed twice.

        Raises:
            ValueError: There are no such rows.
        """
        return ledger.ledger(self._latest().rows)

    def to_html(self, path: str | Path, title: str = "infoprobe report") -> None:
        """Writes a page with figures, the table and all findings, which needs no other file.

        Of several steps, the table has the last one. Needs the extra ``infoprobe[plot]``.

        Arguments:
            path: Where to.
            title: The page's heading.

        Raises:
            ImportError: matplotlib is not installed.
        """
        text = page.page(self.rows, self._latest().rows, title)
        Path(path).write_text(text, encoding="utf-8")

    def save(self, path: str | Path) -> None:
        """Writes the report as a JSON file."""
        rows = [{key: _encode(key, value) for key, value in row.items()} for row in self.rows]
        document = {"format": _FORMAT, "version": _VERSION, "rows": rows}
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: The file is no report, or one of a later version.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            known = document["format"] == _FORMAT and document["version"] == _VERSION
            rows = [{key: _decode(key, x) for key, x in row.items()} for row in document["rows"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArgumentValueError(
                str(path), "expected a file made by Report.save()."
            ) from error
        if not known:
            raise ArgumentValueError(
                str(path),
                f"expected a report of version {_VERSION}, got {document['format']!r} of "
                f"version {document['version']!r}. Update infoprobe, or measure again.",
            )
        return cls(rows)

    def __repr__(self) -> str:
        """A table with a line a layer, direction and call, and a column a measure.

        Of several steps, the last one.
        """
        if not self.rows:
            return "Report: nothing measured"
        if len(self.steps) > 1:
            steps = f"{len(self.steps)} steps, {self.steps[0]} to {self.steps[-1]}; the last:"
            return f"{steps}\n{self._latest()!r}"
        estimators = list(dict.fromkeys(row["estimator"] for row in self.rows))
        marks = [f" [{i}]" if len(estimators) > 1 else "" for i in range(1, len(estimators) + 1)]
        mark_of = dict(zip(estimators, marks, strict=True))
        lines: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
        for row in self.rows:
            column = plot.label(row["measure"], row["reference"]) + mark_of[row["estimator"]]
            lines.setdefault((row["layer"], row["direction"], row["call"]), {})[column] = row
        columns = list(dict.fromkeys(column for line in lines.values() for column in line))
        table = [["layer", "type", "direction", "n", "d", *columns]]
        for (layer, direction, call), line in lines.items():
            row = next(iter(line.values()))
            name = f"{layer} #{call}" if call else layer
            width = "-" if row["d"] is None else f"{row['d']:,g}"
            cells = [_cell(line.get(column)) for column in columns]
            table.append([name, row["type"], direction, f"{row['n']:,}", width, *cells])
        notes = [f"{row_mark.strip()} {x}".strip() for x, row_mark in mark_of.items()]
        notes[0] = f"{self.rows[0]['unit']}; {notes[0]}"
        noted = [(_scalar_key(row), row["findings"][0]) for row in self.rows if row["findings"]]
        notes += [f"* {key}: {finding}" for key, finding in noted[:_NOTES]]
        if len(noted) > _NOTES:
            notes.append(f"* and {len(noted) - _NOTES} more values with findings in report.rows")
        return "\n".join([_aligned(table, left=3), *notes])


def _scalar_key(row: dict[str, Any]) -> str:
    call = f"#{row['call']}" if row["call"] else ""
    reference = f"_{row['reference']}" if row["reference"] else ""
    return f"{row['layer']}{call}/{row['direction']}/{row['measure']}{reference}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "- "
    return f"{row['value']:.4f}" + ("*" if row["findings"] else " ")


def _aligned(table: list[list[str]], left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
    return "\n".join(lines)


def _encode(key: str, value: Any) -> Any:
    """Standard JSON has no infinities: they become the strings that float() reads."""
    infinite = key in _NUMBERS and value is not None and not math.isfinite(value)
    return str(value) if infinite else value


def _decode(key: str, value: Any) -> Any:
    return float(value) if key in _NUMBERS and isinstance(value, str) else value
