"""The most mutual information that samples can show, and whether a value is near it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from infoprobe.findings import Finding

# The share of its ceiling from which a value says little more than that, and nothing more.
NEAR, AT = 0.8, 0.95


@runtime_checkable
class HasCeiling(Protocol):
    """An estimator that knows the most mutual information its method can return."""

    def ceiling(self, n: int, /) -> float:
        """What the mutual information of n samples cannot exceed, in nats; may be infinite."""


def near_ceiling(
    value: float, ceiling: float, n: int, different: int | None = None
) -> Iterator[Finding]:
    """A finding if a mutual information is near its ceiling: an error if it says nothing more.

    Arguments:
        value: The mutual information, in nats.
        ceiling: What it cannot exceed, in nats; 0 where a variable is constant.
        n: The number of samples.
        different: How many different ones there are among them; ``None`` if all are.
    """
    some = "" if different is None else f", only {different:,} of them different,"
    if ceiling != 0 and value >= NEAR * ceiling:
        yield Finding(
            "error" if value >= AT * ceiling else "warning",
            f"the mutual information is {value:.2f} nats, near the {ceiling:.2f} nats that are "
            f"the most which {n:,} samples{some} can show",
            value / ceiling,
            "Take it for a lower bound; more samples raise the ceiling by their logarithm only."
            if different is None
            else "Take it for a lower bound; samples that come again do not raise the ceiling.",
            "x, y",
            code="near-ceiling",
        )
