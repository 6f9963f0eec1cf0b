"""Summaries over the models of a family, and their rows beside the controls."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from paper.controls import MEASURES
from paper.training import FAMILIES


def rows_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the measures of each control, and of each family's models as one row."""
    rows = dict(found["controls"])
    for family in FAMILIES:
        models = [model["reconstruction"] for model in found["models"][family]]
        rows[f"{family} autoencoder"] = {
            measure: together([model[measure] for model in models]) for measure in MEASURES
        }
    return rows


def together(intervals: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """Returns the mean of the seeds, from the lowest end of their intervals to the highest."""
    known = [interval for interval in intervals if interval is not None]
    if not known:
        return None
    return {
        "value": mean(interval["value"] for interval in known),
        "low": min(interval["low"] for interval in known),
        "high": max(interval["high"] for interval in known),
    }


def moving_layers(models: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the layers that do more than rearrange values."""
    return [layer for layer, (value, _) in models[0]["ledger"].items() if value]
