"""From tables of counts to the measures of their rows, and to their standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.arguments import ENTROPY, MUTUAL_INFORMATION
from infoprobe.estimators.errors import Uncertainty, jackknife
from infoprobe.estimators.histogram import corrections, divergences
from infoprobe.estimators.histogram.tables import Table


class Formulas(NamedTuple):
    """What a histogram's settings make of a table: one number for each of its rows.

    Attributes:
        pseudocount: What is added to each count.
        correction: The name of the correction for few data, if there is one.
    """

    pseudocount: float
    correction: str | None

    def of(self, measure: str) -> Callable[..., Tensor]:
        """What gives the measure of each row, from the table of each argument."""
        if measure == MUTUAL_INFORMATION.measure:
            return self._information
        if measure == ENTROPY.measure:
            return self._entropy
        divergence = divergences.OF[measure]
        return lambda p, q: divergence(self.probability(p), self.probability(q))

    def probability(self, table: Table) -> Tensor:
        """The probability of each cell."""
        return corrections.probabilities(table, self._weight(table))

    def _weight(self, table: Table) -> Tensor:
        if self.correction == "james-stein":
            return corrections.james_stein(table)
        return corrections.pseudocount(table, self.pseudocount)

    def _entropy(self, table: Table) -> Tensor:
        if self.correction in corrections.OF_ENTROPY:
            return corrections.OF_ENTROPY[self.correction](table)
        return corrections.entropy(table, self._weight(table))

    def _information(self, x: Table, y: Table, joint: Table) -> Tensor:
        if self.correction in corrections.OF_ENTROPY:
            of_x, of_y, of_both = (self._entropy(table) for table in (x, y, joint))
        else:
            # Margins of the shrunk joint probabilities are margins, shrunk by the same weight.
            weight = self._weight(joint)
            of_x, of_y, of_both = (corrections.entropy(table, weight) for table in (x, y, joint))
        return of_x + of_y - of_both


def total(measure: str, over: str, of_rows: Iterable[Tensor]) -> Tensor:
    """The measure of all rows together.

    Raises:
        ValueError: It is mutual information and not defined.
    """
    value = torch.cat(list(of_rows)).sum()
    if measure == MUTUAL_INFORMATION.measure and not bool(value.isfinite()):
        unit = " of some unit" if over == "units" else ""
        raise ArgumentValueError(
            "correction",
            "'chao-shen' leaves mutual information undefined, since no two pairs"
            f"{unit} fall into the same bins and their entropy is infinite. Use fewer bins, "
            "more data or another correction.",
        )
    return value


def total_with_error(
    measure: str, over: str, of: Callable[..., Tensor], parts: Iterable[list[Table]]
) -> tuple[Tensor, Uncertainty | None]:
    """The same, and how far it may be off, as far as the tables know of groups of samples."""
    whole, without, shares = [], [], []
    for tables in parts:
        whole.append(of(*tables))
        if all(table.groups is not None for table in tables):
            left = of(*(table.without_groups for table in tables))
            without.append(left.view(-1, len(whole[-1])).sum(1))
            shares.append(torch.stack([table.shares for table in tables]).mean(0))
    value = total(measure, over, whole)
    if not without:
        return value, None
    return value, jackknife(value, torch.stack(without).sum(0), torch.stack(shares).mean(0))
