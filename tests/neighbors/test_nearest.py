import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import infoprobe as ip
from infoprobe.neighbors import nearest_neighbors, undecided
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
                    check_neighbors(nearest_neighbors(x, k, metric=metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("name", DATA)
    def test_those_of_queries_equal_the_textbook(self, name, metric, kind):
        for d in (1, 4, 9):
            (x,), (queries,), table = known_queries(name, (d,), metric, 140)
            with engine(kind, height=64, width=64, undecided=7):
                for k in (1, 4):
                    check_neighbors(nearest_neighbors(x, k, queries, metric), table, k)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [127, 128, 300])
    @pytest.mark.parametrize("name", ["normal", "offset", "clusters", "fine", "cauchy", "levels"])
    def test_many_dimensions(self, name, d, metric, device):
        (x,), table = known(name, (d,), metric, 200)
        for height, width in ((None, None), (64, 128), (192, 64)):
            with engine(None, height, width):
                check_neighbors(nearest_neighbors(x.to(device), 3, metric=metric), table, 3)

    @pytest.mark.parametrize("height", [64, 128, 192])
    @pytest.mark.parametrize("width", [64, 128, 320])
    @pytest.mark.parametrize("kind", ["tiles", "symmetric"])
    def test_tiles_of_any_shape(self, kind, height, width):
        x = data("normal", 333, 8)
        table = own_table([x], "euclidean")
        with engine(kind, height, width):
            for k in (1, 7, 70):
                check_neighbors(nearest_neighbors(x, k), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("n", [2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129])
    def test_sizes_around_those_of_groups(self, n, metric, kind):
        x = data("normal", n, 3)
        table = own_table([x], metric)
        with engine(kind, height=64, width=64):
            for k in sorted({1, min(3, n - 1), max(1, n - 3), max(1, n - 2), n - 1}):
                check_neighbors(nearest_neighbors(x, k, metric=metric), table, k)
        queries = data("normal", 5, 3, seed=1)
        table = textbook.distances(arrays([x]), arrays([queries]), metric)
        with engine(kind, height=64, width=64):
            for k in sorted({1, n - 1, n}):
                check_neighbors(nearest_neighbors(x, k, queries, metric), table, k)

    @pytest.mark.parametrize("kind", ENGINES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_a_single_query(self, metric, kind):
        x = data("normal", 200, 4)
        for query in (x[17:18], x[:1] + 100):
            table = textbook.distances(arrays([x]), arrays([query]), metric)
            with engine(kind, height=64, width=64):
                check_neighbors(nearest_neighbors(x, 3, query, metric), table, 3)

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
                check_neighbors(found, table, k)
                assert (found.indices != torch.arange(200)[:, None]).all()
                zeros = (found.distances == 0).sum(1)
                equal = (x == x[:, None]).all(2).sum(1) - 1
                assert zeros.tolist() == equal.clamp(max=k).tolist()

    @given(st.data())
    @settings(max_examples=60)
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
        check_neighbors(found, own_table([x], metric), k)
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
        check_neighbors(nearest_neighbors(x.to(device), 3), own_table([x], "euclidean"), 3)
        found = nearest_neighbors(x.to(device), 3, queries)
        assert found.distances.device.type == found.indices.device.type == device
        table = textbook.distances(arrays([x]), arrays([queries]), "euclidean")
        check_neighbors(found, table, 3)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("kind", ["tree", "tiles"])
    def test_queries_of_another_type_than_the_points(self, kind, metric):
        # A centre that is rounded for only one of the two would move them apart.
        x = 1e4 + 0.005 * data("normal", 1000, 8)
        queries = 1e4 + 0.005 * data("normal", 200, 8, seed=1)
        for points, asked in ((x.float(), queries), (x, queries.float())):
            table = textbook.all_distances(arrays([points]), arrays([asked]), metric)
            with engine(kind):
                for k in (3, 40):
                    check_neighbors(nearest_neighbors(points, k, asked, metric), table, k)

    @pytest.mark.parametrize("d", [2, 9])
    def test_points_beyond_the_range_of_the_queries_type(self, d):
        queries = data("normal", 20, d, seed=1).float()
        for x in (1e60 * data("normal", 150, d), 1e60 + 1e55 * data("normal", 150, d)):
            table = textbook.distances(arrays([x]), arrays([queries]), "euclidean")
            check_neighbors(nearest_neighbors(x, 3, queries), table, 3)
            check_neighbors(nearest_neighbors(queries, 3, x), table.T, 3)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("d", [8, 40, 200])
    def test_ranks_decide_wherever_the_samples_lie(self, d, metric):
        # Computing all distances of a row costs a hundred times what its tile costs.
        rows = []
        decide = undecided.nearest

        def nearest(squares, points, asked, some, *others):
            rows.extend(some.tolist())
            return decide(squares, points, asked, some, *others)

        x = 0.01 * data("normal", 1000, d)
        with (
            engine("symmetric" if d == 200 else "tiles"),
            mock.patch.object(undecided, "nearest", nearest),
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
            check_neighbors(found, table, 2)


def test_it_is_public():
    assert ip.nearest_neighbors is nearest_neighbors
