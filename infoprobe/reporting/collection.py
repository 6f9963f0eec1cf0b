"""What reports, comparisons and ledgers have in common: they are made of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

R = TypeVar("R")


class Rows(Generic[R]):
    """A result with rows: ``len`` counts them, and a loop goes over them."""

    rows: list[R]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows)
