"""What the arguments of each measure are called, and how their samples belong together."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError


@dataclass(frozen=True)
class Arguments:
    """The arguments of a measure.

    Attributes:
        measure: The name of the method that estimates it.
        names: What its arguments are called.
        independent: Whether they are independent samples of one space, as for a divergence.
            Otherwise they are variables that were sampled together: row i of one belongs to
            row i of the others.
    """

    measure: str
    names: tuple[str, ...]
    independent: bool = False

    @property
    def all_names(self) -> str:
        """The names in one string, as errors and findings about all arguments quote them."""
        return ", ".join(self.names)

    @property
    def of_pairs(self) -> bool:
        """Whether several variables are sampled together, as for mutual information."""
        return len(self.names) > 1 and not self.independent

    def samples(self, tensors: Sequence[Any]) -> dict[str, Tensor]:
        """The arguments by name, as samples (n, d) of continuous variables on one device.

        Raises:
            TypeError: An argument does not hold floating-point numbers.
            ValueError: An argument is not finite or has too few samples; or they differ in d if
                they are independent samples, or in n if they are variables.
        """
        checked = {
            name: checks.continuous(x, name) for name, x in zip(self.names, tensors, strict=True)
        }
        device = checked[self.names[0]].device
        samples = {name: x.to(device) for name, x in checked.items()}
        if self.independent:
            checks.require_same_width(**samples)
        else:
            checks.require_same_length(**samples)
        return samples


ENTROPY = Arguments("entropy", ("x",))
CROSS_ENTROPY = Arguments("cross_entropy", ("p", "q"), independent=True)
KL_DIVERGENCE = Arguments("kl_divergence", ("p", "q"), independent=True)
JS_DIVERGENCE = Arguments("js_divergence", ("p", "q"), independent=True)
MUTUAL_INFORMATION = Arguments("mutual_information", ("x", "y"))
CONDITIONAL_MUTUAL_INFORMATION = Arguments("conditional_mutual_information", ("x", "y", "z"))
TOTAL_CORRELATION = Arguments("total_correlation", ("x",))

ARGUMENTS = {
    arguments.measure: arguments
    for arguments in (
        ENTROPY,
        CROSS_ENTROPY,
        KL_DIVERGENCE,
        JS_DIVERGENCE,
        MUTUAL_INFORMATION,
        CONDITIONAL_MUTUAL_INFORMATION,
        TOTAL_CORRELATION,
    )
}


def arguments_of(measure: str, offered: Container[str], tensors: Sequence[Any]) -> Arguments:
    """The arguments of the measure of this name, for which these tensors are given.

    Raises:
        TypeError: There are too many or too few tensors.
        ValueError: The measure is none of those that are offered.
    """
    if callable(measure):
        raise ArgumentTypeError(
            "measure",
            "expected the name of a measure, such as 'mutual_information', got a function. An "
            "estimator is an argument of its own.",
        )
    checks.require_one_of(measure, [name for name in ARGUMENTS if name in offered], "measure")
    arguments = ARGUMENTS[measure]
    if len(tensors) != len(arguments.names):
        raise ArgumentTypeError(
            "tensors",
            f"expected the arguments {arguments.all_names} of {measure!r}, got {len(tensors)}.",
        )
    return arguments
