"""Slow, readable versions of the matrix-based entropies, in numpy."""

import math

import numpy as np


def textbook_distance(a, b):
    return math.sqrt(sum((float(u) - float(v)) ** 2 for u, v in zip(a, b, strict=True)))


def textbook_width(x, bandwidth, gamma=1.0):
    n, d = x.shape
    if bandwidth == "median":
        pairs = sorted(textbook_distance(x[i], x[j]) for i in range(n) for j in range(i))
        return pairs[(len(pairs) - 1) // 2]
    if bandwidth == "scott":
        return gamma * n ** (-1 / (4 + d))
    if bandwidth == "tapia":
        return gamma * math.sqrt(d) * n ** (-1 / (4 + d))
    return bandwidth


def textbook_kernel(x, bandwidth, gamma=1.0):
    n = len(x)
    width = textbook_width(x, bandwidth, gamma)
    if bandwidth == "tapia":
        spread = x.std(0)
        x = np.stack([c / s if s > 0 else 0 * c for c, s in zip(x.T, spread, strict=True)], 1)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            kernel[i, j] = math.exp(-(textbook_distance(x[i], x[j]) ** 2) / (2 * width**2))
    return kernel


def textbook_entropy(alpha, *kernels):
    product = np.ones_like(kernels[0])
    for kernel in kernels:
        product = product * kernel
    eigenvalues = np.linalg.eigvalsh(product / np.trace(product))
    eigenvalues = eigenvalues[eigenvalues > 1e-15]
    if alpha == 1:
        return -sum(v * math.log(v) for v in eigenvalues)
    return math.log(sum(v**alpha for v in eigenvalues)) / (1 - alpha)
