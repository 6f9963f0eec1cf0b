"""The typed programs, run: their types are also those that come at run time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.typing import program
from tests.typing.own_estimator import own_estimator


@pytest.mark.parametrize(
    "part",
    [
        program.estimators,
        program.transports,
        program.plain_functions,
        program.trust,
        program.ledger,
        program.exact,
        program.datasets,
        own_estimator,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_parts(part: Callable[[], None]) -> None:
    part()


def test_reports(tmp_path: Path) -> None:
    program.reporting(program.probing(tmp_path), tmp_path)


def test_models(tmp_path: Path) -> None:
    program.models(tmp_path)
