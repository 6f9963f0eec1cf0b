"""What all measures have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from infoprobe import checks
from infoprobe.errors import ArgumentError, ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.configuration import configuration
from infoprobe.estimators.protocols import Estimate
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.base import CallReduction, Reduction, TensorReduction
from infoprobe.probing.measures.levels import Levels
from infoprobe.probing.roles import ROLES, Role, layer_of
from infoprobe.rows import Kind, register_label


class Need(NamedTuple):
    """What is to be kept for a measure.

    Attributes:
        role: Whose tensors: the layer's ``"output"``, the layer's own input (``"previous"``), the
            ``"input"`` of the whole model, the ``"target"``, ``"layer"`` for what a layer reports
            of itself, or what :func:`~infoprobe.probing.roles.role_of` gives for another layer.
        reduction: How they are reduced while they pass.
    """

    role: Role
    reduction: Reduction


class Reading(NamedTuple):
    """A measured value.

    Attributes:
        value: The value, in the unit of the measure.
        findings: What a reader should know before trusting it, in sentences.
        stderr: Its standard error in the same unit, if it is known.
    """

    value: float
    findings: Sequence[str] = ()
    stderr: float | None = None

    def as_numbers(self) -> Reading:
        """The same reading in numbers and strings of Python's own."""
        stderr = None if self.stderr is None else float(self.stderr)
        return Reading(float(self.value), [str(finding) for finding in self.findings], stderr)

    @classmethod
    def of(cls, estimate: Estimate, roles: Mapping[str, str]) -> Reading:
        """The reading of an estimate.

        Arguments:
            estimate: The estimate.
            roles: For each argument of the estimator's method, what it is to the layer.
        """
        findings = []
        for finding in estimate.findings:
            names = [roles.get(name, name) for name in finding.argument.split(", ")]
            findings.append(str(finding._replace(argument=" and ".join(names))))
        value = float(estimate.value)
        stderr = None if estimate.stderr is None else float(estimate.stderr)
        if stderr is None and math.isfinite(value):
            findings.append(_NO_ERROR)
        return cls(value, findings, stderr)


_NO_ERROR = (
    "It has no standard error: the estimator knows none, or there are too few samples to tell one."
)

# The classes of measures by their names.
_NAMES: dict[str, str] = {}


class Measure(ABC):
    """What is computed at every layer, from what was kept of the tensors that passed there.

    To add a measure, derive a frozen dataclass from this class, which holds its settings, and
    define ``name``, :attr:`needs` and :meth:`compute`.

    Attributes:
        name: The name of the measure in reports, which no other measure has.
        unit: The unit of its values.
        optional: Whether it has no row at a call for which nothing was kept.
        asks_for_noise: Whether it must be known if a layer draws random numbers.
        never_rises: Whether no layer can make it larger than it was at the layer's input.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "nats"
    optional: ClassVar[bool] = False
    asks_for_noise: ClassVar[bool] = False
    never_rises: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            whose = _NAMES.setdefault(cls.name, f"{cls.__module__}.{cls.__qualname__}")
            if whose != f"{cls.__module__}.{cls.__qualname__}":
                raise ArgumentValueError(
                    "name",
                    f"expected a name that no other measure has, got {cls.name!r}, the name of "
                    f"{whose}. Reports tell measures apart by their names: choose another one.",
                )
            register_label(cls.name, cls.label)

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure, such as ``"H(output)"``.

        Arguments:
            reference: What the measure refers to besides the output, if anything.
        """
        return cls.name if reference is None else f"{cls.name}({reference})"

    @property
    @abstractmethod
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, the layer's own output or report last."""

    @property
    def parts(self) -> tuple[Measure, ...]:
        """The measures that it stands for, each with rows of its own; itself, if not several."""
        return (self,)

    def required_needs(self) -> tuple[Need, ...]:
        """The :attr:`needs`, checked.

        Raises:
            TypeError: They are not needs.
            ValueError: There are none, or a role has no such thing to keep.
        """
        needs = self.needs
        if not needs:
            raise ArgumentValueError(
                "needs",
                f"expected at least one need, got none from {self!r}. Return what it uses.",
            )
        for need in needs:
            if not isinstance(need, Need):
                raise ArgumentTypeError(
                    "needs",
                    f"expected infoprobe.probing.measures.Need(role, reduction), got {need!r} "
                    f"from {self!r}.",
                )
            if layer_of(need.role) is None:
                checks.require_one_of(need.role, ROLES, "role")
            kind = CallReduction if need.role == "layer" else TensorReduction
            if not isinstance(need.reduction, kind):
                raise ArgumentTypeError(
                    "reduction",
                    f"expected a {kind.__name__} for the role {need.role!r}, such as "
                    f"{'Averaging' if need.role == 'layer' else 'Sampling'}(...), got "
                    f"{need.reduction!r} from {self!r}.",
                )
        return tuple(needs)

    @abstractmethod
    def compute(self, *kept: Any, **unused: Any) -> Reading:
        """The value at one call of a layer.

        Arguments:
            kept: For each of the :attr:`needs`, what was kept:
                :class:`~infoprobe.estimators.histogram.counts.Counts`, samples as a tensor
                (n, ...) in which all have the same samples, or
                :class:`~infoprobe.probing.kept.moments.Moments`.
            unused: Nothing; it lets a measure name its arguments.

        Raises:
            TypeError, ValueError: There is no value; the message says why, and the report has it.
        """

    def why_none(self, error: ArgumentError) -> str:
        """What a report says of an error by which :meth:`compute` has found no value."""
        no_value = "" if error.problem.startswith("It ") else "It has no value: "
        return no_value + error.problem

    def levels(self, reading: Reading, *kept: Any) -> Levels | None:
        """The same value from wider bins, where rows are to be compared on one width of bins.

        Arguments:
            reading: What :meth:`compute` has returned.
            kept: As in :meth:`compute`.
        """
        return None

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """What the circumstances of the calls mean for the value.

        Arguments:
            circumstances: In which circumstances the layer was called.
            kept: As in :meth:`compute`.

        Raises:
            TypeError, ValueError: There is no value; the message says why, and the report has it.
        """
        yield from ()

    @property
    def distinct(self) -> bool:
        """Whether a sample that comes again, with the same results, is to be left out."""
        return False

    @property
    def reference(self) -> str | None:
        """What the measure refers to besides the output: the role of it, if anything."""
        return None

    @property
    def full_name(self) -> str:
        """The name in the rows of a report: with what was selected, ``"entropy@tokens"``."""
        select = getattr(self, "select", None)
        return self.name if select is None else f"{self.name}@{select}"

    @property
    def kind(self) -> Kind | None:
        """Whether the value is about discrete or continuous variables, or exact."""
        return None

    @property
    def method(self) -> str:
        """How the value is found, as the report has it under ``estimator``."""
        return repr(self)

    @cached_property
    def identity(self) -> Any:
        """Plain data that tell whether two measures, of whatever process, are the same."""
        return configuration(self)
