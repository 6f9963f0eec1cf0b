"""Exact nearest neighbours, and exact counts of neighbours within a radius."""

from infoprobe.neighbors.equal import equal_rows, fingerprints, occurrences, occurrences_in
from infoprobe.neighbors.nearest import (
    TIE,
    count_within,
    distances_to,
    nearest_neighbors,
    search,
)
from infoprobe.neighbors.points import METRICS, Metric, Neighbors, sort

__all__ = [
    "METRICS",
    "TIE",
    "Metric",
    "Neighbors",
    "count_within",
    "distances_to",
    "equal_rows",
    "fingerprints",
    "nearest_neighbors",
    "occurrences",
    "occurrences_in",
    "search",
    "sort",
]
