"""From what a probe has kept to the rows of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from infoprobe.errors import ArgumentError
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.base import Kept
from infoprobe.probing.kept.marks import Repeats
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.probing.measures.levels import Levels
from infoprobe.probing.one_width import DraftRow
from infoprobe.probing.padding import finding_on
from infoprobe.probing.processing import add_findings_on_processing
from infoprobe.probing.record import Record
from infoprobe.probing.roles import Role
from infoprobe.progress import progress_bar
from infoprobe.rows import LayerCall


def draft_rows(record: Record, step: int | None = None) -> list[DraftRow]:
    """One row for each layer, direction, call and measure of a record, all of the given ``step``.

    Optional measures have rows only where there was something to keep for them.
    """
    wanted = [
        (order, call, measure, needs, kept)
        for order, (call, kept) in enumerate(list(record.calls.items()))
        for measure, needs in zip(record.measures, record.needs_of, strict=True)
        if not (measure.optional and all(kept[need].is_untouched for need in needs))
    ]
    rows = []
    with progress_bar(len(wanted), "report", unit="row") as bar:
        for each in wanted:
            rows.append(_row(record, *each, step))
            bar.update()
    follows = {call: known.follows for call, known in list(record.circumstances.items())}
    add_findings_on_processing(rows, follows, record.measures)
    return rows


def _row(
    record: Record,
    order: int,
    call: LayerCall,
    measure: Measure,
    needs: Sequence[Need],
    kept: Mapping[Need, Kept[Any]],
    step: int | None,
) -> DraftRow:
    used = {need: kept[need] for need in needs}
    output = used[needs[-1]]
    used_samples: dict[Need, int] = {}
    reading: Reading | None = None
    # First of all, which tensors the value is about.
    findings = list(dict.fromkeys(note for x in used.values() for note in sorted(x.notes)))
    again: list[Repeats] = []
    levels: Levels | None = None
    if not any(kept.is_empty for kept in used.values()):
        values, again = _together(record, measure, used)
        used_samples = {need: len(x) for need, x in values.items() if isinstance(x, Tensor)}
        given = [values[need] for need in needs]
        try:
            known = record.circumstances.get(call, Circumstances())
            circumstances = replace(known, window=step is not None)
            findings += map(str, measure.remarks(circumstances, *given))
            reading = measure.compute(*given).as_numbers()
            findings += reading.findings
            independent = any(need.reduction.takes_for_independent for need in needs)
            if record.occurrences is not None and reading.stderr is not None and independent:
                findings += map(str, record.occurrences.findings())
            levels = measure.levels(reading, *given)
        except Exception as error:
            # One layer without a value must not hide the others, nor stop a training.
            findings.append(_why_none(measure, error))
    row: DraftRow = {
        "layer": call.layer,
        "type": call.type,
        "direction": call.direction,
        "call": call.call,
        "order": order,
        "step": step,
        "measure": measure.full_name,
        "estimator": measure.method,
        "reference": measure.reference,
        "value": None if reading is None else reading.value,
        "stderr": None if reading is None else reading.stderr,
        "unit": measure.unit,
        "kind": measure.kind,
        "n": used_samples.get(list(used)[-1], output.n),
        "d": output.width,
        "findings": [*findings, *_remarks(record, used, used_samples, again)],
    }
    if levels is not None:
        row["levels"] = levels
    return row


def _together(
    record: Record, measure: Measure, used: Mapping[Need, Kept[Any]]
) -> tuple[dict[Need, Any], list[Repeats]]:
    """What a measure computes from, for each of its needs, and what came several times."""
    values: dict[Need, Any] = {}
    again: list[Repeats] = []
    for reduction in dict.fromkeys(need.reduction for need in used):
        needs = [need for need in used if need.reduction == reduction]
        kept = [used[need] for need in needs]
        reservoir = record.reservoirs.get(reduction)
        found = reduction.together(kept, reservoir)
        if measure.distinct and isinstance(reduction, Sampling) and reservoir is not None:
            again.append(reduction.repeats(kept, reservoir))
            if again[-1].same.any():
                found = [x[~again[-1].same] for x in found if isinstance(x, Tensor)]
        values |= zip(needs, found, strict=True)
    return values, again


def _remarks(
    record: Record,
    used: Mapping[Need, Kept[Any]],
    used_samples: Mapping[Need, int],
    again: list[Repeats],
) -> Iterator[str]:
    """What a reader should know of the data."""
    for repeats in again:
        yield from map(str, repeats.findings())
    left_out = sum(int(repeats.same.sum()) for repeats in again)
    for reduction in dict.fromkeys(need.reduction for need in used):
        kept: dict[Role, Kept[Any]] = {
            need.role: x for need, x in used.items() if need.reduction == reduction
        }
        last = next(need for need in reversed(list(used)) if need.reduction == reduction)
        n = used_samples.get(last, used[last].n) + left_out
        yield from reduction.remarks(kept, n, record.seed, record.reservoirs.get(reduction))
    padding = finding_on([x.padded for x in used.values()], record.passes)
    if padding is not None:
        yield str(padding)
    for x in used.values():
        yield from x.remarks()
    yield from record.doubts


def _why_none(measure: Measure, error: Exception) -> str:
    if isinstance(error, ArgumentError):
        return measure.why_none(error)
    expected = isinstance(error, (TypeError, ValueError))
    return str(error) if expected else f"{type(error).__name__}: {error}"
