"""Measures, their arguments and their values by the textbook."""

import numpy as np
import pytest
import torch

from tests import textbook_neighbors as textbook
from tests.estimators.samples import normal

METRICS = ["euclidean", "chebyshev"]


SAMPLE_MEASURES = ["entropy", "cross_entropy", "kl_divergence"]


COUNT_MEASURES = ["mutual_information", "conditional_mutual_information", "total_correlation"]


MEASURES = SAMPLE_MEASURES + COUNT_MEASURES


ATOMS = r"coincide with at least k=\d+ (others|of q).*Dequantise.*ip\.Histogram"


def arguments(measure, n=60, d=3, m=50, seed=0):
    """Samples for a measure: dependent, or differently distributed."""
    x = normal(n, d, seed=seed)
    if measure in ("entropy", "total_correlation"):
        return [torch.cat([x[:, :1], x[:, 1:] + x[:, :1]], 1)]
    if measure in ("cross_entropy", "kl_divergence"):
        return [x, 1.5 * normal(m, d, seed=seed + 1) + 0.5]
    y = x[:, :2] + normal(n, 2, seed=seed + 2)
    z = x[:, :1] - y[:, :1] + normal(n, 1, seed=seed + 3)
    return [x, y] if measure == "mutual_information" else [x, y, z]


def textbook_value(measure, tensors, k, metric, variant=1):
    arrays = [x.double().numpy() for x in tensors]
    if measure in SAMPLE_MEASURES:
        scale = textbook.spreads(arrays[0])
        value = getattr(textbook, measure)(*(x / scale for x in arrays), k, metric)
        return value if measure == "kl_divergence" else value + np.log(scale).sum()
    arrays = [textbook.scores(x) for x in arrays]
    if measure == "mutual_information":
        return textbook.multi_information(arrays, k, metric, variant)
    if measure == "total_correlation":
        columns = np.split(arrays[0], arrays[0].shape[1], 1)
        return textbook.multi_information(columns, k, metric, variant)
    return textbook.conditional_mutual_information(*arrays, k, metric)


def near(value, abs=1e-9):
    return pytest.approx(float(value), abs=abs, rel=1e-10)
