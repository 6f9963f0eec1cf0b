"""The features of samples (n, d), each by itself: their entropies and their atoms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from infoprobe.devices import ascending
from infoprobe.estimators.special import digamma
from infoprobe.findings import Finding

# The share of equal values in a feature that is worth a finding.
_COMMON = 0.01


def feature_entropies(x: Tensor, k: int) -> Tensor:
    """The differential entropy of each feature, (d,), in nats, from its k-th neighbours."""
    n = len(x)
    line = ascending(x, 0).double()
    beyond = line.new_full((k, x.shape[1]), math.inf)
    line = torch.cat([-beyond, line, beyond])
    values = line[k : k + n]
    # The k-th neighbour is the farther end of the narrowest window of k + 1 values.
    ends = [
        torch.maximum(values - line[i : i + n], line[i + k : i + k + n] - values)
        for i in range(k + 1)
    ]
    distances = torch.stack(ends).amin(0)
    return digamma(n) - digamma(k) + math.log(2) + distances.log().mean(0)


def atoms_of_features(x: Tensor, name: str) -> Iterator[Finding]:
    """Findings on features of the samples (n, d) that are constant or take a value often."""
    most_common = (x == x.mode(0).values).double().mean(0)
    constant = int((most_common == 1).sum())
    if constant:
        yield Finding(
            "error",
            f"{constant:,} of {x.shape[1]:,} features are constant",
            constant,
            "A constant has no density. Drop these features: x[:, x.std(0) > 0].",
            name,
            code="constant-features",
        )
    share = float(most_common[most_common < 1].max()) if constant < x.shape[1] else 0.0
    if share >= max(_COMMON, 2 / len(x)):
        yield Finding(
            "warning",
            f"{share:.1%} of the values of a feature are equal",
            share,
            "Such atoms (after a ReLU, or of quantised data) have no density: dequantise, or use "
            "an estimator of discrete variables such as ip.Histogram.",
            name,
            code="atoms",
        )
