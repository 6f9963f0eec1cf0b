"""A reservoir is compared with a list of all priorities; every row holds its sample's number."""

import io
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip
from infoprobe.probing.kept import reservoir as module
from infoprobe.probing.kept.reservoir import Reservoir, random_stream
from infoprobe.probing.kept.samples import Samples, together

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(0, 12)
BATCHES = st.lists(st.integers(1, 9), max_size=8)


def least(priorities, size):
    """The numbers of the samples with the least priorities."""
    return sorted(sorted(range(len(priorities)), key=priorities.__getitem__)[:size])


def priorities(seed, n):
    generator = random_stream(seed)
    return [float(torch.rand((), generator=generator, dtype=torch.float64)) for _ in range(n)]


def filled(size, seed, batches):
    reservoir = Reservoir(size, seed)
    for n in batches:
        reservoir.admit(n)
    return reservoir


def row(numbers):
    """What a place has for samples: two columns that tell which one it is."""
    return torch.stack([numbers, -numbers], 1).to(torch.float64)


class Place:
    """Keeps rows, as a layer's store does, of a stream whose samples are counted from `start`."""

    def __init__(self, start=0):
        self.rows = Samples.none_like(row(torch.zeros(0)))
        self.start = start
        self.had = {}

    def add(self, admitted, before):
        numbers = torch.arange(before, before + admitted.n)
        self.rows.add(admitted, row(self.start + numbers)[admitted.indices])
        self.had.update({number: self.start + number for number in numbers.tolist()})


def assert_right(reservoir, *places):
    """Every row is that of its sample, and none is missing that all places had."""
    for place in places:
        there = place.rows.numbers >= 0
        expected = [place.had[number] for number in place.rows.numbers[there].tolist()]
        assert torch.equal(place.rows.values[there], row(torch.tensor(expected)))
        assert len(place.rows.numbers) == len(place.rows.values)
    found = together(reservoir, [place.rows for place in places])
    kept = sorted(reservoir.numbers.tolist())  # in the order in which they came
    kept = [number for number in kept if all(number in place.had for place in places)]
    for values, place in zip(found, places, strict=True):
        assert values[:, 0].tolist() == [place.had[number] for number in kept]


