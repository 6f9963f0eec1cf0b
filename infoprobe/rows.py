"""One row of a report, and how its layer and its measure are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypedDict

from infoprobe.directions import Direction

Kind = Literal["discrete", "differential", "exact"]
Label = Callable[[str | None], str]


class Row(TypedDict):
    """One row of a report: one measure at one call of one layer in one direction.

    Attributes:
        layer: The name of the layer in the user's model.
        type: The name of the layer's class, or ``"tap"`` for a point marked by
            :func:`~infoprobe.tap`.
        direction: ``"forward"`` or ``"inverse"``.
        call: The number of this call among the calls of the layer within one pass, from 0.
        order: The position of this call of the layer in order of first appearance, from 0.
        step: The number of the pass with which the window of steps began; ``None`` if no steps
            were tracked.
        measure: The name of the measure, such as ``"entropy"``, and behind an ``@`` what the
            samples are, if anything was selected: ``"entropy@tokens"``.
        estimator: The ``repr`` of the estimator, or the formula of an exact measure.
        reference: The tensor that the output is compared with: ``"previous"`` (the layer's
            input), ``"input"`` (the model's input), ``"target"`` or the name of another layer;
            ``None`` for a measure of the output alone.
        value: The value in ``unit``; ``None`` where the measure has no value at this layer,
            and then the findings say why.
        stderr: The standard error of the value in ``unit``; ``None`` where it is not known.
        unit: The unit of the value and of its standard error: ``"nats"``.
        kind: The kind of the quantity: of a ``"discrete"`` or a ``"differential"`` entropy, or
            ``"exact"`` where nothing is estimated; ``None`` where an estimator does not say.
        n: The number of samples that the value was computed from.
        d: The number of values in one sample; the mean number where samples differ in size,
            and ``None`` where no sample was seen.
        findings: What to know before trusting the value, one sentence or more each.
    """

    layer: str
    type: str
    direction: Direction
    call: int
    order: int
    step: int | None
    measure: str
    estimator: str
    reference: str | None
    value: float | None
    stderr: float | None
    unit: str
    kind: Kind | None
    n: int
    d: float | None
    findings: list[str]


def numbered(name: str, call: int) -> str:
    """The name of a layer with the number of its call, which the first call goes without."""
    return f"{name} #{call}" if call else name


class LayerCall(NamedTuple):
    """One call of a layer in one direction, with the keys of :class:`Row`."""

    layer: str
    type: str
    direction: Direction
    call: int

    @classmethod
    def of(cls, row: Row) -> LayerCall:
        """The call that a row is about."""
        return cls(row["layer"], row["type"], row["direction"], row["call"])

    @property
    def name(self) -> str:
        """How a table names it; the direction has a column of its own: ``conv1 #1``."""
        return numbered(self.layer, self.call)

    @property
    def tick(self) -> str:
        """How a figure names it: ``conv1⁻¹ #1``."""
        return numbered(self.layer + ("⁻¹" if self.direction == "inverse" else ""), self.call)

    @property
    def key(self) -> str:
        """How a logger names it: ``conv1#1/inverse``."""
        call = f"#{self.call}" if self.call else ""
        return f"{self.layer}{call}/{self.direction}"


_labels: dict[str, Label] = {}


def register_label(measure: str, label: Label) -> None:
    """Sets how a measure is written in tables and figures.

    Arguments:
        measure: The name of the measure, as it stands in a row.
        label: A function that takes the row's reference and returns the label, such as
            ``"H(output)"``. It replaces the label that was registered before, if any.
    """
    _labels[measure] = label


def label(measure: str, reference: str | None) -> str:
    """Returns the label of a measure for tables and figures.

    A measure without a registered label, as in a report from a file, is written as its name,
    followed by the reference in parentheses if there is one.

    Example:
        >>> label("entropy", None)
        'H(output)'
        >>> label("my_measure", "input")
        'my_measure(input)'
        >>> label("entropy@tokens", None)
        'H(output) @ tokens'
    """
    name, at, selected = measure.partition("@")
    if name in _labels:
        name = _labels[name](reference)
    elif reference is not None:
        name = f"{name}({reference})"
    return f"{name} @ {selected}" if at else name


def of_last_step(rows: list[Row]) -> list[Row]:
    """The rows of the last step; all rows if no steps were tracked."""
    steps = [row["step"] for row in rows if row["step"] is not None]
    return [row for row in rows if row["step"] == max(steps)] if steps else rows
