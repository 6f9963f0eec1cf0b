"""The spectra of data from their definitions, by singular values in NumPy's float64."""

import numpy as np


def effective_rank(x):
    """Roy & Vetterli (2007), of the covariance."""
    x = np.asarray(x, dtype=np.float64)
    share = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    share = share / share.sum()
    share = share[share > 1e-25]
    return float(np.exp(-(share * np.log(share)).sum()))


def rankme(x):
    """Garrido et al. (2023), eq. 1 and 2, of the matrix (n, d) as it is."""
    sigma = np.linalg.svd(np.asarray(x, dtype=np.float64), compute_uv=False)
    p = sigma / np.abs(sigma).sum() + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def participation_ratio(x):
    """(tr C)^2 / tr C^2."""
    c = np.cov(np.asarray(x, dtype=np.float64).T)
    c = np.atleast_2d(c)
    return float(np.trace(c) ** 2 / np.trace(c @ c))


def saturation(x, threshold=0.99):
    """What delve.metrics.compute_saturation returns for the covariance of x."""
    x = np.asarray(x, dtype=np.float64)
    c = np.atleast_2d(np.cov(x.T, bias=True))
    values = np.maximum(np.sort(np.linalg.eigvalsh(c))[::-1], 0)
    shares = np.cumsum(values) / values.sum()
    return max(sum(share < threshold for share in shares), 1) / len(values)
