"""Information that the bins show by themselves, since there are too few pairs to fill them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.estimators.histogram.tables import Table
from infoprobe.estimators.histogram.tabulation import tabulate_pairs
from infoprobe.findings import Finding

if TYPE_CHECKING:
    from infoprobe.estimators.histogram.histogram import Histogram

# The share of pairs that are alone in their cell, from which on a formula for the bias fails.
_ALONE = 0.05
# From which bias on it is worth a finding: nats, and its share in the value; and is most of it.
_BIAS, _SHARE, _MOST = 0.05, 0.1, 0.5


def undersampling(estimator: Histogram, x: Any, y: Any, value: float) -> Iterator[Finding]:
    """Findings on the mutual information of pairs, ``value``, by this estimator."""
    tables = [_Joint.of(three) for three in tabulate_pairs(estimator._binning, x, y)]
    constant = [
        name for name, i in (("x", 0), ("y", 1)) if all(t.cells[i] == t.rows for t in tables)
    ]
    if constant:
        yield Finding(
            "warning",
            "all samples are in the same bin, so the information is 0 whatever the other variable",
            0.0,
            "Use finer bins, or a variable that varies.",
            constant[0],
            code="constant-variable",
        )
        return
    bias = _bias(estimator, x, y, tables)
    most = bias >= max(_BIAS, _MOST * abs(value))
    told = _told(tables) if not (estimator.correction or estimator.pseudocount) else None
    if told:
        yield Finding(
            "error" if most else "warning",
            f"the information is all of the entropy of the {told}, {value:.2f} nats"
            + (", as it is with the pairs shuffled: there are too few for the bins" * most),
            value,
            "It cannot be larger and shows the resolution of the bins, not how much a "
            "continuous variable keeps.",
            "x, y",
            code="information-is-entropy",
        )
    elif bias >= max(_BIAS, _SHARE * abs(value)):
        yield Finding(
            "error" if most else "warning",
            f"with the pairs shuffled, which leaves no information, the bins still show about "
            f"{bias:.2f} of these {value:.2f} nats",
            bias,
            "Use fewer bins or more samples; of continuous variables use ip.KNN.",
            "x, y",
            code="undersampled-information",
        )


def _told(tables: Sequence[_Joint]) -> str | None:
    """Which argument's bins the other's bins tell without doubt, if any."""
    for i, told in enumerate(("second", "first")):
        if all(table.cells[i] == table.cells[2] for table in tables):
            return told
    return None


class _Joint(NamedTuple):
    """What there is to know of the joint histograms of pairs.

    Attributes:
        rows: The number of joint histograms.
        n: The number of pairs in all of them.
        cells: How many cells are occupied by x, by y and by their pairs.
        alone: How many pairs are alone in their cell.
        bias: Miller's bias of the information, in nats.
    """

    rows: int
    n: int
    cells: tuple[int, int, int]
    alone: int
    bias: float

    @classmethod
    def of(cls, three: Sequence[Table]) -> _Joint:
        occupied = [(table.counts > 0).sum(1, keepdim=True) for table in three]
        x, y, both = occupied
        joint = three[2]
        bias = float(((both - x - y + 1) / (2 * joint.total)).sum())
        cells = int(x.sum()), int(y.sum()), int(both.sum())
        alone = int((joint.counts == 1).sum())
        return cls(len(joint.counts), int(joint.total.sum()), cells, alone, bias)


def _bias(estimator: Histogram, x: Any, y: Any, tables: Sequence[_Joint]) -> float:
    """By how many nats the information is too high, about; 0 where it is not."""
    if sum(t.alone for t in tables) < _ALONE * sum(t.n for t in tables):
        corrected = estimator.correction is not None or estimator.pseudocount
        return 0.0 if corrected else sum(t.bias for t in tables)
    try:
        return float(estimator.mutual_information(x, _shuffled(y, estimator.over)))
    except ValueError:
        return math.inf  # The correction knows nothing of pairs that are all different.


def _shuffled(y: Any, over: str) -> Tensor:
    tensor = checks.as_tensor(y, "y")
    flat = tensor.reshape(-1) if over == "values" else tensor
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0), device="cpu")
    return flat[order.to(flat.device)].reshape(tensor.shape)
