import contextlib
import functools
import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode

import infoprobe as ip
from infoprobe.neighbors import (
    count_within,
    distances_to,
    nearest,
    nearest_neighbors,
    search,
    tiles,
)
from infoprobe.neighbors import points as points_module
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
    """Samples that are nasty in one way each, (n, d) float64."""
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
            # Between clusters, float32 resolves nothing of what is within them.
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
    """One way to search, whatever the number of dimensions, with tiles as small as one likes."""
    values = {(points_module, "BLOCK"): block, (tiles, "_UNDECIDED"): undecided}
    if height:
        values[tiles, "_TILE"] = values[tiles, "_TILE_SYMMETRIC"] = (height, width)
    if kind:
        values[nearest, "_suits_tree"] = lambda points: kind == "tree"
        values[nearest, "_TREE_DIMENSIONS"] = 10**9
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
    """Factors of a product, and the textbook's table, the same for all engines."""
    factors = [data(name, n, d, seed=d + i) for i, d in enumerate(widths)]
    return factors, own_table(factors, metric)


@functools.cache
def known_queries(name, widths, metric, n):
    """Likewise with queries: some are points, and some lie far away."""
    factors = [data(name, n, d, seed=d + i) for i, d in enumerate(widths)]
    queries = [
        torch.cat([x[:9], data(name, 40, d, seed=d + 50), 2 * data("normal", 2, d)])
        for x, d in zip(factors, widths, strict=True)
    ]
    return factors, queries, textbook.distances(arrays(factors), arrays(queries), metric)


def check(found, table, k):
    """Neighbours against the textbook's table of all distances."""
    distances, indices = found.distances.numpy(force=True), found.indices.numpy(force=True)
    assert distances.dtype == np.float64
    assert indices.dtype == np.int64
    assert distances.shape == indices.shape == (len(table), k)
    np.testing.assert_allclose(distances, textbook.nearest(table, k), rtol=1e-12, atol=0)
    assert all(len(set(row)) == k for row in indices.tolist())
    there = np.take_along_axis(table, indices, 1)
    np.testing.assert_allclose(distances, there, rtol=1e-12, atol=0)
    assert (np.diff(distances) >= 0).all()


