"""The windows of passes that are over, whose measures are computed beside the training."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from infoprobe.findings import Finding
from infoprobe.probing.drafting import draft_rows
from infoprobe.probing.one_width import DraftRow, settled
from infoprobe.probing.record import Record

_ALONE = Finding(
    "warning",
    "this window is that of one process alone, where others are of all processes",
    1,
    "Call probe.sync() after each window: only the last one can still be added up.",
    code="window-of-one-process",
)


class Windows:
    """Computes the rows of windows in a thread, since a forward pass must not wait for them.

    At most one window waits to be computed, or is being computed: if the next one ends before
    that, its last pass waits. Until then its record is kept, for processes that tell each other.
    So memory holds two windows at most, and the rows.

    Attributes:
        rows: The rows of the windows that were computed.
        of_all: The rows of windows that several processes have measured together, by step.
        last: The last window's step, and its record.
    """

    def __init__(self, rows: Sequence[DraftRow] = ()) -> None:
        self.rows: list[DraftRow] = list(rows)
        self.of_all: dict[int, list[DraftRow]] = {}
        self.last: tuple[int, Record] | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def add(self, step: int, record: Record) -> None:
        """Computes the rows of a record, which nobody changes any more."""
        self.wait()
        self.last = step, record

        def compute() -> None:
            try:
                for _ in record.settle():
                    pass  # the rows say what was left out
                self.rows += _rows(step, record)
            except Exception as error:  # raised in the thread that asks for the rows
                self._error = error

        self._thread = threading.Thread(target=compute, name="infoprobe", daemon=False)
        self._thread.start()

    def replace_last(self, record: Record) -> None:
        """Reports another record in place of the last window's: that of all processes."""
        assert self.last is not None
        step, _ = self.last
        self.of_all[step] = _rows(step, record)

    @property
    def reported(self) -> list[DraftRow]:
        """The rows of all windows, of all processes where they are known."""
        own = [row for row in self.rows if row["step"] not in self.of_all]
        if self.of_all:
            own = [{**row, "findings": [*row["findings"], str(_ALONE)]} for row in own]
        rows = [*own, *(row for rows in self.of_all.values() for row in rows)]
        return sorted(rows, key=lambda row: row["step"] or 0) if self.of_all else rows

    def wait(self) -> None:
        """Returns when all windows were computed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def _rows(step: int, record: Record) -> list[DraftRow]:
    return [settled(row) for row in draft_rows(record, step)]
