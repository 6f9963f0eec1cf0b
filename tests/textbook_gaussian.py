"""Closed forms for Gaussians, and slow versions of the unbiased estimates, in numpy."""

import math

import numpy as np
import scipy.stats
import torch
from scipy.special import digamma


def half_log_det(covariance):
    return np.linalg.slogdet(np.asarray(covariance))[1] / 2


def entropy_of(covariance):
    covariance = np.atleast_2d(np.asarray(covariance))
    return scipy.stats.multivariate_normal(cov=covariance).entropy()


def kl_of(p, q):
    """From means and covariances, by torch."""
    a, b = (torch.distributions.MultivariateNormal(*moments) for moments in (p, q))
    return torch.distributions.kl_divergence(a, b).item()


def textbook_entropy(x):
    """Misra, Singh & Demchuk 2005: of the scatter matrix, whose E ln|W| is known."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    centred = x - x.mean(0)
    log_det = np.linalg.slogdet(centred.T @ centred)[1]
    excess = sum(digamma((n - i) / 2) + math.log(2) for i in range(1, d + 1))
    return (d * math.log(2 * math.pi * math.e) + log_det - excess) / 2


def textbook_cross_entropy(p, q):
    """Each term divided by its expectation: E W^-1 = S^-1 / (m - d - 2)."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    (n, d), m = p.shape, len(q)
    centred = q - q.mean(0)
    inverse = (m - d - 2) * np.linalg.inv(centred.T @ centred)
    log_det = 2 * textbook_entropy(q) - d * math.log(2 * math.pi * math.e)
    trace = np.trace(inverse @ np.cov(p.T).reshape(d, d))
    shift = p.mean(0) - q.mean(0)
    # The means themselves err by S_p / n and S_q / m.
    distance = shift @ inverse @ shift - trace / n - d / m
    return (d * math.log(2 * math.pi) + log_det + trace + distance) / 2