class TestWhichSamples:
    @given(SIZES, SEEDS, BATCHES)
    def test_the_least_priorities_are_kept(self, size, seed, batches):
        reservoir = filled(size, seed, batches)
        n = sum(batches)
        assert reservoir.seen == n
        assert len(reservoir.numbers) == min(n, size)
        assert sorted(reservoir.numbers.tolist()) == least(priorities(seed, n), size)

    @given(SIZES, SEEDS, BATCHES)
    def test_batches_equal_one_by_one(self, size, seed, batches):
        together, alone = filled(size, seed, batches), filled(size, seed, [1] * sum(batches))
        assert sorted(together.numbers.tolist()) == sorted(alone.numbers.tolist())
        assert torch.equal(together.state_dict()["generator"], alone.state_dict()["generator"])

    @given(SIZES, SIZES, SEEDS, BATCHES, BATCHES)
    def test_shrinking_equals_having_been_small_all_along(self, size, less, seed, first, then):
        reservoir = filled(size, seed, first)
        before = reservoir.numbers
        remain = reservoir.shrink(less)
        assert torch.equal(reservoir.numbers, before[remain])
        for n in then:
            reservoir.admit(n)
        small = filled(min(less, size), seed, first + then)
        assert sorted(reservoir.numbers.tolist()) == sorted(small.numbers.tolist())

    @given(SIZES, SIZES, SEEDS, SEEDS, BATCHES, BATCHES)
    def test_merging_keeps_the_least_of_both(self, size, other_size, seed, other, first, then):
        a, b = filled(size, seed, first), filled(other_size, other, then)
        mine, theirs = a.numbers, b.numbers + a.seen
        n, m = sum(first), sum(then)
        both = priorities(seed, n) + priorities(other, m)
        remain, of_theirs, seen = a.merge(b)
        assert seen == n
        assert a.seen == n + m
        assert a.size == min(size, other_size)
        assert a.numbers.tolist() == [*mine[remain].tolist(), *theirs[of_theirs].tolist()]
        expected = least(both, a.size)
        assert sorted(both[i] for i in a.numbers.tolist()) == [*sorted(both[i] for i in expected)]

    @given(SIZES, SEEDS, BATCHES, BATCHES)
    def test_a_saved_one_goes_on_as_if_nothing_had_been(self, size, seed, first, then):
        reservoir = filled(size, seed, first)
        buffer = io.BytesIO()
        torch.save(reservoir.state_dict(), buffer)
        buffer.seek(0)
        again = Reservoir.from_state_dict(torch.load(buffer, weights_only=True))
        for n in then:
            a, b = reservoir.admit(n), again.admit(n)
            assert torch.equal(a.indices, b.indices)
            assert torch.equal(a.slots, b.slots)
            assert torch.equal(a.numbers, b.numbers)
        assert torch.equal(reservoir.numbers, again.numbers)
        assert (reservoir.size, reservoir.seen) == (again.size, again.seen)

    @given(SIZES, SEEDS, st.lists(st.integers(1, 9), min_size=1, max_size=8))
    def test_what_is_said_of_a_batch(self, size, seed, batches):
        reservoir = Reservoir(size, seed)
        for n in batches:
            before, seen = reservoir.numbers.tolist(), reservoir.seen
            admitted = reservoir.admit(n)
            assert admitted.n == n
            assert torch.equal(admitted.numbers, admitted.indices + seen)
            assert torch.equal(reservoir.numbers[admitted.slots], admitted.numbers)
            others = set(range(len(before))) - set(admitted.slots.tolist())
            assert all(int(reservoir.numbers[slot]) == before[slot] for slot in others)
            assert len(set(admitted.slots.tolist())) == len(admitted.indices)

    @pytest.mark.parametrize("way", ["batches", "shrunk", "merged"])
    def test_all_samples_are_equally_likely(self, way):
        n, size, repeats = 24, 6, 2000
        times, pairs = torch.zeros(n), 0
        for seed in range(repeats):
            if way == "batches":
                reservoir = filled(size, seed, [1, 10, 3, 10])
            elif way == "shrunk":
                reservoir = filled(2 * size, seed, [5, 10])
                reservoir.shrink(size)
                reservoir.admit(9)
            else:
                reservoir = filled(size, seed, [5, 3])
                reservoir.merge(filled(size, 10_000 + seed, [16]))
            kept = reservoir.numbers
            times[kept] += 1
            pairs += bool((kept == 0).any() and (kept == n - 1).any())
        expected = repeats * size / n
        # 23 degrees of freedom: 60 is exceeded once in 30,000.
        assert float(((times - expected) ** 2 / (expected * (1 - size / n))).sum()) < 60
        share = size * (size - 1) / (n * (n - 1))
        assert abs(pairs / repeats - share) < 5 * (share / repeats) ** 0.5

    def test_seeds(self):
        kept = [filled(10, seed, [1000]).numbers.tolist() for seed in (0, 0, 1, 2**32 - 1)]
        assert kept[0] == kept[1]
        assert len({tuple(each) for each in kept}) == 3

    def test_the_global_generator_is_untouched(self):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        reservoir = filled(5, 0, [10, 10])
        reservoir.merge(filled(5, 1, [10]))
        reservoir.shrink(2)
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(4)
        other = filled(5, 0, [10, 10])
        other.merge(filled(5, 1, [10]))
        other.shrink(2)
        assert torch.equal(other.numbers, reservoir.numbers)

    def test_each_process_draws_for_itself(self, monkeypatch):
        distributed = module.torch.distributed
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        draws = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "get_rank", lambda group=None, rank=rank: rank)
            draws.append(tuple(torch.rand(3, generator=random_stream(7)).tolist()))
        assert len(set(draws)) == 3


