"""The windows of passes that are over, whose measures are computed beside the training."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from infoprobe.probing.one_width import DraftRow, settled
from infoprobe.probing.record import Record


class Windows:
    """Computes the rows of windows in a thread, since a forward pass must not wait for them.

    At most one window waits to be computed, or is being computed: if the next one ends before
    that, its last pass waits. So memory holds two windows at most, and the rows.

    Attributes:
        rows: The rows of the windows that were computed.
    """

    def __init__(self, rows: Sequence[DraftRow] = ()) -> None:
        self.rows: list[DraftRow] = list(rows)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def add(self, step: int, record: Record) -> None:
        """Computes the rows of a record, which nobody changes any more."""
        self.wait()

        def compute() -> None:
            try:
                for _ in record.settle():
                    pass  # the rows say what was left out
                self.rows += map(settled, record.rows(step=step))
            except Exception as error:  # raised in the thread that asks for the rows
                self._error = error

        self._thread = threading.Thread(target=compute, name="infoprobe", daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Returns when all windows were computed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
