"""The data-processing inequality: no layer adds information about what went into the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from infoprobe.findings import Finding
from infoprobe.probing.measures.base import Measure
from infoprobe.reporting.pivot import Column
from infoprobe.rows import LayerCall, Row

# By how much information may seem to rise: in standard errors, in nats besides, and where the
# standard errors are not known, in nats or as a share.
_ERRORS, _BESIDES = 3.0, 0.02
_UNKNOWN, _SHARE = 0.1, 0.05


def add_findings_on_processing(
    rows: Sequence[Row],
    follows: Mapping[LayerCall, LayerCall | None],
    measures: Sequence[Measure],
) -> None:
    r"""Adds a finding to rows in which information rises from a layer to the next.

    Where a layer is given another layer's output T and nothing else, and returns T', then
    :math:`I(X; T') \le I(X; T)` for the model's input and for the target.

    Arguments:
        rows: The rows of all layers.
        follows: For each call, the call whose output it was given.
        measures: The measures that were computed.
    """
    falling = {measure.full_name for measure in measures if measure.never_rises}
    known = {
        (LayerCall.of(row), Column.of(row)): row
        for row in rows
        if row["measure"] in falling and row["reference"] != "previous"
    }
    for (call, column), row in known.items():
        source = follows.get(call)
        before = None if source is None else known.get((source, column))
        value, lower = row["value"], None if before is None else before["value"]
        if before is None or value is None or lower is None:
            continue
        if value - lower > _margin(before, row, lower):
            finding = Finding(
                "warning",
                f"this is {value - lower:.2f} nats more than at {LayerCall.of(before).name}, "
                "whose output is all that went into the layer, and no layer adds information",
                value - lower,
                "At least one of the two is off by more than its error. Use more samples, or "
                "another estimator.",
                code="data-processing",
            )
            row["findings"].append(str(finding))


def _margin(before: Row, after: Row, value: float) -> float:
    errors = before["stderr"], after["stderr"]
    if errors[0] is None or errors[1] is None:
        return max(_UNKNOWN, _SHARE * abs(value))
    return _ERRORS * math.hypot(errors[0], errors[1]) + _BESIDES
