"""Slow, readable versions of nearest neighbours and of the estimators on them, in float64.

Samples are numpy arrays (n, d). Nothing is shared with the library, and every distance is that of
one pair of rows, from their differences.
"""

import math

import numpy as np
from scipy.special import digamma, gammaln, ndtri
from scipy.stats import rankdata


def scores(x):
    """Each feature made standard Gaussian by its ranks, in steps of 1e-12, as integers."""
    ranks = rankdata(x, axis=0)
    return np.round(1e12 * ndtri((ranks - 0.5) / len(x)))


def spreads(x):
    """Of each feature, the geometric mean of the steps over sqrt(n) of its values in order."""
    found, m = [], math.isqrt(len(x))
    for column in x.T:
        line = sorted(column.tolist())
        steps = [b - a for a, b in zip(line, line[m:], strict=False) if b > a]
        found.append(math.exp(sum(map(math.log, steps)) / len(steps)))
    return np.array(found)


def scaled_within_labels(x, labels):
    """Samples (n, d) with each feature in units of its spread within labels."""
    labels = np.array(labels)
    # Each sample counts once, by the group that it is in.
    logs = [np.log(spreads(x[labels == label])) for label in labels]
    return x / np.exp(np.mean(logs, axis=0))


def distance(a, b, metric):
    """Of two points."""
    if metric == "chebyshev":
        return max(abs(u - v) for u, v in zip(a, b, strict=True))
    # Within 1 ulp, and of any magnitude.
    return math.dist(a, b)


def distances(points, queries, metric):
    """Of all queries from all points, where both are lists of factors: the largest of each."""
    out = np.zeros((len(queries[0]), len(points[0])))
    for p, q in zip(points, queries, strict=True):
        p, q = np.asarray(p, np.float64).tolist(), np.asarray(q, np.float64).tolist()
        for i, a in enumerate(q):
            for j, b in enumerate(p):
                out[i, j] = max(out[i, j], distance(a, b, metric))
    return out


def all_distances(points, queries, metric):
    """The same with a loop over queries only, for larger samples."""
    out = np.zeros((len(queries[0]), len(points[0])))
    for p, q in zip(points, queries, strict=True):
        p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
        for i in range(len(q)):
            norms = np.linalg.norm(p - q[i], 2 if metric == "euclidean" else np.inf, axis=1)
            out[i] = np.maximum(out[i], norms)
    return out


def own_distances(points, metric, measure=distances):
    """From all others: a point is at infinity from itself, and from itself only."""
    out = measure(points, points, metric)
    out[np.arange(len(out)), np.arange(len(out))] = math.inf
    return out


def nearest(table, k):
    """The k smallest of each row of distances, ascending."""
    return np.sort(table, axis=1)[:, :k]


def counts(table, radii, closed=False):
    """How many distances of each row are below its radius (or equal to it)."""
    radii = np.asarray(radii)[:, None]
    return ((table <= radii) if closed else (table < radii)).sum(1)


def log_volume(d, metric):
    """Of the ball of radius 1."""
    if metric == "chebyshev":
        return d * math.log(2)
    return d / 2 * math.log(math.pi) - gammaln(d / 2 + 1)


def entropy(x, k, metric="euclidean", measure=distances):
    """Kozachenko & Leonenko 1987: Kraskov et al. 2004, equation 20, with radii."""
    n, d = x.shape
    radii = nearest(own_distances([x], metric, measure), k)[:, -1]
    logs = sum(math.log(radius) for radius in radii) / n
    return digamma(n) - digamma(k) + log_volume(d, metric) + d * logs


def kl_divergence(p, q, k, metric="euclidean", measure=distances):
    """Wang, Kulkarni & Verdú 2009, equation 5."""
    (n, d), m = p.shape, len(q)
    own = nearest(own_distances([p], metric, measure), k)[:, -1]
    other = nearest(measure([q], [p], metric), k)[:, -1]
    ratios = [math.log(nu) - math.log(rho) for nu, rho in zip(other, own, strict=True)]
    return d / n * sum(ratios) + math.log(m / (n - 1))


def cross_entropy(p, q, k, metric="euclidean", measure=distances):
    return entropy(p, k, metric, measure) + kl_divergence(p, q, k, metric, measure)


def multi_information(variables, k, metric="chebyshev", variant=1, measure=distances):
    """KSG 1 and 2 for m variables: Kraskov et al. 2004, equations 23 and 24."""
    n, m = len(variables[0]), len(variables)
    joint = own_distances(variables, metric, measure)
    alone = [own_distances([x], metric, measure) for x in variables]
    total = 0.0
    for i in range(n):
        radius = np.sort(joint[i])[k - 1]
        for table in alone:
            if variant == 1:
                within = sum(table[i, j] < radius for j in range(n))
                total += digamma(within + 1)
            else:
                farthest = max(table[i, j] for j in range(n) if joint[i, j] <= radius)
                within = sum(table[i, j] <= farthest for j in range(n))
                total += digamma(within)
    value = digamma(k) + (m - 1) * digamma(n) - total / n
    return value - (m - 1) / k if variant == 2 else value


def information_of_mixtures(variables, spaces, k, metric="chebyshev", measure=distances):
    """Gao et al. 2017, with a share of ties at any radius: the mean of signed digammas.

    Spaces are pairs of a sign and the numbers of the variables in it.
    """
    n, slack = len(variables[0]), 1e-10
    joint = own_distances(variables, metric, measure)
    tables = [
        (sign, own_distances([variables[v] for v in space], metric, measure))
        for sign, space in spaces
    ]
    total = 0.0
    for i in range(n):
        radius = np.sort(joint[i])[k - 1]
        nearer = sum(joint[i] < radius * (1 - slack))
        reached = sum(joint[i] <= radius * (1 + slack))
        share = 1 if radius == 0 else (k - nearer - 1) / (reached - nearer)
        total += digamma(reached + 1 if radius == 0 else k)
        for sign, table in tables:
            below = 1 + sum(table[i] < radius * (1 - slack)) if radius > 0 else 0
            up_to = 1 + sum(table[i] <= radius * (1 + slack))
            total += sign * digamma(below + share * (up_to - below))
    return total / n


def conditional_mutual_information(x, y, z, k, metric="chebyshev", measure=distances):
    """Frenzel & Pompe 2007, with the counts strictly within the radius, plus one."""
    n = len(x)
    radii = nearest(own_distances([x, y, z], metric, measure), k)[:, -1]
    total = 0.0
    for sign, space in ((1, [x, z]), (1, [y, z]), (-1, [z])):
        within = counts(own_distances(space, metric, measure), radii)
        total += sign * sum(digamma(count + 1) for count in within)
    return digamma(k) - total / n


def mutual_information_with_labels(x, labels, k, metric="chebyshev", measure=distances):
    """Ross 2014, equation 5: m_i counts the k-th neighbour too, but no others at its distance."""
    n = len(x)
    table = own_distances([x], metric, measure)
    total = 0.0
    for i in range(n):
        same = [table[i, j] for j in range(n) if j != i and labels[j] == labels[i]]
        radius = sorted(same)[k - 1]
        total += digamma(len(same) + 1) + digamma(1 + sum(table[i] < radius))
    return digamma(n) + digamma(k) - total / n
