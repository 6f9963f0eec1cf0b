"""Measures that are averaged over prompts: masks, batches, merging, errors and findings."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.findings import code_of
from tests.probing.helpers import but_errors
from tests.textbook_sequences import textbook_curvature, textbook_matrix_entropy

N, T, D = 12, 9, 4
MASK = torch.arange(T) < torch.tensor([9, 3, 4, 5, 6, 7, 8, 9, 4, 5, 6, 7]).unsqueeze(1)
MEASURES = [
    ip.TokenEntropy(),
    ip.TokenEntropy(alpha=2, normalize="ln n"),
    ip.TokenEntropy(alpha=0.5, normalize="ln min(n, d)"),
    ip.Curvature(),
]


def model_of():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 3))


def probed(model, batches, masks=None, measures=MEASURES):
    with ip.probe(model, measures=measures) as probe:
        for i, x in enumerate(batches):
            if masks is not None:
                probe.mask(masks[i])
            model(x)
    return probe


def truths(y, measure):
    """The numbers of single prompts (t, d)."""
    found = []
    for tokens in (each.double().numpy() for each in y):
        if isinstance(measure, ip.Curvature):
            found.append(textbook_curvature(tokens))
            continue
        n, d = tokens.shape
        most = {None: math.e, "ln n": n, "ln min(n, d)": min(n, d)}[measure.normalize]
        found.append(textbook_matrix_entropy(tokens, measure.alpha) / math.log(most))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 7]])
@pytest.mark.parametrize("padded", [False, True])
def test_values_and_errors_are_those_of_prompts_that_come_alone(sizes, padded):
    model, x = model_of(), torch.randn(N, T, D)
    mask = MASK if padded else torch.ones_like(MASK)
    probe = probed(model, x.split(sizes), mask.split(sizes) if padded else None)
    alone = [model(row[m]).detach() for row, m in zip(x, mask, strict=True)]
    rows = [row for row in probe.report().rows if row["layer"] == "2"]
    for row, measure in zip(rows, MEASURES, strict=True):
        numbers = truths(alone, measure)
        assert row["value"] == pytest.approx(numbers.mean().item(), abs=1e-6)
        noise = (numbers.var() / N).sqrt().item()
        assert noise < row["stderr"] < 1.15 * noise  # widened for 11 degrees of freedom
        assert row["n"] == N
        assert row["findings"] == []


def test_units_and_labels():
    report = probed(model_of(), [torch.randn(3, 5, D)]).report()
    assert [row["unit"] for row in report.rows[:4]] == ["nats", "share", "share", "radians"]
    assert all(row["kind"] == "exact" for row in report.rows)
    assert "S(tokens)" in repr(report)


def test_merging_and_saving_are_exact_to_rounding():
    model, x = model_of(), torch.randn(30, T, D)
    whole = probed(model, x.split(5)).report()
    a, b = probed(model, x[:10].split(5)), probed(model, x[10:].split(4))
    state = b.state_dict()
    b = ip.probe(model, measures=MEASURES)
    b.load_state_dict(state)
    b.remove()
    a.merge(b)
    for mine, row in zip(a.report().rows, whole.rows, strict=True):
        assert mine["value"] == pytest.approx(row["value"], abs=1e-12)
        assert mine["stderr"] == pytest.approx(row["stderr"], abs=1e-12)
        assert mine["n"] == row["n"] == 30


def test_a_damaged_state_is_refused():
    probe = probed(model_of(), [torch.randn(3, 5, D)])
    state = probe.state_dict()
    state["record"]["calls"][0]["kept"][0]["average"]["kinds"] = torch.tensor([1, 2, -3, 4, 0])
    before = but_errors(probe.report())
    with pytest.raises(ValueError, match="damaged"):
        probe.load_state_dict(state)
    assert but_errors(probe.report()) == before


def codes(row):
    return [code_of(finding) for finding in row["findings"]]


def test_prompts_without_a_number_are_left_out_and_named():
    x = torch.randn(6, 5, D)
    x[0] = 0.0
    x[1, 2, 3] = math.nan
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[2, 1:] = False
    model = nn.Identity()
    rows = probed(model, [x], [mask], [ip.TokenEntropy(), ip.Curvature()]).report().rows
    for row, measure in zip(rows, (ip.TokenEntropy(), ip.Curvature()), strict=True):
        assert codes(row) == ["few-tokens", "tokens-without-extent", "not-finite"]
        assert row["value"] == pytest.approx(truths(x[3:], measure).mean().item(), abs=1e-10)


def test_nothing_left_to_average_is_no_value():
    rows = probed(nn.Identity(), [torch.randn(4, 1, D)]).report().rows
    assert all(row["value"] is None for row in rows)
    assert all(codes(row)[0] == "few-tokens" for row in rows)
    assert all("no prompts are left" in row["findings"][1] for row in rows)


def test_one_prompt_has_no_error_and_says_so():
    for row in probed(nn.Identity(), [torch.randn(1, 5, D)]).report().rows:
        assert row["value"] is not None
        assert row["stderr"] is None
        assert row["findings"] == ["It has no standard error: there is one prompt only."]


@pytest.mark.parametrize(
    "x", [torch.randn(5, D), torch.randint(9, (5, 6, D)), torch.randn(2, 3, 4, 4)]
)
def test_other_tensors_are_inapplicable_without_a_warning(x):
    for row in probed(nn.Identity(), [x]).report().rows:
        assert row["value"] is None
        assert row["findings"][0].startswith("It does not apply")


def test_a_mask_of_another_shape_is_named():
    with pytest.warns(RuntimeWarning, match="mask"):
        probe = probed(nn.Identity(), [torch.randn(3, 5, D)], [torch.ones(3, 6)[:, :6].long()])
    assert all(row["value"] is None and row["findings"] for row in probe.report().rows)


def test_prompts_of_different_lengths_come_in_batches_of_their_own():
    batches = [torch.randn(3, t, D) for t in (4, 9, 6)]
    rows = probed(nn.Identity(), batches, measures=ip.TokenEntropy()).report().rows
    numbers = truths([tokens for x in batches for tokens in x], ip.TokenEntropy())
    assert rows[0]["value"] == pytest.approx(numbers.mean().item(), abs=1e-10)


@pytest.mark.parametrize("argument", [{"alpha": 0}, {"alpha": -1}, {"normalize": "ln d"}])
def test_arguments_are_checked(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        ip.TokenEntropy(**argument)


def test_prompt_entropy_is_that_of_means_over_tokens_that_count():
    model, x = model_of(), torch.randn(N, T, D)
    measure = ip.PromptEntropy(alpha=2)
    probe = probed(model, x.split(4), MASK.split(4), measure)
    means = torch.stack([model(row[m]).mean(0).detach() for row, m in zip(x, MASK, strict=True)])
    row = probe.report().rows[-1]
    truth = textbook_matrix_entropy(means.double().numpy(), 2)
    assert row["value"] == pytest.approx(truth, abs=1e-6)
    assert (row["n"], row["d"]) == (N, 3)


def test_few_prompts_for_their_directions_are_named():
    model = nn.Identity()
    few = probed(model, [torch.randn(8, 5, 50)], measures=ip.PromptEntropy()).report().rows[0]
    assert codes(few) == ["too-few-prompts"]
    again = [torch.randn(8, 5, 50)] * 60
    few = probed(model, again, measures=ip.PromptEntropy()).report().rows[0]
    assert "the most that 8 different prompts can show" in few["findings"][0]
    many = probed(model, [torch.randn(500, 5, 6)], measures=ip.PromptEntropy()).report().rows[0]
    assert many["findings"] == []
