"""Samples that come several times make errors too small, which the rows say."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.findings import code_of
from infoprobe.probing.occurrences import Occurrences
from tests.probing.helpers import save_and_load

D = 6
READ_OUT = nn.Linear(D, 9)
MEASURES = [
    ip.TokenEntropy(),
    ip.Curvature(),
    ip.PromptEntropy(),
    ip.Spectrum(select="tokens"),
    ip.Entropy(ip.Gaussian(), select="tokens", samples=None),
    ip.PredictionEntropy(READ_OUT),
    ip.PredictionDivergence(READ_OUT),
]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, x, other=None, attention_mask=None):
        return self.layer(x).tanh()


def probed(calls, measures=MEASURES):
    torch.manual_seed(0)
    model = Model()
    with ip.probe(model, "layer", measures) as probe, torch.no_grad():
        for args, kwargs in calls:
            model(*args, **kwargs)
    return probe


def of_tensors(tensors, **kwargs):
    return [((x,), kwargs) for x in tensors]


def told(probe):
    return [
        next((each for each in row["findings"] if code_of(each) == "copied-samples"), "")
        for row in probe.report().rows
        if row["stderr"] is not None
    ]


def prompts(n, t=5):
    return torch.randn(n, t, D)


def test_every_error_over_prompts_says_that_prompts_repeat():
    x = prompts(40)
    findings = told(probed(of_tensors([x, prompts(8), x])))
    assert len(findings) == len(MEASURES) + 3  # a spectrum has four rows
    factor = math.sqrt((40 * 4 + 8) / 88)
    for finding in findings:
        assert f"{40 / 88:.0%} of the samples" in finding
        assert f"by a factor of up to {factor:.2g}" in finding
    within = told(probed(of_tensors([torch.cat([x, x])])))
    assert all("50% of the samples" in each for each in within)


def test_the_factor_is_that_of_the_error():
    x = prompts(200)
    once, often = (probed(of_tensors([x] * times), ip.TokenEntropy()) for times in (1, 9))
    (a,), (b,) = once.report().rows, often.report().rows
    assert a["value"] == pytest.approx(b["value"])
    assert a["stderr"] / b["stderr"] == pytest.approx(3, rel=0.01)
    (finding,) = told(often)
    assert "by a factor of up to 3" in finding


def test_nothing_is_told_of_samples_that_differ():
    assert not any(told(probed(of_tensors([prompts(40), prompts(40)]))))
    x = prompts(40)
    x[:2] = x[2:4]  # as in any text
    assert not any(told(probed(of_tensors([x]))))
    single = probed(of_tensors([prompts(1), prompts(30)]))
    assert not any(told(single))


def test_what_else_the_model_is_given_belongs_to_a_sample():
    x = prompts(20)

    def tell(*others):
        return all(told(probed([((x, other), {}) for other in others], ip.TokenEntropy())))

    image = torch.randn(20, 3, 4, 4)
    assert tell(image, image.clone())
    assert not tell(image, torch.randn(20, 3, 4, 4))
    assert tell(torch.tensor(0.5), torch.tensor(0.5))
    assert not tell(torch.tensor(0.5), torch.tensor(0.25))
    assert tell(0.5, 0.5)
    assert not tell(0.5, 0.25)
    assert tell([image, {"a": "b"}], [image, {"a": "b"}])
    causal = torch.ones(5, 5).tril()
    assert tell(causal, causal)
    # Nobody knows what an object may hold, such as a cache.
    assert not tell(object(), object())


def test_padding_does_not_make_another_prompt():
    ids = torch.randint(1, 99, (30, 4))
    mask = torch.ones_like(ids)
    longer = torch.nn.functional.pad(ids, (0, 3), value=7)

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Embedding(99, D)

        def forward(self, ids, attention_mask):
            return self.layer(ids)

    def tell(second):
        model = Words()
        with ip.probe(model, "layer", ip.TokenEntropy()) as probe, torch.no_grad():
            for given, counts in ((ids, mask), (longer, second)):
                probe.mask(counts)
                model(given, counts)
        return all(told(probe))

    assert tell(torch.nn.functional.pad(mask, (0, 3)))
    assert not tell(torch.ones_like(longer))


def test_rows_are_told_again_after_saving_and_merging():
    x = prompts(30)
    one, other = (probed(of_tensors([x]), ip.TokenEntropy()) for _ in range(2))
    assert not any(told(one))
    resumed = probed([], ip.TokenEntropy())
    resumed.load_state_dict(save_and_load(one.state_dict()))
    resumed.merge(other)
    assert all(told(resumed))


def test_a_measure_without_such_errors_keeps_nothing():
    probe = probed(of_tensors([prompts(3)]), ip.Entropy(ip.Histogram()))
    assert probe.state_dict()["record"]["occurrences"] is None


def marks(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**62), 2**62, (n,), generator=generator)


def test_memory_is_bounded_and_the_share_is_that_of_all():
    some = marks(20_000, 0)
    found = counted(*torch.cat([some, some[:10_000], marks(5_000, 1)]).split(777))
    assert len(found.state_dict()["marks"]) == 512
    # 10,000 of 25,000 different ones came twice: within four standard errors of 512 of them.
    factor = math.sqrt((15_000 + 4 * 10_000) / 35_000)
    (finding,) = found.findings()
    assert finding.figure == pytest.approx(factor, abs=0.05)


def counted(*parts):
    repeats = Occurrences()
    for part in parts:
        repeats.add(part)
    return repeats


@pytest.mark.parametrize("n", [3, 300, 5_000])
def test_what_is_left_without_a_part_is_exact(n):
    """As far as the whole is known; and later data are counted no further than that."""
    a, b, later = (marks(n, 0)[marks(n, seed) % n] for seed in (1, 2, 3))
    rest = (counted(a) + counted(b)).without(counted(a)) + counted(later)
    limit = rest.state_dict()["limit"]
    least, times = torch.cat([b, later]).unique(return_counts=True)
    known = least <= limit
    assert bool(known.all()) == (n < 512)
    assert rest.state_dict()["marks"].tolist() == least[known][:512].tolist()
    assert rest.state_dict()["times"].tolist() == times[known][:512].tolist()


@pytest.mark.parametrize("n", [3, 400, 5_000])
def test_parts_add_up_to_the_whole_exactly(n):
    stream = marks(n, 0)[torch.randint(n, (3 * n,), generator=torch.Generator().manual_seed(2))]
    parts = [counted(part) for part in stream.split(n)]
    whole, merged = counted(stream), parts[0] + parts[1] + parts[2]
    least, times = stream.unique(return_counts=True)
    for found in (whole, merged):
        assert found.state_dict()["marks"].tolist() == least[:512].tolist()
        assert found.state_dict()["times"].tolist() == times[:512].tolist()