class TestNearestNeighbors:
    def test_of_each_point_among_the_others(self):
        distances, indices = nearest_neighbors([0.0, 1.0, 3.0, 7.5], k=2)
        assert distances.tolist() == [[1, 3], [1, 2], [2, 3], [4.5, 6.5]]
        assert indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]

    def test_of_queries_among_all_points(self):
        found = nearest_neighbors([[0.0, 0.0], [3.0, 4.0]], 2, queries=[[3.0, 0.0]])
        assert found.distances.tolist() == [[3, 4]]
        assert found.indices.tolist() == [[0, 1]]
        found = nearest_neighbors([[0.0, 0.0], [3.0, 4.0]], 1, [[2.0, 2.5]], metric="chebyshev")
        assert found.distances.tolist() == [[1.5]]
        assert found.indices.tolist() == [[1]]

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("name", DATA)
    def test_they_equal_the_textbook(self, name, metric, kind):
        for d in (1, 3, 9):
            (x,), table = known(name, (d,), metric, 130)
            with engine(kind, height=64, width=128, undecided=7):
                for k in (1, 5):
                    check(nearest_neighbors(x, k, metric=metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("name", DATA)
    def test_those_of_queries_equal_the_textbook(self, name, metric, kind):
        for d in (1, 4, 9):
            (x,), (queries,), table = known_queries(name, (d,), metric, 140)
            with engine(kind, height=64, width=64, undecided=7):
                for k in (1, 4):
                    check(nearest_neighbors(x, k, queries, metric), table, k)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [127, 128, 300])
    @pytest.mark.parametrize("name", ["normal", "offset", "clusters", "fine", "cauchy", "levels"])
    def test_many_dimensions(self, name, d, metric, device):
        (x,), table = known(name, (d,), metric, 200)
        for height, width in ((None, None), (64, 128), (192, 64)):
            with engine(None, height, width):
                check(nearest_neighbors(x.to(device), 3, metric=metric), table, 3)

    @pytest.mark.parametrize("height", [64, 128, 192])
    @pytest.mark.parametrize("width", [64, 128, 320])
    @pytest.mark.parametrize("kind", ["tiles", "symmetric"])
    def test_tiles_of_any_shape(self, kind, height, width):
        x = data("normal", 333, 8)
        table = own_table([x], "euclidean")
        with engine(kind, height, width):
            for k in (1, 7, 70):
                check(nearest_neighbors(x, k), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("n", [2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129])
    def test_sizes_around_those_of_groups(self, n, metric, kind):
        x = data("normal", n, 3)
        table = own_table([x], metric)
        with engine(kind, height=64, width=64):
            for k in sorted({1, min(3, n - 1), max(1, n - 3), max(1, n - 2), n - 1}):
                check(nearest_neighbors(x, k, metric=metric), table, k)
        queries = data("normal", 5, 3, seed=1)
        table = textbook.distances(arrays([x]), arrays([queries]), metric)
        with engine(kind, height=64, width=64):
            for k in sorted({1, n - 1, n}):
                check(nearest_neighbors(x, k, queries, metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_a_single_query(self, metric, kind):
        x = data("normal", 200, 4)
        for query in (x[17:18], x[:1] + 100):
            table = textbook.distances(arrays([x]), arrays([query]), metric)
            with engine(kind, height=64, width=64):
                check(nearest_neighbors(x, 3, query, metric), table, 3)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("copies", [2, 5, 70, 150])
    def test_of_many_equal_points_each_finds_others(self, copies, metric, kind):
        x = data("normal", 200, 3)
        x[torch.randperm(200, generator=torch.Generator().manual_seed(1))[:copies]] = x[5].clone()
        table = own_table([x], metric)
        with engine(kind, height=64, width=128):
            for k in (1, 3, 8):
                found = nearest_neighbors(x, k, metric=metric)
                check(found, table, k)
                assert (found.indices != torch.arange(200)[:, None]).all()
                zeros = (found.distances == 0).sum(1)
                equal = (x == x[:, None]).all(2).sum(1) - 1
                assert zeros.tolist() == equal.clamp(max=k).tolist()

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_whatever_the_points(self, drawn):
        # Eighths have many ties, all of them exact.
        eighths = st.integers(-20, 20).map(lambda i: i / 8)
        wide = st.floats(-1e30, 1e30).map(lambda v: v if abs(v) > 1e-100 else 0.0)
        kinds = [eighths, wide]
        elements = drawn.draw(st.sampled_from(kinds))
        n, d = drawn.draw(st.integers(2, 20)), drawn.draw(st.integers(1, 9))
        x = torch.from_numpy(drawn.draw(hnp.arrays(np.float64, (n, d), elements=elements)))
        x = x * drawn.draw(st.sampled_from([1, 1e-11, 1e11]))
        k = drawn.draw(st.integers(1, n - 1))
        metric, kind = drawn.draw(st.sampled_from(METRICS)), drawn.draw(st.sampled_from(ENGINES))
        with engine(kind, height=64, width=64, block=drawn.draw(st.integers(1, 200))):
            found = nearest_neighbors(x, k, metric=metric)
        check(found, own_table([x], metric), k)
        assert (found.indices != torch.arange(n)[:, None]).all()

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("name", DATA)
    def test_trees_and_tiles_agree_on_larger_samples(self, name, metric):
        x = data(name, 1000, 4)
        with engine("tree"):
            tree = nearest_neighbors(x, 3, metric=metric)
        for kind in ("tiles", "symmetric"):
            with engine(kind, height=512, width=1024):
                found = nearest_neighbors(x, 3, metric=metric)
            np.testing.assert_allclose(tree.distances, found.distances, rtol=1e-12, atol=0)

    def test_a_line_of_many_points(self):
        # In float32, differences of squares see most of these as 0.
        x = data("normal", 100_000, 1)
        line = x.flatten().sort().values
        gaps = torch.cat([torch.tensor([math.inf]), line.diff(), torch.tensor([math.inf])])
        expected = torch.minimum(gaps[1:], gaps[:-1])
        found = nearest_neighbors(x)
        assert torch.equal(found.distances.flatten()[x.flatten().argsort()], expected)
        with engine("tiles"):
            some = nearest_neighbors(x[:5000])
        tree = nearest_neighbors(x[:5000])
        assert torch.equal(some.distances, tree.distances)
        assert some.distances.min() > 0

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int16])
    @pytest.mark.parametrize("d", [3, 9])
    def test_narrow_types_are_exact(self, dtype, d, device):
        x = (4 * data("normal", 150, d) + 50).to(dtype)
        queries = (4 * data("normal", 20, d, seed=1) + 50).to(dtype)
        check(nearest_neighbors(x.to(device), 3), own_table([x], "euclidean"), 3)
        found = nearest_neighbors(x.to(device), 3, queries)
        assert found.distances.device.type == found.indices.device.type == device
        table = textbook.distances(arrays([x]), arrays([queries]), "euclidean")
        check(found, table, 3)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("kind", ["tree", "tiles"])
    def test_queries_of_another_type_than_the_points(self, kind, metric):
        # A centre that is rounded for one of both only would move them apart.
        x = 1e4 + 0.005 * data("normal", 1000, 8)
        queries = 1e4 + 0.005 * data("normal", 200, 8, seed=1)
        for points, asked in ((x.float(), queries), (x, queries.float())):
            table = textbook.all_distances(arrays([points]), arrays([asked]), metric)
            with engine(kind):
                for k in (3, 40):
                    check(nearest_neighbors(points, k, asked, metric), table, k)

    @pytest.mark.parametrize("d", [2, 9])
    def test_points_beyond_the_range_of_the_queries_type(self, d):
        queries = data("normal", 20, d, seed=1).float()
        for x in (1e60 * data("normal", 150, d), 1e60 + 1e55 * data("normal", 150, d)):
            table = textbook.distances(arrays([x]), arrays([queries]), "euclidean")
            check(nearest_neighbors(x, 3, queries), table, 3)
            check(nearest_neighbors(queries, 3, x), table.T, 3)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [8, 40, 200])
    def test_ranks_decide_wherever_the_samples_lie(self, d, metric):
        # All distances of a row cost a hundred times its tile.
        rows = []
        search_all = tiles._Tiles.exhaustive

        def exhaustive(self, some, *arguments):
            rows.extend(some.tolist())
            return search_all(self, some, *arguments)

        x = 0.01 * data("normal", 1000, d)
        with (
            engine("symmetric" if d == 200 else "tiles"),
            mock.patch.object(tiles._Tiles, "exhaustive", exhaustive),
        ):
            for offset in (0, 100, 1e6):
                nearest_neighbors(x + offset, 3, metric=metric)
            nearest_neighbors((x + 100).float(), 3, metric=metric)
        assert len(rows) < 40

    def test_whatever_follows_the_first_axis_is_flattened(self):
        x = data("normal", 60, 24)
        expected = nearest_neighbors(x, 3)
        found = nearest_neighbors(x.reshape(60, 2, 3, 4), 3, metric="euclidean")
        assert torch.equal(found.distances, expected.distances)
        assert torch.equal(found.indices, expected.indices)
        queries = nearest_neighbors(x.reshape(60, 4, 6), 3, x.reshape(60, 24, 1))
        assert (queries.distances[:, 0] == 0).all()
        assert queries.indices[:, 0].tolist() == list(range(60))

    def test_arrays_and_strange_memory(self):
        x = data("normal", 80, 8)
        expected = nearest_neighbors(x, 3).distances
        wide = torch.stack([x, x], 2).reshape(80, 16)[:, ::2]
        read_only = x.numpy().copy()
        read_only.flags.writeable = False
        for same in (x.T.contiguous().T, wide, x.numpy()[::-1][::-1], read_only, x.tolist()):
            assert torch.equal(nearest_neighbors(same, 3).distances, expected)
            assert torch.equal(nearest_neighbors(same, 3, same).distances[:, 0], torch.zeros(80))

    def test_arguments_are_left_as_they_are(self):
        for d in (3, 9, 130):
            x, queries = data("normal", 90, d), data("normal", 20, d, seed=1)
            copies = x.clone(), queries.clone()
            nearest_neighbors(x, 3)
            nearest_neighbors(x, 3, queries)
            assert torch.equal(x, copies[0])
            assert torch.equal(queries, copies[1])


class TestProducts:
    WIDTHS = ((1, 1), (2, 1), (1, 1, 1), (3, 2), (2, 1, 3), (9, 1), (70, 70))

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("widths", WIDTHS)
    def test_they_equal_the_textbook(self, widths, metric, kind):
        if kind == "tree" and sum(widths) > 20:
            pytest.skip("no trees in so many dimensions")
        for name in ("normal", "lattice", "clusters", "fine"):
            factors, table = known(name, widths, metric, 100)
            with engine(kind, height=64, width=64):
                for k in (1, 6, 99):
                    check(search(factors, k, None, metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_with_queries(self, metric, kind):
        for name in ("normal", "lattice", "clusters", "fine"):
            points, queries, table = known_queries(name, (1, 2, 3), metric, 130)
            with engine(kind, height=64, width=64):
                for k in (1, 6, 130):
                    check(search(points, k, queries, metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_factors_of_different_types(self, metric, kind):
        for widths in ((1, 1), (2, 3), (4, 4)):
            coarse = (1e4 + 0.01 * data("normal", 130, widths[0])).float()
            exact = 1e4 + 1e-3 * data("normal", 130, widths[1], seed=1)
            for factors in ([coarse, exact], [exact, coarse]):
                with engine(kind, height=64, width=128):
                    found = search(factors, 4, None, metric)
                check(found, own_table(factors, metric), 4)

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_whatever_the_points(self, drawn):
        n, asked = drawn.draw(st.integers(2, 15)), drawn.draw(st.integers(1, 6))
        widths = drawn.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        elements = st.integers(-12, 12).map(lambda i: i / 4)

        def draw(rows):
            return [
                torch.from_numpy(drawn.draw(hnp.arrays(np.float64, (rows, d), elements=elements)))
                for d in widths
            ]

        points = draw(n)
        metric, kind = drawn.draw(st.sampled_from(METRICS)), drawn.draw(st.sampled_from(ENGINES))
        with engine(kind, height=64, width=64, block=drawn.draw(st.integers(1, 100))):
            if drawn.draw(st.booleans()):
                k, queries = drawn.draw(st.integers(1, n)), draw(asked)
                table = textbook.distances(arrays(points), arrays(queries), metric)
            else:
                k, queries = drawn.draw(st.integers(1, n - 1)), None
                table = own_table(points, metric)
            check(search(points, k, queries, metric), table, k)

    def test_the_distance_is_the_largest_of_those_in_the_factors(self):
        x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
        y = torch.tensor([[0.0], [1.0], [6.0]], dtype=torch.float64)
        found = search([x, y], 2, None, "euclidean")
        assert found.distances.tolist() == [[5, 6], [5, 5], [5, 6]]
        found = search([x, y], 2, None, "chebyshev")
        assert found.distances.tolist() == [[4, 6], [4, 5], [5, 6]]


class TestCounts:
    """Open and closed balls, on a line, by trees and by tiles."""

    @pytest.mark.parametrize("kind", ["tree", "tiles"])
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("name", DATA)
    def test_they_equal_the_textbook(self, name, metric, kind):
        for d in (1, 2, 9):
            (x,), table = known(name, (d,), metric, 130)
            # Each radius is the distance of some neighbour, near or far.
            ranks = torch.randint(129, (130, 1), generator=torch.Generator().manual_seed(d))
            radii = np.take_along_axis(np.sort(table, 1), ranks.numpy(), 1).squeeze(1)
            with engine(kind, height=64, width=128):
                self.agree([x], table, radii, metric)
                # Between two neighbours, open or closed does not matter.
                self.agree([x], table, 1.0001 * radii, metric)

    def agree(self, factors, table, radii, metric):
        limits = torch.from_numpy(radii)
        for closed in (False, True):
            counted = count_within(factors, limits, metric, closed=closed)
            assert counted.dtype == torch.int64
            # Distances within 1e-10 of the radius are equal to it.
            expected = textbook.counts(table, radii * (1 + 1e-10 * (2 * closed - 1)), closed=True)
            some = radii > 0 if not closed else radii >= 0
            np.testing.assert_array_equal(counted.numpy()[some], expected[some])

    @pytest.mark.parametrize("d", [1, 2, 9])
    @pytest.mark.parametrize("metric", METRICS)
    def test_nothing_is_nearer_than_a_radius_of_zero(self, metric, d):
        x = data("duplicates", 100, d)
        radii = torch.zeros(100, dtype=torch.float64)
        closed = count_within([x], radii, metric, closed=True)
        assert closed.tolist() == textbook.counts(own_table([x], metric), radii, True).tolist()
        assert count_within([x], radii, metric).tolist() == [0] * 100

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("widths", [(1, 1), (2, 1), (1, 1, 1), (3, 2), (9, 2), (70, 70)])
    def test_in_products(self, widths, metric):
        for name in ("normal", "lattice", "clusters", "fine"):
            factors, table = known(name, widths, metric, 100)
            for rank in (3, 80):
                radii = np.sort(table, 1)[:, rank]
                with engine(None, 64, 128):
                    self.agree(factors, table, radii, metric)
                with engine("tiles", 192, 64, block=5000):
                    self.agree(factors, table, radii, metric)

    @pytest.mark.parametrize("kind", ["line", "tree", "tiles"])
    @pytest.mark.parametrize("offset", [0, 0.7, 1e3])
    def test_rounding_does_not_decide_about_ties(self, kind, offset):
        # Multiples of 0.1 are no floats: their differences are, and are not, 0.1 and 0.3.
        numbers = torch.arange(200, dtype=torch.float64)[:, None]
        line = offset + 0.1 * numbers
        assert len(line.flatten().diff().unique()) > 1
        x = line if kind == "line" else torch.cat([line, torch.zeros_like(line)], 1)
        for steps in (1, 3, 10):
            radii = torch.full((200,), steps * 0.1, dtype=torch.float64)
            with engine("tiles" if kind == "tiles" else "tree", height=64, width=64):
                inside = count_within([x], radii, "chebyshev")
                closed = count_within([x], radii, "chebyshev", closed=True)
            exact = (numbers - numbers.T).abs()
            assert inside.tolist() == ((exact < steps).sum(1) - 1).tolist()
            assert closed.tolist() == ((exact <= steps).sum(1) - 1).tolist()

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_whatever_the_points(self, drawn):
        n, d = drawn.draw(st.integers(2, 20)), drawn.draw(st.integers(1, 8))
        elements = st.integers(-20, 20).map(lambda i: i / 8)
        x = torch.from_numpy(drawn.draw(hnp.arrays(np.float64, (n, d), elements=elements)))
        radii = drawn.draw(hnp.arrays(np.float64, n, elements=st.integers(1, 60))) / 8
        metric, kind = drawn.draw(st.sampled_from(METRICS)), drawn.draw(st.sampled_from(ENGINES))
        closed = drawn.draw(st.booleans())
        scale = drawn.draw(st.sampled_from([1, 1e-11, 1e100]))
        with engine(kind, height=64, width=64):
            limits = torch.from_numpy(radii) * scale
            counted = count_within([x * scale], limits, metric, closed=closed)
        expected = textbook.counts(own_table([x], metric), radii, closed)
        assert counted.tolist() == expected.tolist()

    def test_tiles_agree_with_trees_on_larger_samples(self):
        x = data("cauchy", 3000, 3)
        radii = nearest_neighbors(x, 20).distances[:, -1]
        with engine("tree"):
            expected = count_within([x], radii, "euclidean", closed=True)
        assert (expected == 20).all()
        with engine("tiles", height=512, width=1024):
            assert torch.equal(count_within([x], radii, "euclidean", closed=True), expected)
            assert (count_within([x], radii, "euclidean") == 19).all()

    def test_distances_to_given_points(self):
        x = data("normal", 50, 4)
        indices = torch.randint(50, (50, 3), generator=torch.Generator().manual_seed(0))
        for metric in METRICS:
            table = textbook.distances([x.numpy()], [x.numpy()], metric)
            expected = np.take_along_axis(table, indices.numpy(), 1)
            np.testing.assert_allclose(distances_to(x, indices, metric), expected, rtol=1e-12)


class TestGradients:
    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_they_equal_finite_differences(self, metric, kind):
        x = data("normal", 8, 3).requires_grad_()
        queries = data("normal", 3, 3, seed=1).requires_grad_()
        with engine(kind, block=20):

            def own(x):
                return nearest_neighbors(x, 3, metric=metric).distances

            def other(x, queries):
                return nearest_neighbors(x, 3, queries, metric).distances

            def product(x, y):
                return search([x, y], 2, None, metric).distances

            y = data("normal", 8, 2, seed=2).requires_grad_()

            assert torch.autograd.gradcheck(own, x)
            assert torch.autograd.gradcheck(other, (x, queries))
            assert torch.autograd.gradcheck(other, (x.detach(), queries))
            assert torch.autograd.gradcheck(product, (x, y))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_they_have_the_type_of_the_points(self, dtype):
        x = data("normal", 50, 9).to(dtype).requires_grad_()
        found = nearest_neighbors(x, 2)
        assert found.distances.requires_grad
        assert not found.indices.requires_grad
        found.distances.sum().backward()
        assert x.grad.dtype == dtype
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 1

    @pytest.mark.parametrize("metric", METRICS)
    def test_points_that_coincide_have_finite_ones(self, metric):
        x = data("duplicates", 50, 3).requires_grad_()
        nearest_neighbors(x, 3, metric=metric).distances.sum().backward()
        assert x.grad.isfinite().all()

    @pytest.mark.parametrize("kind", ENGINES)
    def test_values_are_the_same_without(self, kind):
        x = data("normal", 200, 5)
        with engine(kind, height=64, width=64):
            expected = nearest_neighbors(x, 3)
            found = nearest_neighbors(x.clone().requires_grad_(), 3)
        assert torch.equal(found.indices, expected.indices)
        torch.testing.assert_close(
            found.distances.detach(), expected.distances, rtol=1e-14, atol=0
        )


class TestSurroundings:
    """What the caller has set elsewhere."""

    @pytest.fixture(params=[5, 40, 130])
    def x(self, request):
        return torch.cat(known("far", (2, request.param - 2), "euclidean", 300)[0], 1)

    def agrees(self, x):
        widths = (2, x.shape[1] - 2)
        for metric in METRICS:
            factors, table = known("far", widths, metric, 300)
            check(search(factors, 3, None, metric), table, 3)
            radii = torch.from_numpy(np.sort(table, 1)[:, 5])
            assert count_within(factors, radii, metric).tolist() == [5] * 300
        expected = textbook.nearest(self.table(x.shape[1]), 3)
        np.testing.assert_allclose(nearest_neighbors(x, 3).distances, expected, rtol=1e-12)

    @staticmethod
    @functools.cache
    def table(d):
        return own_table(
            [torch.cat(known("far", (2, d - 2), "euclidean", 300)[0], 1)], "euclidean"
        )

    @pytest.mark.parametrize("precision", ["medium", "high", "highest"])
    def test_the_precision_of_products_does_not_matter(self, x, precision):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            expected = self.precisions()
            self.agrees(x)
            assert self.precisions() == expected
            with (
                mock.patch.object(tiles._Tiles, "ranks", side_effect=MemoryError),
                pytest.raises(MemoryError),
            ):
                nearest_neighbors(data("normal", 50, 20), 3)
            assert self.precisions() == expected
        finally:
            torch.set_float32_matmul_precision(before)

    @staticmethod
    def precisions():
        backends = (
            getattr(b, "matmul", None) for b in (torch.backends.mkldnn, torch.backends.cuda)
        )
        newer = (getattr(matmul, "fp32_precision", None) for matmul in backends)
        return torch.get_float32_matmul_precision(), *newer

    def test_the_newer_setting_of_that_precision_may_be_used(self, x):
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("needs torch 2.9")
        try:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            self.agrees(x)
            assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        finally:
            torch.backends.cuda.matmul.fp32_precision = "ieee"
            torch.set_float32_matmul_precision("highest")

    def test_a_precision_that_backends_inherit_is_still_inherited(self):
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("needs torch 2.9")
        matmul = torch.backends.mkldnn.matmul
        try:
            matmul.fp32_precision = "none"
            torch.backends.fp32_precision = "bf16"
            assert matmul.fp32_precision == "bf16"
            nearest_neighbors(data("normal", 100, 9), 3)
            assert matmul.fp32_precision == "bf16"
            torch.backends.fp32_precision = "ieee"
            assert matmul.fp32_precision == "ieee"
        finally:
            torch.backends.fp32_precision = "none"
            torch.set_float32_matmul_precision("highest")

    def test_autocast_does_not_matter(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            self.agrees(x)
            assert torch.is_autocast_enabled("cpu")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_default_dtype_does_not_matter(self, x, dtype):
        torch.set_default_dtype(dtype)
        try:
            self.agrees(x)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_the_default_device_does_not_matter(self, x):
        # Of a device without memory, any tensor made on it is found out.
        with torch.device("meta"):
            found = nearest_neighbors(x, 3)
            radii = found.distances[:, -1]
            counted = count_within([x], radii, "euclidean", closed=True)
            line = count_within([x[:, :1]], radii, "euclidean")
        check(found, self.table(x.shape[1]), 3)
        assert counted.device == line.device == x.device
        assert counted.tolist() == [3] * len(x)

    def test_no_gradients_wanted(self, x):
        expected = nearest_neighbors(x, 3)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = nearest_neighbors(x.clone().requires_grad_(), 3)
                assert not found.distances.requires_grad
                torch.testing.assert_close(found.distances, expected.distances)
                self.agrees(x)
        with torch.inference_mode():
            made = x.clone()
        check(nearest_neighbors(made, 3), self.table(x.shape[1]), 3)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads_and_blocks_do_not_matter(self, x, threads):
        before = torch.get_num_threads()
        expected = nearest_neighbors(x, 3)
        torch.set_num_threads(threads)
        try:
            for block in (1, 1000, 10**6):
                with mock.patch.object(points_module, "BLOCK", block):
                    found = nearest_neighbors(x, 3)
                assert torch.equal(found.indices, expected.indices)
                torch.testing.assert_close(found.distances, expected.distances, rtol=1e-14, atol=0)
        finally:
            torch.set_num_threads(before)

    def test_no_tensor_is_as_large_as_all_pairs(self):
        n = 6000
        for d in (8, 128):
            x = data("normal", n, d).float()
            with Largest() as largest:
                radii = nearest_neighbors(x, 3).distances[:, -1]
                nearest_neighbors(x, 3, x[:3000] + 1)
                count_within([x[:, :2], x[:, 2:]], radii, "euclidean")
            # A tile has some hundred rows.
            assert n * 512 <= largest.size <= 1.05 * 2048 * n

    def test_undecided_rows_come_a_few_at_a_time(self):
        # Within clusters no rank decides, and each has 750 points.
        n = 3000
        x = data("clusters", n, 8)
        with Largest() as largest, engine("tiles"):
            found = nearest_neighbors(x, 3)
        with engine("tree"):
            expected = nearest_neighbors(x, 3)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-12, atol=0)
        assert largest.size <= 1.05 * 512 * n


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that is made in this context."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                # Of views, what they take in memory.
                self.size = max(self.size, tensor.untyped_storage().nbytes() // 4)
        return out


class TestErrors:
    def test_k(self):
        x = data("normal", 5, 2)
        for k in (0, -1, 5, 100):
            with pytest.raises(ValueError, match=r"^k: expected an integer between 1 and 4, got"):
                nearest_neighbors(x, k)
        for k in (0, 6):
            with pytest.raises(ValueError, match=r"^k: expected an integer between 1 and 5, got"):
                nearest_neighbors(x, k, x)
        for k in (1.0, "1", None, True):
            with pytest.raises(TypeError, match=r"^k: expected an integer, got"):
                nearest_neighbors(x, k)
        assert nearest_neighbors(x, np.int64(4)).indices.shape == (5, 4)
        assert nearest_neighbors(x, 5, x).indices.shape == (5, 5)

    def test_metric(self):
        for metric in ("manhattan", "Euclidean", 2, None):
            with pytest.raises(ValueError, match=r"^metric: expected one of 'euclidean', 'cheb"):
                nearest_neighbors(data("normal", 5, 2), 1, metric=metric)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite(self, bad):
        x = data("normal", 9, 2)
        broken = x.clone()
        broken[3, 1] = bad
        with pytest.raises(ValueError, match=r"^x: expected finite values, got"):
            nearest_neighbors(broken)
        with pytest.raises(ValueError, match=r"^queries: expected finite values, got"):
            nearest_neighbors(x, 1, broken)

    def test_too_few_points(self):
        for x in (torch.zeros(1, 3), torch.zeros(1), torch.tensor(3.0)):
            with pytest.raises(ValueError, match=r"^x: expected at least 2 samples"):
                nearest_neighbors(x)
        for x in (torch.zeros(0, 3), torch.zeros(3, 0), []):
            with pytest.raises(ValueError, match=r"^x: expected at least one value"):
                nearest_neighbors(x)
            with pytest.raises(ValueError, match=r"^queries: expected at least one value"):
                nearest_neighbors(torch.zeros(5), 1, x)

    def test_different_d(self):
        with pytest.raises(ValueError, match=r"x has d=2, queries has d=3"):
            nearest_neighbors(torch.zeros(5, 2), 1, torch.zeros(4, 3))

    def test_no_numbers(self):
        for x in ("abc", None, torch.zeros(5, 2, dtype=torch.complex64)):
            with pytest.raises(TypeError, match=r"^x: "):
                nearest_neighbors(x)
        with pytest.raises(TypeError, match=r"^queries: "):
            nearest_neighbors(torch.zeros(5), 1, "abc")

    @pytest.mark.parametrize("d", [1, 2, 6, 7, 20])
    def test_beyond_the_range_of_squares_distances_are_right_or_refused(self, d):
        for scale in (1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e300):
            self.right_or_refused(data("normal", 60, d) * scale)

    @pytest.mark.parametrize("d", [1, 6, 7])
    def test_where_the_mean_overflows_distances_are_right_or_refused(self, d):
        x = torch.full((400, d), 1.7e308, dtype=torch.float64)
        x[1::2] *= -1
        x *= torch.rand(400, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        self.right_or_refused(x)

    @pytest.mark.parametrize("d", [1, 2, 9])
    def test_of_queries_too_far_away_distances_are_right_or_refused(self, d):
        x = data("normal", 60, d)
        for far in (1e150, 1e200, -1e300):
            self.right_or_refused(x, torch.full((3, d), far, dtype=torch.float64))

    def right_or_refused(self, x, queries=None):
        try:
            found = nearest_neighbors(x, 2, queries)
        except ValueError as error:
            assert "Rescale" in str(error)  # noqa: PT017
        else:
            asked = [x] if queries is None else [queries]
            table = textbook.distances(arrays([x]), arrays(asked), "euclidean")
            if queries is None:
                np.fill_diagonal(table, math.inf)
            check(found, table, 2)


def test_it_is_public():
    assert ip.nearest_neighbors is nearest_neighbors
