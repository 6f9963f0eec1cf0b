"""Models that are spread over processes, and processes that die: each runs this file."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import H, but_errors
from tests.probing.streaming.helpers import data
from tests.processes import in_group, run_in_processes


def model_of():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


def expected(*batches):
    with ip.probe(model := model_of(), measures=ip.Entropy(H)) as probe:
        for batch in batches:
            model(batch)
    return but_errors(probe.report())


def assert_close(rows, others):
    """Equal but for rounding, which may differ where weights were gathered."""
    for row, other in zip(rows, others, strict=True):
        assert row["value"] == pytest.approx(other["value"], abs=0.05)
        assert [row[key] for key in ("layer", "type", "n", "d")] == [
            other[key] for key in ("layer", "type", "n", "d")
        ]


def fully_sharded(rank):
    from torch.distributed.fsdp import fully_shard

    model = model_of()
    fully_shard(model[0])
    fully_shard(model)
    with ip.probe(model, measures=ip.Entropy(H)) as probe:
        model(data(50, 6, seed=rank)).sum().backward()
    probe.sync()
    assert_close(but_errors(probe.report()), expected(data(50, 6), data(50, 6, seed=1)))


def sharded_by_features(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )
    from torch.distributed.tensor.placement_types import Replicate, Shard

    mesh = init_device_mesh("cpu", (2,))
    plan = {"0": ColwiseParallel(use_local_output=False), "2": RowwiseParallel()}
    model, x = parallelize_module(model_of(), mesh, plan), data(50, 6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model(x)
        rows = but_errors(probe.report())
        probe.sync()
    assert not any("same-samples" in str(row["findings"]) for row in rows)
    for row in probe.report().rows:
        assert len([f for f in row["findings"] if f.endswith("[same-samples]")]) == 1
    assert_close(rows[2:], expected(x)[2:])
    for row in rows[:2]:
        assert row["value"] is None
        assert "with the placements" in row["findings"][0]
        assert "ip.tap(x.full_tensor()" in row["findings"][0]
    assert "processes 0 and 1 began with the same samples" in str(caught[-1].message)
    for placement, there in ((Replicate(), x), (Shard(0), x.chunk(2)[rank])):
        spread = distribute_tensor(x, mesh, [placement])
        with ip.probe(same := nn.Identity(), measures=ip.Entropy(H)) as probe:
            same(spread)
        ((value, n),) = ((row["value"], row["n"]) for row in probe.report().rows)
        assert (value, n) == (float(H.entropy(there)), len(there))


def parts_of_plain_tensors(rank):
    """Each process has half of a layer's features, of which a plain tensor says nothing."""
    x, whole = data(50, 6), model_of()
    part = nn.Linear(6, 4)
    part.weight.data, part.bias.data = (p.data.chunk(2)[rank] for p in whole[0].parameters())
    with ip.probe(part, measures=ip.Entropy(H)) as probe:
        y = part(x)
    alone = probe.report().rows
    assert (alone[0]["value"], alone[0]["n"]) == (float(H.entropy(y)), 50)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe.sync()
    assert len(caught) == 1
    assert "processes 0 and 1 began with the same samples" in str(caught[0].message)
    assert probe.report().rows[0]["findings"][-1].endswith("[same-samples]")
    with probe:
        part(x)  # another pass of this process
    assert probe.report().rows[0]["findings"][-1].endswith("[same-samples]")
    # The way out: what is put together by all processes, marked in forward().
    parts = [torch.empty_like(y) for _ in range(2)]
    torch.distributed.all_gather(parts, y.detach())
    gathered = torch.cat(parts, 1)
    with ip.probe(model := Marks(), measures=ip.Entropy(H)) as probe:
        model(gathered)
    (row,) = probe.report().select(layer="whole").rows
    assert row["value"] == pytest.approx(float(H.entropy(whole[0](x))), abs=1e-9)


class Marks(nn.Module):
    """Marks a point."""

    def forward(self, x):
        return ip.tap(x, "whole")


def in_stages(rank):
    """A pipeline: each process has some of the layers."""
    model, x = model_of(), data(50, 6)
    stage = nn.Sequential(model[0]) if rank == 0 else nn.Sequential(model[1], model[2])
    with ip.probe(stage, measures=ip.Entropy(H)) as probe:
        stage(x if rank == 0 else model[0](x))
    alone = but_errors(probe.report())
    probe.sync()
    assert len(alone) == 1 + rank
    assert len(probe.report().rows) == 3


def other_seeds(rank):
    measure = ip.Entropy(ip.Gaussian(), project=2)
    with ip.probe(model := model_of(), measures=measure, seed=rank) as probe:
        model(data(50, 6, seed=rank))
    before = probe.report().rows
    with pytest.raises(ValueError, match=r"seed: expected samples .* got seeds from 0 to 1"):
        probe.sync()
    assert probe.report().rows == before


def one_dies(rank):
    with ip.probe(model := model_of(), measures=ip.Entropy(H)) as probe:
        model(data(50, 6, seed=rank))
    if rank == 1:
        os._exit(0)
    with pytest.raises(RuntimeError, match=r"process 0 waited for 1 others, and at least one did"):
        probe.sync()
    assert but_errors(probe.report()) == expected(data(50, 6))


SCENARIOS = (
    fully_sharded,
    sharded_by_features,
    parts_of_plain_tensors,
    in_stages,
    other_seeds,
    one_dies,
)


def work(rank, world, folder):
    for scenario in SCENARIOS:
        scenario(rank)
        Path(folder, f"{scenario.__name__}-{rank}").touch()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What the processes have finished, and what they have said."""
    folder = tmp_path_factory.mktemp("processes")
    _, said = run_in_processes(__file__, 2, folder)
    return {path.name for path in folder.iterdir()}, said


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_spread_over_processes(finished, scenario):
    done, said = finished
    ranks = [0] if scenario == "one_dies" else [0, 1]
    assert all(f"{scenario}-{rank}" in done for rank in ranks), said


if __name__ == "__main__":
    in_group(work, seconds=60)
