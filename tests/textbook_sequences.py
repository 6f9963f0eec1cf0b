"""Slow, readable versions of the measures of token sequences, in numpy and float64."""

import math

import numpy as np


def textbook_matrix_entropy(tokens, alpha):
    """From the singular values of the token matrix, prompt by prompt."""
    shares = np.linalg.svd(tokens, compute_uv=False) ** 2
    shares = shares / shares.sum()
    shares = shares[shares > 1e-15]
    if alpha == 1:
        return -sum(p * math.log(p) for p in shares)
    return math.log(sum(p**alpha for p in shares)) / (1 - alpha)


def textbook_curvature(tokens):
    """Angle by angle."""
    angles = []
    for a, b, c in zip(tokens[:-2], tokens[1:-1], tokens[2:], strict=True):
        u, v = b - a, c - b
        if np.any(u) and np.any(v):
            cosine = float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))
            angles.append(math.acos(max(-1.0, min(1.0, cosine))))
    return sum(angles) / len(angles)


def textbook_distribution(logits):
    """The probabilities that logits (vocabulary,) stand for."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def textbook_prediction_entropy(logits):
    p = textbook_distribution(logits)
    return -float(np.sum(p[p > 0] * np.log(p[p > 0])))


def textbook_prediction_divergence(final, logits):
    p, q = textbook_distribution(final), textbook_distribution(logits)
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


def textbook_attention_entropies(p, counts, keys=None):
    """Query by query and head by head, for one sequence (heads, queries, keys)."""
    found = []
    for head in p:
        for i, row in enumerate(head):
            if counts[i] and (keys is None or keys[i] > 1):
                entropy = -sum(x * math.log(x) for x in row if x > 0)
                found.append(entropy / (1 if keys is None else math.log(keys[i])))
    return np.array(found)


def textbook_infonce(x, y, temperature):
    """Pair by pair, both ways."""
    n = len(x)
    a = [u / np.linalg.norm(u) for u in x]
    b = [v / np.linalg.norm(v) for v in y]
    total = 0.0
    for i in range(n):
        own = math.exp(float(a[i] @ b[i]) / temperature)
        rows = sum(math.exp(float(a[i] @ v) / temperature) for v in b)
        columns = sum(math.exp(float(u @ b[i]) / temperature) for u in a)
        total += (math.log(own / rows) + math.log(own / columns)) / 2
    return math.log(n) + total / n


def textbook_clustered_error(groups):
    """The standard error of the mean of all numbers, which come in independent groups."""
    numbers = np.concatenate(groups)
    mean, g = numbers.mean(), len(groups)
    residuals = [float(np.sum(group - mean)) for group in groups]
    return math.sqrt(g / (g - 1) * sum(r**2 for r in residuals)) / len(numbers)
