"""Processes add up to what one would have measured: each runs this file, all its scenarios."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import infoprobe as ip
from tests.probing.helpers import H, Mixes, but_errors, probed, save_and_load
from tests.probing.measures.strangers import Box, Sparsity, rectified
from tests.probing.streaming.helpers import ROWS, STREAMING, data, equal_states, model_of
from tests.processes import in_group, run_in_processes
from tests.textbook_spectrum import effective_rank, participation_ratio, rankme, saturation


class OnOneRank(nn.Module):
    """Calls its second layer only for batches whose first value is negative."""

    def __init__(self):
        super().__init__()
        self.first, self.sometimes = Mixes(), Mixes()

    def forward(self, x):
        y = self.first(x)
        return self.sometimes(y) if float(x[0, 0]) < 0 else y


class Keeps:
    """An estimator that remembers the rows it was given; the same in all processes."""

    def __init__(self):
        self.given = []

    def __repr__(self):
        return "Keeps()"

    def mutual_information(self, x, y):
        assert torch.equal(x, y)
        self.given.append(y)
        return float(y.sum())


def share_of(part, rank, world):
    """This rank's batches of a part of the data."""
    batches = data(240, seed=part).split(10)
    each = len(batches) // world
    return batches[rank * each : (rank + 1) * each]


def negative_on_the_last(rank, world):
    x = data(30, seed=rank)
    x[:, 0] = x[:, 0].abs() * (-1 if rank == world - 1 else 1)
    return x


def counts_scenario(rank, world, folder):
    with ip.probe(model := model_of(), measures=STREAMING) as probe:
        for part in range(3):
            for batch in share_of(part, rank, world):
                model(batch)
            before = save_and_load(probe.state_dict())
            probe.sync()
            assert equal_states(before, probe.state_dict())
            rows = probe.report().rows
            probe.sync()
            assert probe.report().rows == rows
            assert probe.counts("0").total == 720 * (part + 1)
            probe.report().save(folder / f"counts-{part}-{rank}.json")
        for batch in share_of(3, rank, world):
            model(batch)
        # The others' passes are those of the last sync.
        assert probe.report().rows[0]["n"] == 3 * 240 + 240 // world
        probe.reset()
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []


def layers_scenario(rank, world, folder):
    with ip.probe(model := OnOneRank(), measures=STREAMING) as probe:
        model(negative_on_the_last(rank, world))
        probe.sync()
    probe.report().save(folder / f"layers-{rank}.json")


def nothing_scenario(rank, world, folder):
    with ip.probe(model := model_of(), measures=STREAMING) as probe:
        if rank == 0:
            model(data(50))
        probe.sync()
    probe.report().save(folder / f"nothing-{rank}.json")


def rows_scenario(rank, world, folder):
    keeps = Keeps()
    with ip.probe(model := nn.Identity(), measures=ip.MutualInformation(keeps, samples=40)) as p:
        for batch in torch.arange(1000.0 * rank, 1000.0 * rank + 500)[:, None].split(50):
            model(batch)
        p.sync()
        first = p.report().rows
        p.sync()
        assert p.report().rows == first
    torch.save(keeps.given[0], folder / f"rows-{rank}.pt")
    p.report().save(folder / f"rows-{rank}.json")


def few_rows_scenario(rank, world, folder):
    measures = [
        ip.Entropy(ip.Histogram(20, "own", pseudocount=1)),
        ip.MutualInformation(ip.Histogram(3, over="samples"), "target"),
    ]
    with ip.probe(model := model_of(), measures=measures) as probe:
        for batch in share_of(0, rank, world):
            probe.target((batch[:, 0] > 0).long())
            model(batch)
        probe.sync()
    probe.report().save(folder / f"few-rows-{rank}.json")


TOKENS = [ip.Spectrum(select="tokens"), ip.Entropy(H, select="tokens"), ip.Entropy(H)]


def tokens(rank):
    """Sequences of one process, and their mask."""
    x = data(60, 5 * 7, seed=rank).reshape(60, 7, 5)
    return x, torch.arange(7) < data(60, 1, seed=rank).abs().mul(3).ceil().clamp(1, 7)


def tokens_scenario(rank, world, folder):
    x, mask = tokens(rank)
    with ip.probe(model := nn.Tanh(), measures=TOKENS) as probe:
        for part, of in zip(x.split(20), mask.split(20), strict=True):
            probe.mask(of)
            model(part)
        probe.sync()
    probe.report().save(folder / f"tokens-{rank}.json")


