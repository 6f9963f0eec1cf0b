"""Processes that are threads: their reduction is compared with merging probes one by one."""

import functools
import math
import re
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip
from infoprobe.estimators.histogram.grids import DyadicGrid
from infoprobe.estimators.histogram.reach import grid_of, reach_of
from infoprobe.estimators.moments import SecondMoments
from infoprobe.estimators.sequences.outcomes import Outcomes
from infoprobe.probing.drafting import draft_rows
from infoprobe.probing.kept.averages import Average
from infoprobe.probing.kept.averages import pooled as pooled_average
from infoprobe.probing.kept.moments import KeptMoments, Moments
from infoprobe.probing.kept.reservoir import Reservoir
from infoprobe.probing.kept.second_moments import KeptSecondMoments
from infoprobe.probing.processes import survivors
from infoprobe.probing.processes.asking import side_by_side
from infoprobe.probing.processes.synchronising import synchronised
from infoprobe.probing.record import Record
from tests.probing.helpers import H, Mixes, probed, tensors_in
from tests.probing.streaming.helpers import ROWS, data

WORLDS = st.integers(1, 5)
SEEDS = st.integers(0, 1000)


class Together:
    """What threads that stand for processes tell each other."""

    def __init__(self, world):
        self.world = world
        self.barrier = threading.Barrier(world, timeout=30)
        self.told = [None] * world

    def all_of(self, rank, thing):
        self.told[rank] = thing
        self.barrier.wait()
        told = list(self.told)
        self.barrier.wait()
        return told


class Thread:
    """One of them, and the bytes that it has told."""

    def __init__(self, rank, together):
        self.rank, self.world, self._together = rank, together.world, together
        self.bytes = 0

    def _reduced(self, x, how):
        self.bytes += x.nbytes
        told = torch.stack(self._together.all_of(self.rank, x.clone()))
        return how(told)

    def total(self, x):
        return self._reduced(x, lambda told: told.sum(0))

    def most(self, x):
        return self._reduced(x, lambda told: told.amax(0))

    def everyone(self, thing):
        return self._together.all_of(self.rank, thing)

    def joined(self, thing, join):
        told = self._together.all_of(self.rank, thing)
        # In pairs, as processes do; a fold would show less.
        while len(told) > 1:
            pairs = [told[i : i + 2] for i in range(0, len(told), 2)]
            told = [functools.reduce(join, pair) for pair in pairs]
        return told[0]


