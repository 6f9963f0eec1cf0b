"""Two views of the same samples in two passes."""

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.estimators.views import infonce
from infoprobe.findings import code_of

N, T, D = 60, 5, 4


def views(seed, n=N):
    generator = torch.Generator().manual_seed(seed)
    x, *noise = torch.randn(3, n, T, D, generator=generator)
    return x + 0.5 * noise[0], x + 0.5 * noise[1]


def probed(model, pairs, measures, masks=None):
    with ip.probe(model, measures=measures) as probe:
        for i, pair in enumerate(pairs):
            for view, x in enumerate(pair):
                if view:
                    probe.pair()
                if masks is not None:
                    probe.mask(masks[i])
                model(x)
    return probe


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh())


@pytest.mark.parametrize("padded", [False, True])
def test_infonce_is_that_of_the_means_over_tokens(padded):
    model, pairs = net(), [views(seed) for seed in range(3)]
    mask = torch.arange(T) < torch.randint(1, T + 1, (N, 1))
    mask = mask if padded else torch.ones_like(mask)
    probe = probed(model, pairs, ip.InfoNCE(), [mask] * 3)
    weights = mask.double().unsqueeze(-1)
    a, b = (
        torch.cat([(model(pair[i]).double() * weights).sum(1) / weights.sum(1) for pair in pairs])
        for i in (0, 1)
    )
    value, stderr = infonce(a.detach(), b.detach(), 0.1)
    row = probe.report().rows[-1]
    assert row["value"] == pytest.approx(value.item(), abs=1e-5)
    assert row["stderr"] == pytest.approx(stderr.item(), rel=1e-3)
    assert (row["n"], row["d"]) == (3 * N, 6)


def test_a_bounded_sample_keeps_pairs_together():
    pairs = [views(seed) for seed in range(5)]
    measures = [ip.InfoNCE(samples=100), ip.DiME(samples=50), ip.Entropy(ip.KNN(), samples=30)]
    rows = probed(nn.Flatten(), [(a, a) for a, _ in pairs], measures).report().rows
    assert rows[0]["n"] == 100
    # Views that are equal are nearest to each other, so pairs that were mixed up would show.
    assert rows[0]["value"] > 0.99 * torch.tensor(100.0).log()
    assert code_of(rows[0]["findings"][0]) == "near-ceiling"
    assert rows[1]["n"] == 50
    assert rows[1]["value"] > 5 * rows[1]["stderr"] > 0


def codes(pairs):
    rows = probed(nn.Identity(), pairs, [ip.InfoNCE(), ip.DiME()]).report().rows
    return [[code_of(finding) for finding in row["findings"]] for row in rows]


def test_pairs_that_are_all_the_same_are_named():
    a, b = (x[:1].expand(N, T, D).contiguous() for x in views(0))
    row = probed(nn.Identity(), [(a, b)], ip.InfoNCE()).report().rows[0]
    assert row["value"] == pytest.approx(0, abs=1e-12)
    assert code_of(row["findings"][0]) == "constant-variable"
    assert codes([(views(0)[0], b)])[0] == ["constant-variable"]
    assert codes([(views(0)[0], 1 + 1e-7 * views(0)[1])])[0] == ["constant-variable"]


def test_pairs_that_occur_again_are_named():
    assert codes([views(0), views(0)]) == [["copied-samples"]] * 2
    a, b = views(0)
    a[1:4], b[1:4] = a[:1], b[:1]
    assert codes([(a, b)]) == [["copied-samples"]] * 2
    assert codes([(a, views(1)[1])]) == [[], []]  # the same sample in two augmentations
    assert codes([tuple(x.sign() for x in views(0))]) == [[], []]  # a discrete layer


