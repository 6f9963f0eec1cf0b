"""An estimator and a measure that somebody else wrote, each in one place and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

import infoprobe as ip
from infoprobe.probing.measures import Need, Reading, Sampling


class Box:
    """Takes data for uniform in a box: no ``__eq__``, no ``__repr__``, no dataclass."""

    kind = "differential"

    def __init__(self, margin=0.0):
        self.margin = margin

    def entropy(self, x):
        return (x.amax(0) - x.amin(0) + self.margin).double().log().sum()

    def kl_divergence(self, p, q):
        return self.entropy(q) - self.entropy(p)

    def diagnose(self, measure, tensors, value):
        if measure == "entropy" and len(tensors[0]) < 20:
            yield ip.Finding("warning", "20 samples are too few for a box", 20, "Pass more.", "x")


@dataclass(frozen=True)
class Sparsity(ip.Measure):
    """The share of a layer's output that is zero."""

    samples: int = 100

    name: ClassVar[str] = "share_of_zeros"
    unit: ClassVar[str] = "share"
    kind: ClassVar[None] = None

    @classmethod
    def label(cls, reference):
        return "share of zeros"

    @property
    def needs(self):
        return (Need("output", Sampling(self.samples)),)

    def compute(self, output):
        share = float((output == 0).double().mean())
        findings = ["All values are zero."] if share == 1 else []
        return Reading(share, findings, (share * (1 - share) / output.numel()) ** 0.5)


def rectified():
    return torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
