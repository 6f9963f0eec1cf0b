"""Exact nearest neighbours, and exact counts of neighbours within a radius."""

from infoprobe.neighbors.nearest import count_within, distances_to, nearest_neighbors, search
from infoprobe.neighbors.points import METRICS, Metric, Neighbors, sort

__all__ = [
    "METRICS",
    "Metric",
    "Neighbors",
    "count_within",
    "distances_to",
    "nearest_neighbors",
    "search",
    "sort",
]
