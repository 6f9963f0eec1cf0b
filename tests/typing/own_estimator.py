"""An estimator that a user writes, wherever the library takes one; checked by mypy and pyright."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import infoprobe as ip


@dataclass(frozen=True)
class Laplace:
    """Fits independent Laplace distributions to the features."""

    smallest_scale: float = 1e-12

    def _scales(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.double().flatten(1)
        center = x.median(0).values
        return center, (x - center).abs().mean(0).clamp_min(self.smallest_scale)

    def entropy(self, x: Tensor) -> Tensor:
        return (2 * self._scales(x)[1]).log().add(1).sum()

    def kl_divergence(self, p: Tensor, q: Tensor) -> Tensor:
        (m, a), (n, b) = self._scales(p), self._scales(q)
        apart = (m - n).abs()
        return ((b / a).log() + (a * (-apart / a).exp() + apart) / b - 1).sum()


def own_estimator() -> None:
    x, y = torch.randn(50, 3), torch.randn(50, 3)
    estimator = Laplace()
    assert_type(ip.entropy(x, estimator), Tensor)
    assert_type(ip.entropy(x, estimator, base=2), Tensor)
    assert_type(ip.kl_divergence(x, y, estimator), Tensor)
    interval = ip.confidence_interval(estimator.entropy, x, resamples=5)
    assert_type(interval.low, Tensor)
    assert_type(ip.diagnose(x, estimator=estimator), list[ip.Finding])

    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    measures = [ip.Entropy(estimator), ip.Divergence(estimator, "input", samples=50)]
    with ip.probe(model, measures=measures) as probe:
        model(x)
    values = [row["value"] for row in probe.report().rows]
    assert_type(values, list[float | None])
    assert values[2] == float(estimator.entropy(model(x).detach()))
