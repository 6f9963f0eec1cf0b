"""A measure that a user writes, in a probe; checked by mypy and pyright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import infoprobe as ip
from infoprobe.probing.measures import Need, Reading, Sampling


@dataclass(frozen=True)
class Sparsity(ip.Measure):
    """The share of an output's values that are zero."""

    samples: int = 4096

    name: ClassVar[str] = "typed_sparsity"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Need("output", Sampling(self.samples)),)

    def compute(self, output: Tensor) -> Reading:
        return Reading(float((output == 0).double().mean()), findings=[])


def own_measure() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(50, 3)
    with ip.probe(model, measures=[ip.Entropy(), Sparsity(samples=50)]) as probe:
        model(x)
    row = probe.report().rows[-1]
    assert_type(row["value"], float | None)
    assert row["value"] == float((model(x) == 0).double().mean())
