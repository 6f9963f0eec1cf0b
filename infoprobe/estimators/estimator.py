"""What the estimators here share: an estimate comes with its error and what is found on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.arguments import ARGUMENTS, Arguments, arguments_of
from infoprobe.estimators.errors import stderr_without_groups
from infoprobe.estimators.protocols import Estimate, kind_of, method_of, offers
from infoprobe.estimators.samples_in_doubt import with_doubts
from infoprobe.findings import Finding


class Estimator(ABC):
    """An estimator that knows how far to trust its estimates."""

    def estimate(self, measure: str, *tensors: Any) -> Estimate:
        """The value of a measure, its standard error and findings on it.

        The standard error tells how far the value would move with other samples. What it does
        not know of is bias, of which the findings tell. The section "Standard error" of the
        class says how it is found.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.

        Returns:
            The value in nats; its standard error, ``None`` where there are too few samples to
            tell; and the findings.

        Raises:
            TypeError, ValueError: The method raises it, or there is no such measure.
        """
        offered = [name for name in ARGUMENTS if offers(self, name)]
        arguments = arguments_of(measure, offered, tensors)
        value, stderr = self._with_error(arguments, tensors)
        return Estimate(value, stderr, self.diagnose(measure, tensors, value))

    def diagnose(
        self, measure: str, tensors: Sequence[Any], value: Tensor | None
    ) -> list[Finding]:
        """What stands in the way of trusting a value; see :func:`infoprobe.diagnose`.

        Arguments:
            measure: The name of the method that gave the value.
            tensors: Its arguments.
            value: What it returned, in nats; ``None`` if it raised an error.
        """
        arguments = ARGUMENTS[measure]
        found = list(self._findings(arguments, tensors, value))
        if value is None:
            return found
        has_density = kind_of(self) == "differential"
        return with_doubts(found, arguments, tensors, float(value), has_density=has_density)

    @abstractmethod
    def _findings(
        self, arguments: Arguments, tensors: Sequence[Any], value: Tensor | None
    ) -> Iterable[Finding]:
        """The findings on a measure of tensors, and on its value."""

    @abstractmethod
    def _with_error(
        self, arguments: Arguments, tensors: Sequence[Any]
    ) -> tuple[Tensor, Tensor | None]:
        """The value of a measure of tensors, and its standard error."""

    def _jackknifed(
        self, arguments: Arguments, tensors: Sequence[Any], groups: int
    ) -> tuple[Tensor, Tensor | None]:
        """The same, if estimates change smoothly when a group of samples is left out."""
        method = method_of(self, arguments.measure)
        value = method(*tensors)
        given = zip(arguments.names, tensors, strict=True)
        samples = [checks.as_tensor(x, name) for name, x in given]
        return value, stderr_without_groups(method, value, samples, groups)