@pytest.mark.parametrize("different", [2, 4, 10])
def test_few_prompts_that_occur_many_times_are_named(different):
    owners = torch.arange(400) % different
    prompts, others = (x[owners] for x in views(0, different))
    # Another batch adds up in another order.
    again = prompts * (1 + 1e-7 * torch.randn(400, 1, 1))
    infonce, dime = codes([(prompts, again)])
    assert infonce == ["near-ceiling", "copied-samples"]
    assert dime[0] == "copied-samples"
    assert codes([(prompts, others)])[1][0] == "copied-samples"
    # Each time with other augmentations, the first view alone shows it.
    row = probed(nn.Identity(), [(prompts, prompts + 0.05 * views(1, 400)[1])], ip.InfoNCE())
    (finding,) = row.report().rows[0]["findings"]
    assert f"400 samples, only {different} of them different, can show" in finding


def test_merging_and_saving():
    model, pairs = net(), [views(seed) for seed in range(4)]
    whole = probed(model, pairs, ip.InfoNCE()).report().rows
    a, b = probed(model, pairs[:1], ip.InfoNCE()), probed(model, pairs[1:], ip.InfoNCE())
    restored = ip.probe(model, measures=ip.InfoNCE())
    restored.load_state_dict(b.state_dict())
    restored.remove()
    a.merge(restored)
    for mine, row in zip(a.report().rows, whole, strict=True):
        assert mine["value"] == pytest.approx(row["value"], abs=1e-10)
        assert mine["n"] == row["n"] == 4 * N


def test_passes_without_a_pair_say_so():
    with ip.probe(nn.Identity(), measures=[ip.InfoNCE(), ip.DiME()]) as probe:
        probe._model()(torch.randn(20, 3))
    for row in probe.report().rows:
        assert row["value"] is None
        assert "Call probe.pair()" in row["findings"][0]


def test_samples_without_a_pair_are_left_out():
    model = nn.Identity()
    with ip.probe(model, measures=ip.InfoNCE()) as probe:
        model(torch.randn(20, T, D))
        a, b = views(0)
        model(a)
        probe.pair()
        model(b)
    row = probe.report().rows[0]
    assert row["n"] == N
    assert "computed from the 60 of 80 samples" in row["findings"][0]


def test_views_of_different_numbers_are_named():
    model = nn.Identity()
    with pytest.warns(RuntimeWarning, match="expected 20 samples, as the pass before had, got 19"):
        probed(model, [(torch.randn(20, 3), torch.randn(19, 3))], ip.InfoNCE())


def test_a_pair_needs_a_pass_before():
    model = nn.Identity()
    with ip.probe(model, measures=ip.InfoNCE()) as probe:
        with pytest.raises(ValueError, match="got none"):
            probe.pair()
        model(torch.randn(9, 3))
        probe.pair()
        model(torch.randn(9, 3))
        with pytest.raises(ValueError, match="second views"):
            probe.pair()


def test_windows_hold_whole_pairs():
    model = nn.Identity()
    with ip.probe(model, measures=ip.InfoNCE()).track(every=4, passes=2) as probe:
        for seed in range(4):
            a, b = views(seed)
            model(a)
            probe.pair()
            model(b)
    assert [row["n"] for row in probe.report().rows] == [N, N]


def test_a_pair_whose_first_view_was_not_measured_is_named():
    model = nn.Identity()
    with ip.probe(model, measures=ip.InfoNCE()).track(every=1) as probe:
        model(views(0)[0])
        probe.pair()
        with pytest.warns(RuntimeWarning, match="pass before to be measured"):
            model(views(0)[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ip.InfoNCE(temperature=0),
        lambda: ip.InfoNCE(samples=1),
        lambda: ip.DiME(ip.KNN()),
        lambda: ip.DiME(permutations=0),
    ],
)
def test_arguments_are_checked(make):
    with pytest.raises((ValueError, TypeError)):
        make()


def test_samples_of_a_single_number():
    x = torch.randn(N)
    pairs = [(x, x + 0.1)]
    flat, columns = (
        probed(nn.Identity(), [(a.view(shape), b.view(shape)) for a, b in pairs], ip.InfoNCE())
        for shape in ((N,), (N, 1))
    )
    assert flat.report().rows == columns.report().rows

    # None of the pairs may be left.
    with ip.probe(model := nn.Identity(), measures=ip.InfoNCE()) as probe:
        model(x)
    assert probe.report().rows[0]["value"] is None