def steps_scenario(rank, world, folder):
    with ip.probe(model := nn.Identity(), measures=ip.Entropy(H)).track(5, passes=3) as probe:
        for i in range(7):
            model(data(10, seed=10 * i + rank))
        probe.sync()
        probe.report().save(folder / f"steps-{rank}.json")
        for i in range(7, 9):
            model(data(10, seed=10 * i + rank))
        probe.report().save(folder / f"later-steps-{rank}.json")
        own = save_and_load(probe.state_dict())
        probe.sync()
        report = probe.report()
        report.save(folder / f"all-steps-{rank}.json")
        probe.sync()
        assert probe.report().rows == report.rows
        assert equal_states(own, probe.state_dict())
        probe.reset()
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []


def rare_sync_scenario(rank, world, folder):
    with ip.probe(model := nn.Identity(), measures=ip.Entropy(H)).track(1) as probe:
        for i in range(2):
            model(data(10, seed=10 * i + rank))
        assert not any("[window-of" in str(row["findings"]) for row in probe.report().rows)
        probe.sync()
    probe.report().save(folder / f"rare-sync-{rank}.json")


def different_steps_scenario(rank, world, folder):
    with ip.probe(model := nn.Identity(), measures=ip.Entropy(H)).track(2) as probe:
        for i in range(1 + 2 * (rank == world - 1)):
            model(data(10, seed=10 * i + rank))
        before = probe.report().rows
        with pytest.raises(ValueError, match=r"finished the same window.*passes 0 to 2"):
            probe.sync()
        assert probe.report().rows == before


def stranger_scenario(rank, world, folder):
    measures = [ip.Entropy(Box(0.5)), Sparsity()]
    with ip.probe(model := rectified(), measures=measures) as probe:
        model(data(30, seed=rank))
        probe.sync()
    probe.report().save(folder / f"stranger-{rank}.json")


def shapes_scenario(rank, world, folder):
    with ip.probe(model := nn.Identity(), measures=[ip.Entropy(H), ROWS[0]]) as probe:
        model(data(20, 3 + rank))
        probe.sync()
    try:
        probe.report().save(folder / f"shapes-{rank}.json")
    except ValueError as error:
        (folder / f"shapes-{rank}.txt").write_text(str(error))


