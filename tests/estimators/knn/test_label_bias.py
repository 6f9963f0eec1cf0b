"""What neighbours miss of the information of labels."""

from __future__ import annotations

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.findings import Finding


def classes(n: int, d: int, shift: float, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(n) % 2
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x = x * torch.where(label == 1, scale, 1.0).unsqueeze(1)
    x[:, 0] += shift * label
    return x, label


def missed(x: torch.Tensor, label: torch.Tensor) -> list[Finding]:
    return [f for f in ip.diagnose(x, label, ip.KNN()) if f.code == "dimension-bias"]


@pytest.mark.parametrize(("d", "shift", "scale"), [(60, 2.0, 1.0), (10, 0.0, 3.0)])
def test_what_is_missed_in_many_dimensions_is_told(d: int, shift: float, scale: float) -> None:
    x, label = classes(1000, d, shift, scale)
    (found,) = missed(x, label)
    value = float(ip.KNN().mutual_information(x, label))
    truth = 0.337 if shift else math.log(2) - 0.004
    assert found.figure < -0.1
    assert abs(value - found.figure - truth) < abs(value - truth)
    assert missed(label=label, x=x * 1e4 + 7) == [
        found._replace(figure=pytest.approx(found.figure))
    ]


@pytest.mark.parametrize(
    ("d", "shift"), [(1, 0.0), (1, 2.0), (3, 1.0), (20, 0.0), (80, 0.0), (2, 30.0)]
)
def test_nothing_is_told_where_little_is_missed(d: int, shift: float) -> None:
    assert missed(*classes(1000, d, shift, 1.0)) == []


def test_labels_with_too_few_samples_tell_nothing() -> None:
    x, _ = classes(100, 60, 2.0, 1.0)
    assert missed(x, torch.arange(100) % 10) == []
