"""The published numbers, and which layer of our models each point belongs to."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from infoprobe.directions import Direction

PUBLISHED: dict[str, Any] = json.loads(Path(__file__).with_name("published.json").read_text())


class Place(NamedTuple):
    """A point of the figures: a short label, and the layer and the direction that are probed."""

    label: str
    layer: str
    direction: Direction = "forward"


_INN = [
    Place("input", "input"),
    Place("haar", "haar_down"),
    *(Place(f"glow {i}", f"conv{i}") for i in (1, 2, 3)),
    Place("fc", "fc"),
    Place("output", "haar_up"),
    Place("bottleneck", "bottleneck"),
    Place("fc⁻¹", "fc", "inverse"),
    *(Place(f"glow {i}⁻¹", f"conv{i}", "inverse") for i in (3, 2, 1)),
    Place("haar⁻¹", "haar_down", "inverse"),
    Place("reconstruction", "input", "inverse"),
]
_MNIST = [
    Place("input", "input"),
    *(Place(f"enc fc{i}", f"encoder.fc{i}") for i in (1, 2, 3)),
    Place("code", "encoder.code"),
    *(Place(f"dec fc{i}", f"decoder.fc{i}") for i in (1, 2, 3)),
    Place("reconstruction", "decoder.output"),
]
_CIFAR10 = [
    Place("input", "input"),
    *(Place(f"enc conv{i}", f"encoder.conv{i}") for i in (1, 2, 3, 4, 5)),
    Place("code", "encoder.code"),
    Place("dec fc", "decoder.fc"),
    *(Place(f"dec conv{i}", f"decoder.conv{i}") for i in (1, 2, 3, 4)),
    Place("reconstruction", "decoder.output"),
]
#: The places in the order of the published entropies, which begin with the input.
PLACES = {
    ("mnist", "invertible"): _INN,
    ("cifar10", "invertible"): _INN,
    ("mnist", "classical"): _MNIST,
    ("cifar10", "classical"): _CIFAR10,
}


def entropies(dataset: str, family: str) -> list[float]:
    """Returns the published entropy of each place."""
    return [value for _, value in PUBLISHED[dataset][family]["entropy"]]


def relative_entropies(dataset: str, family: str) -> list[float | None]:
    """Returns the published relative entropy of each place, ``None`` where there is none."""
    values = [value for _, value in PUBLISHED[dataset][family]["relative_entropy"]]
    missing = len(PLACES[dataset, family]) - 1 - len(values)
    return [None, *values, *[None] * missing]


def test_l1(dataset: str, family: str, bottleneck: int) -> float | None:
    """Returns the published test error, interpolated in the logarithm of the size of the code.

    It is ``None`` beyond the published sizes.
    """
    known = sorted((int(b), v) for b, v in PUBLISHED[dataset][family]["test_l1"].items())
    for (low, at_low), (high, at_high) in itertools.pairwise(known):
        if low <= bottleneck <= high:
            share = math.log(bottleneck / low) / math.log(high / low)
            return float(at_low + share * (at_high - at_low))
    return None


def code_place(dataset: str, family: str) -> int:
    """Returns the number of the code among the places."""
    labels = [place.label for place in PLACES[dataset, family]]
    return labels.index("bottleneck" if family == "invertible" else "code")