def trained(rank, measured):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = ip.probe(model, measures=[*STREAMING, *ROWS]) if measured else None
    for step in range(4):
        loss = model(data(20, seed=2 * step + rank)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if probe is not None and step % 2:
            probe.sync()
    return model.state_dict(), probe


def training_scenario(rank, world, folder):
    weights, probe = trained(rank, True)
    unprobed, _ = trained(rank, False)
    assert equal_states(dict(weights), dict(unprobed))
    torch.save(probe.state_dict(), folder / f"training-{rank}.pt")
    probe.report().save(folder / f"training-{rank}.json")


def work(rank, world, folder):
    for name, scenario in list(globals().items()):
        if name.endswith("_scenario"):
            scenario(rank, world, folder)


@pytest.fixture(scope="module", params=[2, 4], ids=["2 processes", "4 processes"])
def ranks(request, tmp_path_factory):
    """How many processes there were, and where they have left their reports."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    statuses, said = run_in_processes(__file__, world, folder, seconds=900)
    assert statuses == [0] * world, said
    return world, folder


def reports(ranks, name):
    world, folder = ranks
    return [but_errors(ip.Report.load(folder / f"{name}-{rank}.json")) for rank in range(world)]


class TestSync:
    def test_counts_are_those_of_one_process(self, ranks):
        model, batches = model_of(), []
        for part in range(3):
            batches.append(data(240, seed=part))
            expected = but_errors(probed(model, batches, STREAMING).report())
            assert all(rows == expected for rows in reports(ranks, f"counts-{part}"))

    def test_a_layer_that_one_process_calls(self, ranks):
        world, _ = ranks
        batches = [negative_on_the_last(rank, world) for rank in range(world)]
        expected = but_errors(probed(OnOneRank(), batches, STREAMING).report())
        assert {row["n"] for row in expected} == {30 * world, 30}
        assert all(rows == expected for rows in reports(ranks, "layers"))

    def test_a_process_without_data(self, ranks):
        expected = but_errors(probed(model_of(), [data(50)], STREAMING).report())
        assert all(rows == expected for rows in reports(ranks, "nothing"))

    def test_rows_come_from_all_processes(self, ranks):
        world, folder = ranks
        kept = [torch.load(folder / f"rows-{rank}.pt").squeeze(1) for rank in range(world)]
        assert all(torch.equal(rows, kept[0]) for rows in kept)
        assert len(kept[0].unique()) == 40
        assert bool((kept[0] % 1000 < 500).all())
        of_rank = torch.bincount((kept[0] / 1000).long(), minlength=world)
        assert int(of_rank.min()) >= 2
        rows = reports(ranks, "rows")
        assert all(row == rows[0] for row in rows)
        ((row,), *_) = rows
        assert row["n"] == 40
        assert f"from 40 of {500 * world:,} samples, drawn at random" in row["findings"][-1]

    def test_processes_choose_for_themselves(self, ranks):
        _, folder = ranks
        kept = torch.load(folder / "rows-0.pt").squeeze(1)
        assert len((kept % 1000).unique()) > 30

    def test_few_rows_are_all_there(self, ranks):
        x = data(240, seed=0)
        estimators = ip.Histogram(20, "own", pseudocount=1), ip.Histogram(3, over="samples")
        y, expected = x, []
        for layer in model_of():
            y = layer(y)
            expected.append(float(estimators[0].entropy(y)))
            expected.append(float(estimators[1].mutual_information((x[:, 0] > 0).long(), y)))
        for rows in reports(ranks, "few-rows"):
            assert [row["value"] for row in rows] == pytest.approx(expected, abs=1e-12)
            assert {row["n"] for row in rows} == {240}

    def test_tokens(self, ranks):
        world, _ = ranks
        parts = [tokens(rank) for rank in range(world)]
        y = torch.cat([x[mask] for x, mask in parts]).tanh()
        entropy = float(H.entropy(y))
        expected = [effective_rank(y), rankme(y), participation_ratio(y), saturation(y)]
        for rows in reports(ranks, "tokens"):
            assert [row["value"] for row in rows] == pytest.approx([*expected, entropy, entropy])
            assert [row["n"] for row in rows] == [len(y)] * 5 + [60 * world]

    def test_windows_that_are_over_are_of_all_processes(self, ranks):
        world, _ = ranks
        for name, windows in (("steps", [0]), ("all-steps", [0, 5])):
            for rows in reports(ranks, name):
                for row, step in zip(rows, windows, strict=False):
                    x = [
                        data(10, seed=10 * (step + i) + rank)
                        for i in range(3)
                        for rank in range(world)
                    ]
                    assert (row["step"], row["n"]) == (step, 30 * world)
                    assert row["value"] == H.entropy(torch.cat(x)).item()

    def test_windows_that_are_open(self, ranks):
        for rows in reports(ranks, "steps"):
            assert [row["step"] for row in rows] == [0, 5]

    def test_windows_after_a_sync(self, ranks):
        for rank, rows in enumerate(reports(ranks, "later-steps")):
            assert [row["step"] for row in rows] == [0, 5]
            x = torch.cat([data(10, seed=10 * i + rank) for i in range(5, 8)])
            assert rows[1]["n"] == 30
            assert rows[1]["value"] == H.entropy(x).item()

    def test_windows_that_were_over_before_say_so(self, ranks):
        world, _ = ranks
        for rows in reports(ranks, "rare-sync"):
            assert [(row["step"], row["n"]) for row in rows] == [(0, 10), (1, 10 * world)]
            told = [str(row["findings"]).count("[window-of-one-process]") for row in rows]
            assert told == [1, 0]

    def test_shapes_that_differ(self, ranks):
        world, _ = ranks
        for counts, rows in reports(ranks, "shapes"):
            assert counts["n"] == 20 * world
            assert any("expected samples of shape" in found for found in rows["findings"])

    def test_what_a_stranger_wrote(self, ranks):
        world, _ = ranks
        x = torch.cat([data(30, seed=rank) for rank in range(world)])
        zeros = float((x.relu() == 0).double().mean())
        for rows in reports(ranks, "stranger"):
            assert rows[0]["value"] == float(Box(0.5).entropy(x))
            assert [row["value"] for row in rows[1::2]] == [0, pytest.approx(zeros, abs=0.1)]

    def test_data_parallel_training(self, ranks):
        world, folder = ranks
        states = [torch.load(folder / f"training-{rank}.pt") for rank in range(world)]
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        probes = []
        for state in states:
            with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
                probe.load_state_dict(state)
            probes.append(probe)
        for other in probes[1:]:
            probes[0].merge(other)
        expected = but_errors(probes[0].report())
        assert {row["layer"] for row in expected} == {"0", "1", "2", "3"}
        assert {row["n"] for row in expected} == {4 * 20 * world, 12, 7}
        assert all(rows == expected for rows in reports(ranks, "training"))

    def test_without_other_processes(self):
        probe = probed(model_of(), [data()], STREAMING)
        with pytest.raises(RuntimeError, match=r"expected an initialised torch\.distributed"):
            probe.sync()


if __name__ == "__main__":
    in_group(work)
