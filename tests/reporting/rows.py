"""Rows of reports to test with."""

import infoprobe as ip
from infoprobe.rows import Row


def row(**columns) -> Row:
    plain = Row(
        layer="layer",
        type="Linear",
        direction="forward",
        call=0,
        order=0,
        step=None,
        measure="entropy",
        estimator="E()",
        reference=None,
        value=1.0,
        stderr=None,
        unit="nats",
        kind=None,
        n=5,
        d=2.0,
        findings=[],
    )
    return plain | columns


def report(*rows) -> ip.Report:
    return ip.Report([row(**columns) for columns in rows])