class TestRows:
    @settings(max_examples=200)
    @given(st.data())
    def test_rows_belong_to_their_samples_whatever_happens(self, data):
        """Passes, places that miss some, shrinking within a pass, saving, and merging."""
        whole, places = _run(data, 0)
        for i in range(data.draw(st.integers(0, 2))):
            other, others = _run(data, 1000 * (i + 1))
            merging = whole.merge(other)
            for place, that in zip(places, others, strict=True):
                place.rows.keep(merging.remaining)
                place.rows.merge(that.rows, merging)
                place.had |= {number + merging.seen: x for number, x in that.had.items()}
                place.start = 10_000 * (i + 1)
            assert_right(whole, *places)
            _more(data, whole, places)

    def test_of_no_place_that_had_all(self):
        reservoir = Reservoir(5, 0)
        a, b = Place(), Place()
        a.add(reservoir.admit(4), 0)
        b.add(reservoir.admit(4), 4)
        assert_right(reservoir, a, b)
        assert [len(x) for x in together(reservoir, [a.rows, b.rows])] == [0, 0]

    def test_types_are_promoted(self):
        reservoir = Reservoir(8, 0)
        rows = Samples.none_like(torch.zeros(0, 2, dtype=torch.bfloat16))
        for dtype in (torch.bfloat16, torch.float32, torch.bfloat16, torch.float64):
            admitted = reservoir.admit(2)
            rows.add(admitted, torch.full((2, 2), 0.1, dtype=dtype)[admitted.indices])
        assert rows.values.dtype == torch.float64
        rounded = float(torch.tensor(0.1, dtype=torch.bfloat16))
        single = float(torch.tensor(0.1, dtype=torch.float32))
        assert (
            rows.values[:, 0].tolist() == [rounded] * 2 + [single] * 2 + [rounded] * 2 + [0.1] * 2
        )

    def test_merging_promotes_types(self):
        both = []
        for dtype in (torch.int64, torch.float64):
            reservoir = Reservoir(4, 0)
            rows = Samples.none_like(torch.zeros(0, 1, dtype=dtype))
            rows.add(reservoir.admit(2), torch.tensor([[1.25], [2.5]]).to(dtype))
            both.append((reservoir, rows))
        (a, rows), (b, others) = both
        merging = a.merge(b)
        rows.keep(merging.remaining)
        rows.merge(others, merging)
        assert together(a, [rows])[0].squeeze(1).tolist() == [1.0, 2.0, 1.25, 2.5]

    def test_another_shape_is_refused_and_changes_nothing(self):
        reservoir = Reservoir(4, 0)
        rows = Samples.none_like(torch.zeros(0, 2))
        rows.add(reservoir.admit(2), torch.ones(2, 2))
        with pytest.raises(ValueError, match=r"expected samples of shape \(2,\) .*got \(3,"):
            rows.add(reservoir.admit(2), torch.ones(2, 3, dtype=torch.float64))
        (values,) = together(reservoir, [rows])
        assert values.tolist() == [[1.0, 1.0]] * 2

    def test_rows_of_single_numbers_and_of_images(self):
        for shape in ((), (2, 3, 4)):
            reservoir = Reservoir(3, 0)
            rows = Samples.none_like(torch.zeros(0, *shape))
            x = torch.randn(50, *shape)
            for i, batch in enumerate(x.split(10)):
                admitted = reservoir.admit(10)
                assert torch.equal(admitted.numbers // 10, torch.full_like(admitted.numbers, i))
                rows.add(admitted, batch[admitted.indices])
            (values,) = together(reservoir, [rows])
            assert torch.equal(values, x[reservoir.numbers.sort().values])


def _run(data, start):
    reservoir = Reservoir(data.draw(st.integers(0, 8)), data.draw(SEEDS))
    places = [Place(start), Place(start), Place(start)]
    _more(data, reservoir, places)
    return reservoir, places


def _more(data, reservoir, places):
    for _ in range(data.draw(st.integers(0, 6))):
        before = reservoir.seen
        admitted = reservoir.admit(data.draw(st.integers(1, 7)))
        for place in places:
            if data.draw(st.booleans()):
                place.add(admitted, before)
            if data.draw(st.integers(0, 5)) == 0:
                remain = reservoir.shrink(data.draw(st.integers(0, 8)))
                for each in places:
                    each.rows.keep(remain)
        del admitted
        if data.draw(st.integers(0, 4)) == 0:
            for place in places:
                place.rows = Samples.from_state_dict(place.rows.state_dict())
        assert_right(reservoir, *places)


class Spy:
    """An estimator that remembers the rows it was given."""

    def __init__(self):
        self.given = []

    def entropy(self, x):
        self.given.append(x)
        return 0.0

    def mutual_information(self, x, y):
        self.given.append((x, y))
        return 0.0


class Skips(nn.Module):
    """Its layers take turns as they are told; each is the identity."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in range(4))
        self.turns = ()

    def forward(self, x):
        for i in self.turns:
            x = self.layers[i](x)
        return x


class Widens(nn.Module):
    def forward(self, x):
        return x.repeat(1, 10)


PASSES = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(0, 3), min_size=1, unique=True)),
    min_size=1,
    max_size=8,
)


class TestInAProbe:
    @settings(max_examples=60)
    @given(PASSES, st.integers(0, 400), st.sampled_from([3, 1000]), SEEDS)
    @pytest.mark.filterwarnings("ignore:some probed layers gave no output")
    def test_rows_are_never_mislabelled(self, passes, memory, samples, seed):
        model, spy, seen = Skips(), Spy(), 0
        measure = ip.MutualInformation(spy, samples=samples)
        had = {}
        with ip.probe(model, measures=measure, memory=memory, seed=seed) as probe:
            for n, turns in passes:
                model.turns = turns
                numbers = range(seen, seen + n)
                model(row(torch.tensor(numbers)))
                for i in turns:
                    had.setdefault(f"layers.{i}", set()).update(numbers)
                seen += n
        report = probe.report().rows
        size = min(
            [
                samples,
                *([memory // (2 * 16 * len(report))] * (samples * 32 * len(report) > memory)),
            ]
        )
        kept = set()
        for found, (x, y) in zip(report, spy.given, strict=True):
            assert torch.equal(x, y)
            assert set(x[:, 0].tolist()) <= had[found["layer"]]
            kept |= set(x[:, 0].tolist())
        assert len(kept) <= min(size, seen)
        for found, (x, _) in zip(report, spy.given, strict=True):
            assert set(x[:, 0].tolist()) == kept & had[found["layer"]]

    def test_a_budget_that_a_later_layer_exhausts(self):
        model = nn.Sequential(nn.Identity(), nn.Identity(), Widens())
        x, spy = row(torch.arange(1000)), Spy()
        with ip.probe(model, ["0", "2"], ip.Entropy(spy), memory=8800) as probe:
            for batch in x.split(100):
                model(batch)
        report = probe.report().rows
        narrow, wide = spy.given
        assert len(narrow) == 8800 // (16 + 160)
        assert torch.equal(wide, narrow.repeat(1, 10))
        assert len(set(narrow[:, 0].tolist())) == 50
        assert int((narrow[:, 0] < 100).sum()) < 20  # not the first that came
        for found in report:
            assert found["n"] == 50
            assert "from 50 of 1,000 samples, drawn at random (seed 0)" in found["findings"][-1]
            assert "memory had room for 50." in found["findings"][-1]

    def test_no_room_at_all(self):
        model = nn.Identity()
        with ip.probe(model, measures=ip.Entropy(ip.KNN()), memory=0) as probe:
            for _ in range(3):
                model(torch.randn(10, 2))
        (found,) = probe.report().rows
        assert (found["value"], found["n"]) == (None, 0)
        assert "memory had room for 0" in found["findings"][-1]

    def test_passes_at_the_same_time(self):
        inside, go_on = threading.Event(), threading.Event()

        class Waits(nn.Module):
            def forward(self, x):
                if len(x) == 20:
                    inside.set()
                    assert go_on.wait(10)
                return x

        model, spy = nn.Sequential(nn.Identity(), Waits(), nn.Identity()), Spy()
        with ip.probe(model, ["0", "2"], ip.Entropy(spy, samples=20)) as probe:
            thread = threading.Thread(target=model, args=(row(torch.arange(20)),))
            thread.start()
            assert inside.wait(10)
            model(row(torch.arange(20, 220)))
            go_on.set()
            thread.join()
        assert {found["n"] for found in probe.report().rows} == {20}
        assert torch.equal(*spy.given)
