"""Mistakes that mypy and pyright must find: both say where an ignored line has no error."""

from __future__ import annotations

import torch
from torch import nn

import infoprobe as ip

x = torch.randn(20, 2)
model = nn.Linear(2, 2)


def mistakes() -> None:
    ip.Histogram(range="diadic")  # type: ignore[arg-type]
    ip.Histogram(over="pixels")  # type: ignore[arg-type]
    ip.Histogram(outside="ignore")  # type: ignore[arg-type]
    ip.KNN(metric="cosine")  # type: ignore[arg-type]
    ip.KNN(variant=3)  # type: ignore[arg-type]
    ip.Critic("mine")  # type: ignore[arg-type]
    ip.Histogram().conditional_mutual_information(x, x, x)  # type: ignore[attr-defined]
    ip.KNN().js_divergence(x, x)  # type: ignore[attr-defined]
    ip.Critic().entropy(x)  # type: ignore[attr-defined]

    ip.entropy(x, ip.Critic())  # type: ignore[arg-type]
    ip.js_divergence(x, x, ip.KNN())  # type: ignore[arg-type]
    ip.total_correlation(x, ip.Histogram())  # type: ignore[arg-type]
    ip.entropy(x, ip.KNN)  # type: ignore[arg-type]
    ip.entropy(x, base="2")  # type: ignore[arg-type]

    ip.entropy(None)  # type: ignore[arg-type]
    ip.KNN().entropy(model)  # type: ignore[arg-type]
    ip.mutual_information(x, {"y": x})  # type: ignore[arg-type]
    ip.choose("entropy", model)  # type: ignore[arg-type]
    ip.nearest_neighbors(model)  # type: ignore[arg-type]
    ip.probe(model).target(None)  # type: ignore[arg-type]
    ip.entropy_change(x, x)  # type: ignore[arg-type]
    ip.check_invertible(3, x)  # type: ignore[arg-type]

    ip.Entropy("knn")  # type: ignore[arg-type]
    ip.Entropy(ip.Critic())  # type: ignore[arg-type]
    ip.Divergence("input")  # type: ignore[arg-type]
    ip.Divergence(reference=1)  # type: ignore[arg-type]
    ip.Entropy(select=1.5)  # type: ignore[arg-type]
    ip.probe(model, measures=[ip.Histogram()])  # type: ignore[list-item]
    ip.probe(None)  # type: ignore[arg-type]
    ip.probe(3)  # type: ignore[arg-type]
    ip.probe(model).counts("0", "backward")  # type: ignore[arg-type]
    ip.probe(model).report().rows[0]["layers"]  # type: ignore[typeddict-item]
    ip.Report([{"layer": "0"}])  # type: ignore[typeddict-item]
