import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infoprobe.neighbors import count_within, distances_to, nearest_neighbors, search
from infoprobe.neighbors.points import Points
from infoprobe.neighbors.trees import Tree
from tests import textbook_neighbors as textbook
from tests.neighbors.helpers import (
    DATA,
    ENGINES,
    METRICS,
    arrays,
    check_neighbors,
    data,
    engine,
    known,
    known_queries,
    own_table,
)


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
                    check_neighbors(search(factors, k, None, metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_with_queries(self, metric, kind):
        for name in ("normal", "lattice", "clusters", "fine"):
            points, queries, table = known_queries(name, (1, 2, 3), metric, 130)
            with engine(kind, height=64, width=64):
                for k in (1, 6, 130):
                    check_neighbors(search(points, k, queries, metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_factors_of_different_types(self, metric, kind):
        for widths in ((1, 1), (2, 3), (4, 4)):
            coarse = (1e4 + 0.01 * data("normal", 130, widths[0])).float()
            exact = 1e4 + 1e-3 * data("normal", 130, widths[1], seed=1)
            for factors in ([coarse, exact], [exact, coarse]):
                with engine(kind, height=64, width=128):
                    found = search(factors, 4, None, metric)
                check_neighbors(found, own_table(factors, metric), 4)

    @given(st.data())
    @settings(max_examples=60)
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
            check_neighbors(search(points, k, queries, metric), table, k)

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
                # With radii between two neighbours, open and closed balls count the same.
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
        # Floats round multiples of 0.1, so that some differences are 0.1 or 0.3 and some are not.
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
    @settings(max_examples=60)
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

    def test_a_tree_whose_arrays_cannot_be_written(self):
        x = data("normal", 200, 3)
        tree = Tree(Points([x], "euclidean"))
        expected = tree.search(tree.points, 4), tree.count_within(tree.points, torch.ones(200))
        built = tree.tree
        frozen = {name: getattr(built, name).copy() for name in ("indices", "data")}
        for array in frozen.values():
            array.setflags(write=False)
        tree.tree = SimpleNamespace(
            **frozen, query=built.query, query_ball_point=built.query_ball_point
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = tree.search(tree.points, 4), tree.count_within(tree.points, torch.ones(200))
        assert torch.equal(found[0].distances, expected[0].distances)
        assert torch.equal(found[0].indices, expected[0].indices)
        assert torch.equal(found[1], expected[1])
