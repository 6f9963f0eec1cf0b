"""Difficult samples, ways to search them, and comparisons with the textbook."""

import contextlib
import functools
from unittest import mock

import numpy as np
import torch

from infoprobe.neighbors import nearest, tiles
from infoprobe.neighbors import points as points_module
from infoprobe.neighbors import undecided as undecided_module
from tests import textbook_neighbors as textbook

METRICS = ["euclidean", "chebyshev"]
ENGINES = ["tree", "tiles", "symmetric"]
DATA = [
    "normal",
    "offset",
    "cauchy",
    "lattice",
    "clusters",
    "fine",
    "scales",
    "line",
    "duplicates",
    "equal",
    "tiny",
    "huge",
    "subnormal",
    "outlier",
    "levels",
]


def data(kind, n, d, seed=0):
    """Returns samples (n, d) float64, each kind of them difficult in one way."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def integers(high, *shape):
        return torch.randint(high, shape, generator=generator).double()

    x = normal(n, d)
    match kind:
        case "offset":
            x = x + 1e6 * torch.arange(1, d + 1)
        case "cauchy":
            x = x / normal(n, d)
        case "lattice":
            x = integers(3, n, d)
        case "clusters":
            # At the distance between clusters, float32 resolves nothing within them.
            x = 1e3 * integers(4, n, 1) + 1e-5 * x
        case "far":
            x = (x + 10).float()
        case "fine":
            x = 1 + 1e-11 * x
        case "scales":
            x = x * 10 ** torch.linspace(-6, 6, d, dtype=torch.float64)
        case "line":
            x = normal(n, 1).expand(n, d)
        case "duplicates":
            x = x[torch.randint(max(1, n // 4), (n,), generator=generator)]
        case "equal":
            x = x[:1].expand(n, d)
        case "tiny":
            x = 1e-120 * x
        case "huge":
            x = 1e120 * (x + 3)
        case "subnormal":
            x = (integers(10**6, n, d) * 2.0**-149).float()
        case "outlier":
            x[n // 2] = 1e15
        case "levels":
            # Steps of pixels: not exact in binary, and with many ties up to rounding.
            x = integers(5, n, d) / 255 + 0.1
    return x


@contextlib.contextmanager
def engine(kind=None, height=None, width=None, block=None, undecided=None):
    """Searches by one engine in any number of dimensions, with tiles as small as wanted."""
    values = {(points_module, "BLOCK"): block}
    if undecided:
        values[undecided_module, "ROWS"], values[undecided_module, "_WIDTH"] = undecided, 50
    if height:
        values[tiles, "_shape_of_tiles"] = lambda device, symmetric: (height, width)
    if kind:
        values[nearest, "_tree_searches_faster"] = lambda points, k: kind == "tree"
        values[nearest, "_tree_counts_faster"] = lambda points: kind == "tree"
        symmetric_from = 1 if kind == "symmetric" else 10**9
        values[tiles, "_SYMMETRIC_DIMENSIONS"] = symmetric_from
        values[tiles, "_SYMMETRIC_DIMENSIONS_CHEBYSHEV"] = symmetric_from
    with contextlib.ExitStack() as stack:
        for (module, name), value in values.items():
            if value is not None:
                stack.enter_context(mock.patch.object(module, name, value))
        yield


def arrays(tensors):
    return [x.double().numpy(force=True) for x in tensors]


def own_table(factors, metric):
    d = sum(x.shape[1] for x in factors)
    measure = textbook.distances if d < 20 else textbook.all_distances
    return textbook.own_distances(arrays(factors), metric, measure)


@functools.cache
def known(name, widths, metric, n):
    """Returns the factors of a product, and the textbook's table, which all engines share."""
    factors = [data(name, n, d, seed=d + i) for i, d in enumerate(widths)]
    return factors, own_table(factors, metric)


@functools.cache
def known_queries(name, widths, metric, n):
    """Returns factors, queries (some are points, some far away) and the textbook's table."""
    factors = [data(name, n, d, seed=d + i) for i, d in enumerate(widths)]
    queries = [
        torch.cat([x[:9], data(name, 40, d, seed=d + 50), 2 * data("normal", 2, d)])
        for x, d in zip(factors, widths, strict=True)
    ]
    return factors, queries, textbook.distances(arrays(factors), arrays(queries), metric)


def check_neighbors(found, table, k):
    """Compares neighbours with the textbook's table of all distances."""
    distances, indices = found.distances.numpy(force=True), found.indices.numpy(force=True)
    assert distances.dtype == np.float64
    assert indices.dtype == np.int64
    assert distances.shape == indices.shape == (len(table), k)
    np.testing.assert_allclose(distances, textbook.nearest(table, k), rtol=1e-12, atol=0)
    assert all(len(set(row)) == k for row in indices.tolist())
    there = np.take_along_axis(table, indices, 1)
    np.testing.assert_allclose(distances, there, rtol=1e-12, atol=0)
    assert (np.diff(distances) >= 0).all()