def in_threads(function, parts):
    """What a function of a process and its part gives in each, or the errors."""
    together, found = Together(len(parts)), [None] * len(parts)
    members = [Thread(rank, together) for rank in range(len(parts))]

    def work(rank):
        try:
            found[rank] = function(members[rank], parts[rank])
        except Exception as error:
            found[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, members


def record_of(probe):
    return probe._recorder.record


def merged(probes):
    whole = Record(record_of(probes[0]).measures, 0)
    for probe in probes:
        whole.merge(record_of(probe))
    return whole


def synced(probes):
    found, members = in_threads(
        lambda member, probe: synchronised(record_of(probe), member), probes
    )
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found, members


def rows_of(record):
    """The rows, without the seeds by which processes are told apart here."""
    return [
        {**row, "findings": [re.sub("seed [0-9]+", "seed", found) for found in row["findings"]]}
        for row in draft_rows(record)
    ]


def sizes_of(record):
    return {
        call: [(x.n, x.values, x.left_out) for x in kept.values()]
        for call, kept in record.calls.items()
    }


class Sometimes(nn.Module):
    """Calls its layers depending on the data, and changes their shapes and types."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Mixes(), nn.Tanh(), nn.Identity()

    def forward(self, x):
        first = float(x[0, 0])
        y = self.a(x)
        if first > 0.3:
            y = self.b(y)
        if first < 0.8:
            y = self.c(y.double() if abs(first) < 0.2 else y)
        return y


MEASURES = [
    ip.Entropy(H),
    ip.Divergence(H, "input"),
    ip.Entropy(ip.Histogram(7, range=(-9e9, 9e9))),
    *ROWS,
    ip.Entropy(ip.Gaussian(), samples=20),
]


STATES = [ip.Spectrum(), ip.TokenEntropy(), ip.PredictionEntropy(nn.Identity())]


def some_probes(world, seed, model=None, measures=MEASURES, **options):
    """Probes that have seen different batches, some of them none at all."""
    generator = torch.Generator().manual_seed(seed)
    probes = []
    for rank in range(world):
        batches = []
        for i in range(int(torch.randint(0, 4, (), generator=generator))):
            n = int(torch.randint(1, 30, (), generator=generator))
            scale = 10.0 ** float(torch.randint(-9, 9, (), generator=generator))
            batches.append(scale * data(n, seed=1000 * rank + 10 * seed + i))
        probes.append(probed(model or Sometimes(), batches, measures, **{"seed": rank, **options}))
    return probes


class TestReduction:
    @pytest.mark.filterwarnings("ignore:layer")
    @settings(max_examples=6, deadline=None)
    @given(WORLDS, SEEDS)
    def test_it_is_what_merging_gives(self, world, seed):
        measures = [m for m in MEASURES if not getattr(m, "project", None)]
        probes = some_probes(world, seed, measures=measures)
        before = [probe.state_dict() for probe in probes]
        expected = rows_of(merged(probes))
        found, _ = synced(probes)
        for one in found[:: max(1, world - 1)]:  # the first and the last
            assert rows_of(one.whole) == expected
        for rank, one in enumerate(found):
            others = [probe for i, probe in enumerate(probes) if i != rank]
            again = Record(one.own.measures, one.own.seed)
            again.merge(one.rest)
            again.merge(one.own)
            assert one.rest.passes == sum(record_of(probe).passes for probe in others)
            assert sizes_of(again) == sizes_of(one.whole)
        assert all(
            torch.equal(a, b)
            for old, probe in zip(before, probes, strict=True)
            for a, b in zip(tensors_in(old), tensors_in(probe.state_dict()), strict=True)
        )

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=1, max_size=6))
    def test_reservoirs(self, streams):
        reservoirs = []
        for rank, (n, size) in enumerate(streams):
            reservoirs.append(Reservoir(size, rank))
            reservoirs[-1].admit(n)
        expected = Reservoir(100, 0)
        for reservoir in reservoirs:
            expected.merge(reservoir)
        found, _ = in_threads(
            lambda member, own: side_by_side(member, [survivors.pooled(own, member)])[0],
            reservoirs,
        )
        for rank, (whole, rest, remaining) in enumerate(found):
            assert (whole.size, whole.seen) == (expected.size, expected.seen)
            assert torch.equal(whole.numbers, expected.numbers)
            assert torch.equal(whole.priorities, expected.priorities)
            assert torch.equal(whole.marks, expected.marks)
            assert rest.seen == expected.seen - streams[rank][0]
            assert len(rest.numbers) + len(remaining.slots) == len(whole.numbers)

    @pytest.mark.parametrize("size", [0, 1, 3, 6, 7, 50])
    def test_equal_priorities(self, size):
        reservoirs = []
        for _ in range(3):
            reservoirs.append(Reservoir(size, 0))  # all draw the same
            reservoirs[-1].admit(4)
        found, _ = in_threads(
            lambda member, own: side_by_side(member, [survivors.pooled(own, member)])[0],
            reservoirs,
        )
        for whole, _, _ in found:
            assert len(whole.numbers) == min(size, 12)
            assert torch.equal(whole.numbers, found[0][0].numbers)

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.floats(allow_nan=False, allow_infinity=False),
                st.floats(allow_nan=False, allow_infinity=False),
            ),
            min_size=1,
            max_size=5,
        ),
        st.sampled_from([2, 7, 256]),
    )
    def test_grids(self, extents, bins):
        grids = [DyadicGrid.spanning(min(pair), max(pair), bins) for pair in extents]
        expected = functools.reduce(DyadicGrid.joined, grids)
        reach = torch.stack([reach_of(None), *map(reach_of, grids)]).amax(0)
        assert grid_of(reach, bins) == expected

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(
            st.lists(st.floats(-1e6, 1e6), max_size=5).map(
                lambda x: Moments.of(torch.tensor(x, dtype=torch.float64))
            ),
            min_size=1,
            max_size=5,
        ),
    )
    def test_moments(self, parts):
        kept = [KeptMoments(n=m.n, moments=m if m.n else None) for m in parts]
        agreed = KeptMoments().outline()
        found, _ = in_threads(
            lambda member, own: side_by_side(member, [own.pooled(agreed, None, member)])[0], kept
        )
        expected = functools.reduce(Moments.__add__, parts)
        whole, rest = found[0]
        if not expected.n:
            assert whole.moments is None
            return
        scale = max(abs(m.mean) + math.sqrt(m.squares) for m in parts)
        assert whole.moments.n == expected.n
        assert whole.moments.mean == pytest.approx(expected.mean, abs=1e-12 * scale)
        assert whole.moments.squares == pytest.approx(expected.squares, abs=1e-9 * scale**2)
        if rest.moments is not None:
            again = rest.moments + parts[0]
            assert again.mean == pytest.approx(expected.mean, abs=1e-12 * scale)
            assert again.squares == pytest.approx(expected.squares, abs=1e-9 * scale**2)
        if len({m.mean for m in parts if m.n}) == 1 and not expected.squares:
            assert (whole.moments.mean, whole.moments.squares) == (expected.mean, 0.0)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=5), SEEDS)
    def test_averages(self, sizes, seed):
        """Of groups of numbers, some of which are empty or not finite."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for groups in sizes:
            values = 1e3 + torch.randn(3 * groups, generator=generator, dtype=torch.float64)
            values[torch.rand(len(values), generator=generator) < 0.2] = math.nan
            of = torch.arange(3 * groups) // 3
            parts.append(Average.of(Outcomes.of(values), of, groups) if groups else None)
        found, _ = in_threads(
            lambda member, own: side_by_side(member, [pooled_average(own)])[0], parts
        )
        expected = functools.reduce(Average.__add__, filter(None, parts), Average.none())
        for (whole, rest), own in zip(found, parts, strict=True):
            if not any(sizes):
                assert whole is rest is None
                continue
            again = [x for x in (rest, own) if x is not None]
            for average in (whole, functools.reduce(Average.__add__, again)):
                assert torch.equal(average.kinds, expected.kinds)
                assert torch.allclose(average.moments, expected.moments, rtol=1e-12, atol=1e-9)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=5), SEEDS)
    def test_second_moments(self, sizes, seed):
        """Of groups of samples that are not the same in all processes."""
        generator = torch.Generator().manual_seed(seed)
        kept = []
        for parts in sizes:
            x = [100 + torch.randn(n, 150, generator=generator) for n in parts]
            groups = {3 * i: SecondMoments.of(each) for i, each in enumerate(x) if len(each)}
            kept.append(KeptSecondMoments(groups=groups, n=sum(parts)))
        outlines = [one.outline()["widths"] for one in kept]
        agreed = KeptSecondMoments().outline() | {"widths": max(outlines, key=len)}
        found, _ = in_threads(
            lambda member, own: side_by_side(member, [own.pooled(agreed, None, member)])[0], kept
        )
        expected = KeptSecondMoments()
        for one in kept:
            expected.merge(one, None)
        for (whole, rest), own in zip(found, kept, strict=True):
            rest.merge(own, None)
            for mine in (whole, rest):
                assert (mine.n, sorted(mine.groups)) == (expected.n, sorted(expected.groups))
                for group, moments in mine.groups.items():
                    truth = expected.groups[group]
                    assert (moments.n, moments.eps) == (truth.n, truth.eps)
                    assert torch.allclose(moments.mean, truth.mean, rtol=1e-14)
                    assert torch.allclose(moments.panels, truth.panels, rtol=1e-12, atol=1e-8)

    def test_moments_of_other_widths_are_left_out_as_in_merging(self):
        measures = [ip.Spectrum(), ip.Entropy(ip.Gaussian(), samples=9)]
        batches = [data(40, 3), data(30, 5), data(20, 3, seed=1)]
        probes = [probed(Mixes(), [x], measures, seed=i) for i, x in enumerate(batches)]
        expected = rows_of(merged(probes))
        for one in synced(probes)[0]:
            for row, truth in zip(rows_of(one.whole), expected, strict=True):
                assert row["value"] == pytest.approx(truth["value"], rel=1e-12)
                assert row["findings"] == truth["findings"]
                assert "expected samples of" in row["findings"][-1]
            assert sizes_of(one.whole) == sizes_of(merged(probes))

    def test_it_does_not_grow_with_the_number_of_processes(self, monkeypatch):
        monkeypatch.setattr(Thread, "everyone", lambda *_: pytest.fail("gathered all states"))
        told = []
        for world in (2, 4, 8):
            probes = [
                probed(Mixes(), [data(200, seed=rank).reshape(50, 4, 3)], [*MEASURES, *STATES])
                for rank in range(world)
            ]
            assert all(len(each.state_dict()["record"]["calls"]) == 1 for each in probes)
            _, members = synced(probes)
            told.append(max(member.bytes for member in members))
        # A few numbers of each process, with each reservoir.
        assert told[2] - told[0] <= 6 * 8 * 4 * 8

    def test_a_report_does_not_merge_again(self, monkeypatch):
        probes = [probed(Mixes(), [data(50, seed=rank)], MEASURES[:2]) for rank in range(3)]
        found, _ = synced(probes)
        monkeypatch.setattr(Record, "merge", lambda *_: pytest.fail("merged"))
        assert found[0].now() is found[0].whole


class TestRefusals:
    @pytest.mark.parametrize(
        ("measures", "options", "message"),
        [
            ([ROWS[1:], ROWS[1:]], [{"seed": 1}, {"seed": 7}], "seed: expected .* from 1 to 7"),
            ([MEASURES[:1], MEASURES[1:2]], [{}, {}], "measures: expected probes with the same"),
        ],
    )
    def test_all_processes_refuse(self, measures, options, message):
        probes = [
            probed(Mixes(), [data()], each, **option)
            for each, option in zip(measures, options, strict=True)
        ]
        found, _ = in_threads(lambda member, probe: synchronised(record_of(probe), member), probes)
        for error in found:
            assert isinstance(error, ValueError)
            assert error.args
            with pytest.raises(ValueError, match=message):
                raise error

    def test_other_seeds_without_projections(self):
        probes = [probed(Mixes(), [data()], ROWS[:1], seed=seed) for seed in (1, 2)]
        found, _ = synced(probes)
        assert rows_of(found[0].whole)[0]["n"] == 12
