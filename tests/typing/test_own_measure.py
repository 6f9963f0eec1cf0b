"""The typed measure, run."""

from __future__ import annotations

from tests.typing.own_measure import own_measure


def test_own_measure() -> None:
    own_measure()
