"""Measures of Gaussians, their arguments and settings."""

import torch

from tests.estimators.samples import normal

MEASURES = ["entropy", "cross_entropy", "kl_divergence", "mutual_information"]


MEASURES += ["conditional_mutual_information", "conditional_entropy", "total_correlation"]


SHRINKAGES = [None, 0.0, 0.3, "ledoit-wolf"]


def mixture(d, seed=0):
    """A matrix that mixes d features, with a condition number of some tens."""
    return normal(d, d, seed=seed) + 2 * torch.eye(d, dtype=torch.float64)


def arguments(measure, n=40, d=3, m=30):
    """Samples for a measure: dependent, or differently distributed."""
    x = normal(n, d) @ mixture(d)
    if measure in ("entropy", "total_correlation"):
        return [x]
    if measure in ("cross_entropy", "kl_divergence"):
        return [x, normal(m, d, seed=1) @ mixture(d, seed=1) + 1]
    y = x[:, :2] + normal(n, 2, seed=2)
    z = x[:, :1] - y[:, :1] + normal(n, 1, seed=3)
    pairs = measure in ("mutual_information", "conditional_entropy")
    return [x, y] if pairs else [x, y, z]


def moments(x, correction=1):
    return x.mean(0), torch.atleast_2d(torch.cov(x.T, correction=correction))
