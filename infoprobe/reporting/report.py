"""The result of a measuring session: rows, and ways to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoprobe import checks, files
from infoprobe.directions import Direction
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.reporting import (
    documents,
    html,
    latex,
    ledger,
    loggers,
    table,
)
from infoprobe.reporting.collection import Rows
from infoprobe.reporting.comparison import Comparison, compared, require_names
from infoprobe.reporting.figures import Figures
from infoprobe.reporting.frames import frame
from infoprobe.reporting.ledger import Ledger
from infoprobe.reporting.pivot import scalar_keys
from infoprobe.reporting.selection import Patterns, selected
from infoprobe.reporting.units import in_unit
from infoprobe.rows import LayerCall, Row, of_last_step
from infoprobe.units import unit_of

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Report(Rows[Row], Figures):
    """The result of a measuring session: one row for each measure at each call of each layer.

    ``len(report)`` is the number of rows, and ``for row in report`` goes over them.

    Attributes:
        rows: Dictionaries with the keys of :class:`infoprobe.rows.Row`: ``layer, type,
            direction`` (``"forward"`` or ``"inverse"``), ``call`` (the number of the call among
            the calls of the layer within one pass), ``order`` (of first appearance), ``step``
            (the number of the pass with which a window of steps began, or ``None`` if no steps
            were tracked), ``measure, estimator, reference, value, stderr, unit, kind``
            (``"discrete"``, ``"differential"``, ``"exact"`` or ``None``), ``n`` (the number of
            samples), ``d`` (the number of values in one sample) and ``findings`` (sentences on
            how far to trust the value). The value is ``None`` where a measure has no value at
            the layer, and then the findings say why.
        settings: What the report was made with, by name: the versions of infoprobe and torch,
            the model, the settings of the probe and, for each histogram whose entropies were
            brought to one width of bins, that width. Empty if nobody has told.
    """

    rows: list[Row]
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """The steps of the rows in ascending order; empty if no steps were tracked."""
        return sorted({row["step"] for row in self.rows if row["step"] is not None})

    def at(self, step: int) -> Report:
        """The report of one step: the rows that belong to one of the :attr:`steps`.

        Raises:
            TypeError: ``step`` is no integer.
            ValueError: No row has this step.
        """
        step = checks.require_integer(step, 0, None, "step")
        if step not in self.steps:
            there = ", ".join(map(str, self.steps)) or "none, since no steps were tracked"
            raise ArgumentValueError(
                "step", f"expected one of the report's steps, got {step}: {there}."
            )
        return replace(self, rows=[row for row in self.rows if row["step"] == step])

    def select(
        self,
        layer: Patterns | None = None,
        *,
        type: Patterns | None = None,
        direction: Direction | None = None,
        measure: Patterns | None = None,
        reference: Patterns | None = None,
        estimator: Patterns | None = None,
    ) -> Report:
        """The report of some of the rows: those that match in every column that is given.

        A pattern is a name, in which ``*`` stands for any text, ``?`` for one character and
        ``[ab]`` for one of some characters, as in ``"conv*"`` or ``"encoder.layer.?"``. In place
        of one pattern, a list of them selects what matches any of them.

        Arguments:
            layer: Patterns for the names of layers.
            type: Patterns for the classes of layers, such as ``"Conv2d"``.
            direction: ``"forward"`` or ``"inverse"``.
            measure: Patterns for measures, with the reference or without: ``"divergence"`` or
                ``"divergence_input"``.
            reference: Patterns for references, such as ``"previous"``.
            estimator: Patterns for the ``repr`` of estimators, such as ``"KNN*"``.

        Raises:
            ValueError: A pattern matches nothing that the other patterns leave.

        Example:
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
            >>> with ip.probe(model) as probe:
            ...     y = model(torch.randn(50, 3))
            >>> report = probe.report().select(type="Linear", measure="entropy")
            >>> [(row["layer"], row["measure"]) for row in report.rows]
            [('0', 'entropy')]
        """
        columns = {
            "layer": layer,
            "type": type,
            "direction": direction,
            "measure": measure,
            "reference": reference,
            "estimator": estimator,
        }
        return replace(self, rows=selected(self.rows, columns))

    def in_base(self, base: float) -> Report:
        """The report in another unit: ``report.in_base(2)`` is in bits.

        All that is read from it, such as tables, figures, scalars and files, is in that unit.
        Values that are no information, such as shares and ranks, stay as they are, and findings
        keep their figures in nats.

        Arguments:
            base: The base of the logarithm: 2 for bits, 10 for hartleys, ``math.e`` for nats.

        Raises:
            TypeError: It is no number.
            ValueError: It is another number.

        Example:
            >>> model = torch.nn.Linear(3, 4)
            >>> with ip.probe(model, measures=ip.Entropy()) as probe:
            ...     y = model(torch.tensor([[0.0, 0, 0], [1, 2, 3]]))
            >>> [(row["value"], row["unit"]) for row in probe.report().in_base(2).rows]
            [(3.0, 'bits')]
        """
        return replace(self, rows=in_unit(self.rows, unit_of(base)))

    def head(self, n: int = 10) -> Report:
        """The report of the first ``n`` calls of layers, in the order of their calls."""
        n = checks.require_integer(n, 1, None, "n")
        first = set(list(dict.fromkeys(map(LayerCall.of, self.rows)))[:n])
        return replace(self, rows=[row for row in self.rows if LayerCall.of(row) in first])

    def sort(self, measure: str = "entropy", *, descending: bool = True) -> Report:
        """The report with its layers in the order of a measure's values.

        Layers at which the measure has no value come last. If steps were tracked, the values are
        those of the last one.

        Arguments:
            measure: The name of the measure, with the reference where it has one:
                ``"entropy"``, ``"divergence_input"``.
            descending: Whether the largest value comes first.

        Raises:
            ValueError: No row has this measure.

        Example:
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
            >>> with ip.probe(model) as probe:
            ...     y = model(torch.randn(50, 3))
            >>> [row["layer"] for row in probe.report().sort().select(measure="entropy").rows]
            ['0', '1']
        """
        known = {
            LayerCall.of(row): (0, -row["value"] if descending else row["value"])
            for row in reversed(of_last_step(self.select(measure=measure).rows))
            if row["value"] is not None
        }
        rows = sorted(self.rows, key=lambda row: known.get(LayerCall.of(row), (1, 0.0)))
        return replace(self, rows=rows)

    def findings(self) -> dict[str, Report]:
        """The report of the rows with each kind of finding, the most frequent kind first.

        The keys are the codes of the findings, which ``docs/trust.md`` explains; a finding
        without a code is under the empty text. If steps were tracked, all of them count.

        Example:
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
            >>> with ip.probe(model) as probe:
            ...     y = model(torch.randn(500, 3))
            >>> {code: len(report.rows) for code, report in probe.report().findings().items()}
            {'missing-support': 4}
        """
        kinds = table.findings_by_code(self.rows)
        return {
            code: replace(self, rows=list({id(row): row for row, _ in found}.values()))
            for code, found in kinds.items()
        }

    def compare(self, other: Report, names: Sequence[str] | None = None) -> Comparison:
        """Puts this report and another one side by side, with the differences and their errors.

        If steps were tracked, the last one is compared; ``report.at(step)`` is another.

        Arguments:
            other: The report of another model, checkpoint or run, with the same measures.
            names: What to call the two; ``None`` for "first" and "second".

        Returns:
            The comparison, which prints as a table and has ``rows``,
            :meth:`~infoprobe.Comparison.to_dataframe` and :meth:`~infoprobe.Comparison.plot`.

        Raises:
            TypeError: ``other`` is no report.
            ValueError: The names are not two different texts.
        """
        if not isinstance(other, Report):
            raise ArgumentTypeError(
                "other",
                f"expected an ip.Report, got {checks.shown(other)}. Pass probe.report(), or "
                "ip.Report.load(path).",
            )
        two = require_names(("first", "second") if names is None else names)
        settings = self.settings, other.settings
        return compared(of_last_step(self.rows), of_last_step(other.rows), two, settings)

    def scalars(self) -> dict[str, float]:
        """Returns ``{"layer/direction/measure": value}``, for any logger.

        A reference is appended to the measure (``conv1/forward/divergence_input``), and so are
        the samples that were selected (``h.0/forward/entropy@tokens``); the number of a repeated
        call is appended to the layer (``conv1#1/...``). Where two rows would otherwise have the
        same key, it goes on with a short name of the estimator, made of the class and the
        settings that differ (``.../entropy[KNN(k=3)]``), with the type of the layer
        (``[tap]``), and with a number, as far as these are needed. Rows without a value are left
        out. If steps were tracked, the values are those of the last step.

        Values may be infinite or NaN, which not every logger takes; :meth:`log_to` leaves them
        out.
        """
        rows = of_last_step(self.rows)
        return {
            key: row["value"]
            for key, row in zip(scalar_keys(rows), rows, strict=True)
            if row["value"] is not None
        }

    def log_to(self, writer: Any, step: int) -> None:
        """Writes the :meth:`scalars` that are finite to TensorBoard or to Weights & Biases.

        The names are those of :meth:`scalars`. If steps were tracked, the values are those of the
        last one.

        Arguments:
            writer: A ``SummaryWriter`` of TensorBoard (torch's or another one with
                ``add_scalar(name, value, step)``), or a run of W&B, as ``wandb.init()`` returns.
            step: The step of the training to write them at. W&B drops what comes with a smaller
                step than before.

        Raises:
            TypeError: The writer is something else, or the step is not an integer.
            ValueError: The step is negative.

        Example:
            >>> class Run:  # as wandb.init() returns
            ...     def log(self, data, step=None):
            ...         print(step, data)
            >>> model = torch.nn.Tanh()
            >>> with ip.probe(model, measures=ip.Entropy()) as probe:
            ...     y = model(torch.tensor([0.0, 1.0, 2.0, 3.0]))
            >>> probe.report().log_to(Run(), step=10)
            10 {'(model)/forward/entropy': 1.3862943611198906}
        """
        loggers.log(self.scalars(), writer, step)

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns the rows as a pandas DataFrame; needs the extra ``infoprobe[dataframe]``."""
        return frame(self.rows, "report")

    def to_latex(self) -> str:
        r"""Returns a table for a paper: a ``tabular`` of LaTeX that needs no package.

        It has a line for each call of a layer and a column for each measure. A value has as many
        digits as its standard error allows, and stands beside it; a star marks a value that has
        findings. If steps were tracked, the table is that of the last step. Choose what is shown
        by :meth:`select`.

        Example:
            >>> model = torch.nn.Linear(2, 2)
            >>> with ip.probe(model, measures=ip.Entropy()) as probe:
            ...     y = model(torch.tensor([[0.0, 0], [1, 2]]))
            >>> print(probe.report().to_latex().splitlines()[0])
            \begin{tabular}{lr}
        """
        return latex.table(of_last_step(self.rows))

    def to_csv(self, path: str | Path) -> None:
        """Writes the rows as a file of comma-separated values, with a head line.

        A value that is missing is an empty cell, and the findings of a row are lines of one cell.
        The file is written as :meth:`save` writes one.

        Arguments:
            path: The file to write.

        Raises:
            OSError: The file cannot be written.
            ValueError: The path is not that of a file in a folder that exists.
        """
        target = files.as_path(path, "path")
        files.write(target, documents.separated(self.rows), "path")

    def ledger(self) -> Ledger:
        """Sums up the exact changes of entropy along a pass, with estimates of the same changes.

        The report needs rows of :class:`~infoprobe.EntropyChange`. If entropies were measured as
        well, their changes stand beside the exact ones. Layers that are not invertible are no
        part of the sum. Choose either a whole graph or its parts as layers, so that nothing is
        summed twice. If steps were tracked, the ledger is that of the last step.

        Raises:
            ValueError: The report has no rows of :class:`~infoprobe.EntropyChange`.
        """
        return ledger.ledger(of_last_step(self.rows))

    def to_html(self, path: str | Path, title: str = "infoprobe report") -> None:
        """Writes a web page with figures, the table and all findings, which needs no other file.

        The table can be sorted by a click on a head, and filtered by the names of layers; each
        value links to its findings. If several steps were tracked, the table shows the last one.
        Every text in the page is escaped, so that the page of a report from somebody else runs no
        code of theirs. The file is written as :meth:`save` writes one. Without matplotlib (the
        extra ``infoprobe[plot]``), the page has no figures.

        Arguments:
            path: The file to write.
            title: The heading of the page.

        Raises:
            OSError: The file cannot be written.
            ValueError: The path is not that of a file in a folder that exists.
        """
        target = files.as_path(path, "path")
        checks.require_text(title, "title")
        text = html.page(self.rows, of_last_step(self.rows), title, self.settings)
        files.write(target, text.encode("utf-8"), "path")

    def save(self, path: str | Path) -> None:
        """Writes the report as a JSON file.

        The file that was there stays until the new one is complete. Where the path is a symbolic
        link, the file that the link points to is replaced.

        Arguments:
            path: The file to write.

        Raises:
            OSError: The file cannot be written.
            ValueError: The path is not that of a file in a folder that exists, or a row does not
                have the types of :class:`infoprobe.rows.Row`.
        """
        data = documents.dumped(self.rows, self.settings, "report")
        files.write(files.as_path(path, "path"), data, "path")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Reads a report that :meth:`save` wrote, and checks each of its fields.

        Raises:
            OSError: The file is not there, or cannot be read.
            ValueError: The file is not a report, it is one of another version, or a row in it
                does not have the types of :class:`infoprobe.rows.Row`.
        """
        source = files.as_path(path, "path")
        return cls(*documents.loaded(files.read(source, "path"), str(path)))

    def __repr__(self) -> str:
        """A table with a line for each call of a layer and a column for each measure.

        If several steps were tracked, the table shows the last one.
        """
        if not self.rows:
            return "Report: nothing measured"
        if len(self.steps) > 1:
            steps = f"{len(self.steps)} steps, {self.steps[0]} to {self.steps[-1]}; the last:"
            return f"{steps}\n{replace(self, rows=of_last_step(self.rows))!r}"
        return table.report_table(self.rows, self.settings)

    def _repr_html_(self) -> str:
        """The table and the findings, as notebooks show them."""
        return (
            html.notebook(self.rows, of_last_step(self.rows), self.settings)
            if self.rows
            else f"<p>{self!r}</p>"
        )
