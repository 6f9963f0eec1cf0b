"""Two processes add up to one: each runs this file."""

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.processes import in_group, run_in_processes

WORLD = 2


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, average_attn_weights=False)


class Model(nn.Sequential):
    def forward(self, x, attention_mask):
        return self[2](self[1](self[0](x))[0])


def model_of():
    torch.manual_seed(0)
    return Model(nn.Linear(4, 6), Attention(6, 2, batch_first=True), nn.Tanh())


def measured(batches, sync):
    """The rows of a probe that has seen pairs of views, some of their tokens masked."""
    model = model_of()
    read_out = nn.Linear(6, 9)
    measures = [
        ip.TokenEntropy(),
        ip.Curvature(),
        ip.AttentionEntropy(),
        ip.PromptEntropy(),
        ip.PredictionEntropy(read_out),
        ip.PredictionDivergence(read_out),
        ip.InfoNCE(),
    ]
    with ip.probe(model, measures=measures) as probe:
        for x in batches:
            mask = torch.arange(7) < torch.arange(3, 8).unsqueeze(1)
            shorter = torch.arange(7) < torch.arange(2, 7).unsqueeze(1)
            for view in range(2):
                if view:
                    probe.pair()
                probe.mask(mask)
                model(x + 0.1 * view * x.flip(0), shorter)
        if sync:
            probe.sync()
    return probe.report()


def data():
    x = torch.randn(20, 5, 7, 4, generator=torch.Generator().manual_seed(1))
    x[12:16] = x[2:6]  # what both processes have
    return x


def work(rank, world, folder):
    measured(data().chunk(world)[rank], sync=True).save(folder / f"{rank}.json")


def of_padding(row):
    return [each for each in row["findings"] if "in 40 of 40 passes by the mask" in each]


def of_copies(row):
    return [each for each in row["findings"] if "20% of the samples that the model" in each]


def test_two_processes_add_up_to_one(tmp_path):
    statuses, said = run_in_processes(__file__, WORLD, tmp_path)
    assert statuses == [0] * WORLD, said
    alone = measured(data(), sync=False).rows
    for rank in range(WORLD):
        rows = ip.Report.load(tmp_path / f"{rank}.json").rows
        for row, truth in zip(rows, alone, strict=True):
            assert row["value"] == pytest.approx(truth["value"], abs=1e-9)
            if row["value"] is None:
                assert row["findings"] == truth["findings"]
                continue
            assert row["stderr"] == pytest.approx(truth["stderr"], rel=0.5, abs=1e-9)
            if row["measure"] not in ("infonce", "prompt_entropy"):
                assert row["stderr"] == pytest.approx(truth["stderr"], abs=1e-12)
            assert row["n"] == truth["n"]
            assert of_padding(row) == of_padding(truth) != []
            assert of_copies(row) == of_copies(truth)
            assert of_copies(row) or row["measure"] == "infonce"


if __name__ == "__main__":
    in_group(work)
