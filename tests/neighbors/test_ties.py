"""Samples of which many are equally far from each other: right, and not pair by pair."""

import math
from unittest import mock

import numpy as np
import pytest
import torch

import infoprobe as ip
from infoprobe.neighbors import count_within, nearest_neighbors, points, tiles, undecided
from tests.neighbors.helpers import METRICS, check_neighbors, data, engine, own_table

N = 150


def rotation(n):
    return torch.linalg.qr(data("normal", n, n))[0]


def samples(kind):
    generator = torch.Generator().manual_seed(0)

    def chosen(high, *shape):
        return torch.randint(high, shape, generator=generator).double()

    match kind:
        case "axes":
            return torch.eye(N)
        case "axes of no round length":
            return 0.3 * torch.eye(N)
        case "rotated axes":
            return rotation(N)
        case "rotated axes far away":
            return rotation(N) + 1e6
        case "small axes among large ones":
            return torch.block_diag(1e-6 * rotation(N // 2), rotation(N // 2))
        case "bits":
            return chosen(2, N, 20)
        case "tenths":
            return chosen(3, N, 12) / 10
        case "half zeros":
            return data("normal", N, 15) * (chosen(5, N, 15) == 0)
        case "two groups":
            return (torch.arange(N) % 2).double().unsqueeze(1).expand(N, 10)
        case "low rank":
            return data("normal", N, 2) @ data("normal", 2, 20, seed=1)
        case "twins":
            return data("normal", N // 2, 12).repeat(2, 1)
        case "one in a million":
            return chosen(2, N, 20) + 1e-6 * data("normal", N, 20)


KINDS = [
    "axes",
    "axes of no round length",
    "rotated axes",
    "rotated axes far away",
    "small axes among large ones",
    "bits",
    "tenths",
    "half zeros",
    "two groups",
    "low rank",
    "twins",
    "one in a million",
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["tiles", "symmetric"])
def test_they_equal_the_textbook(by, kind, metric):
    x = samples(kind)
    table = own_table([x], metric)
    with engine(by, height=64, width=64):
        for k in (1, 3):
            found = nearest_neighbors(x, k, metric=metric)
            check_neighbors(found, table, k)
            radii = found.distances[:, -1]
            for closed in (True, False):
                limits = radii.numpy()[:, None] * (1 + 1e-10 if closed else 1 - 1e-10)
                expected = ((table <= limits) & ((radii.numpy() > 0)[:, None] | closed)).sum(1)
                counted = count_within([x], radii, metric, closed=closed)
                assert counted.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_with_another_variable(kind):
    factors = [samples(kind), data("normal", N, 2)]
    table = own_table(factors, "euclidean")
    found = ip.neighbors.search(factors, 3, None, "euclidean")
    check_neighbors(found, table, 3)
    counted = count_within(factors, found.distances[:, -1], "euclidean", closed=True)
    assert (counted >= 3).all()


@pytest.mark.parametrize(
    "kind", ["axes", "rotated axes", "bits", "tenths", "rotated axes far away"]
)
def test_no_distance_is_computed_pair_by_pair(kind):
    # By differences, each of n (n - 1) pairs would cost what its whole row costs in a product.
    x = samples(kind)
    pairs = []

    def distances_between(a, rows, b, columns):
        pairs.append(columns.numel())
        return points.distances_between(a, rows, b, columns)

    with (
        engine("tiles"),
        mock.patch.object(tiles, "distances_between", distances_between),
        mock.patch.object(undecided, "distances_between", distances_between),
        mock.patch.object(undecided, "_by_differences", side_effect=AssertionError),
    ):
        radii = nearest_neighbors(x, 3).distances[:, -1]
        count_within([x], radii, "euclidean", closed=True)
    assert sum(pairs) < 30 * N


def test_exact_ranks_are_recognised():
    def exact(x, metric="euclidean"):
        sample = points.Points([x], metric)
        return tiles._Tiles(sample, sample).exact

    assert exact(torch.eye(50))
    assert exact(samples("bits") * 2.0**40)
    assert exact(torch.randint(256, (50, 3)).float(), "chebyshev")
    assert not exact(0.3 * torch.eye(50))
    assert not exact(torch.eye(50, dtype=torch.float64) + 1e-12 * torch.eye(50).roll(1, 0))
    assert not exact(data("normal", 50, 8))
    assert not exact(torch.randint(1 << 14, (50, 8)).float())


def test_equal_points_are_counted_as_one_of_their_weight():
    # 80 % of the rows are one point, which stands for all of them.
    x = torch.zeros(1000, 2)
    x[800:] = data("normal", 200, 2).float()
    y = data("normal", 1000, 8)
    y[:800] = 0
    radii = torch.full((1000,), 0.5, dtype=torch.float64)
    counted = count_within([x, y], radii, "euclidean", closed=True)
    table = own_table([x, y], "euclidean")
    assert counted.tolist() == (table <= 0.5).sum(1).tolist()
    some = torch.tensor([3, 900, 2])
    asked = count_within([x, y], radii, "euclidean", closed=True, rows=some)
    assert asked.tolist() == counted[some].tolist()


def test_a_kernel_matrix_is_not_made_by_accident():
    with pytest.raises(ValueError, match=r"x: .*32,768 samples.*got 40,000.*12 GiB.*randperm"):
        ip.MatrixRenyi().entropy(torch.zeros(40_000, 1))


def test_a_device_without_float64_is_named():
    with pytest.raises(ValueError, match=r"x: .*float64, got 'mps'.*x\.cpu\(\)"):
        ip.neighbors.nearest._require_float64(torch.device("mps"), "x")


def test_an_atom_is_no_cliff():
    x = torch.zeros(20_000, 3)
    x[16_000:] = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    found = nearest_neighbors(x, 3)
    assert (found.distances[:16_000] == 0).all()
    apart = nearest_neighbors(x[15_990:], 3)
    np.testing.assert_allclose(found.distances[16_000:], apart.distances[10:], rtol=1e-12)
    with pytest.raises(ValueError, match="16,000 of 20,000 coincide"):
        ip.KNN().entropy(x)
    assert math.isfinite(ip.KNN().mutual_information(x, x.flip(0)))
