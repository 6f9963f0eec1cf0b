"""What ``select=`` makes samples of, against the tokens that are picked by hand."""

import re

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

N, T, D = 12, 7, 3
LENGTHS = torch.tensor([7, 1, 2, 3, 4, 5, 6, 7, 2, 3, 4, 5])
RIGHT = torch.arange(T) < LENGTHS.unsqueeze(1)
LEFT = RIGHT.flip(1)


class Net(nn.Module):
    """A model of sequences (n, t, 3) with a pooled output (n, 4)."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(D, 4)
        self.act = nn.Tanh()
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.act(self.mix(x)).mean(1))


def by_hand(mask, select, x):
    """The chosen tokens of each sequence, one after the other."""
    kept = [row[m] for row, m in zip(x, mask, strict=True)]
    if select == "tokens":
        return torch.cat(kept)
    number = {"first": 0, "last": -1}.get(select, select)
    return torch.stack([row[number] for row in kept if -len(row) <= number < len(row)])


def masked(probe, mask, model, x):
    """A pass under a mask."""
    probe.mask(mask)
    return model(x)


@pytest.mark.parametrize("mask", [RIGHT, LEFT], ids=["right", "left"])
@pytest.mark.parametrize("select", ["tokens", "last", "first", 0, 2, -2])
@pytest.mark.parametrize("batches", [1, 5])
def test_samples_are_the_chosen_tokens(mask, select, batches):
    model, x = Net(), torch.randn(N, T, D)
    measures = [
        ip.Entropy(ip.Histogram(range=(-1, 1)), select=select),
        ip.Entropy(ip.Gaussian(shrinkage=0.1), select=select),
    ]
    with ip.probe(model, layers="act", measures=measures) as probe:
        for part, of in zip(x.tensor_split(batches), mask.tensor_split(batches), strict=True):
            probe.mask(of.long())
            model(part)
    expected = by_hand(mask, select, model.act(model.mix(x)).detach())
    for row, measure in zip(probe.report().rows, measures, strict=True):
        assert row["value"] == pytest.approx(float(measure.estimator.entropy(expected)), abs=1e-6)
        assert (row["n"], row["d"]) == (len(expected), 4)
        assert row["measure"] == f"entropy@{select}"


def test_without_a_mask_all_tokens_count():
    model, x = Net(), torch.randn(N, T, D)
    h = ip.Histogram()
    measures = [ip.Entropy(h, select=select) for select in ("tokens", "last", 3)]
    with ip.probe(model, layers="mix", measures=measures) as probe:
        model(x)
    y = model.mix(x).detach()
    expected = [float(h.entropy(x)) for x in (y, y[:, -1], y[:, 3])]
    assert [row["value"] for row in probe.report().rows] == pytest.approx(expected)
    assert [row["n"] for row in probe.report().rows] == [N * T, N, N]


def test_positions_of_images():
    model, x = nn.Conv2d(3, 5, 3), torch.randn(4, 3, 8, 8)
    measure = ip.Entropy(ip.Gaussian(), select="positions")
    with ip.probe(model, measures=[measure, ip.Entropy(select="positions")]) as probe:
        model(x)
    y = model(x).permute(0, 2, 3, 1).reshape(-1, 5)
    gaussian, histogram = probe.report().rows
    assert histogram["n"] == len(y)
    assert histogram["value"] == pytest.approx(float(ip.Histogram().entropy(y)))
    # The input has 8 x 8 positions and the output 6 x 6, so pairs of them are unknown.
    assert gaussian["value"] is None


def test_functions_choose_as_they_like():
    model, x = Net(), torch.randn(N, T, D)
    measures = [ip.Entropy(select=lambda y: y[:, 0]), ip.Entropy(select=lambda y: y[:, 1])]
    with ip.probe(model, layers="act", measures=measures) as probe:
        model(x)
    report, y = probe.report(), model.act(model.mix(x))
    expected = [float(ip.Histogram().entropy(y[:, i])) for i in (0, 1)]
    assert [row["value"] for row in report.rows] == pytest.approx(expected)
    assert len(report.scalars()) == 2
    assert measures[0].identity != measures[1].identity
    assert measures[0].identity == ip.Entropy(select=lambda y: y[:, 0]).identity


def test_one_of_each_sequence_includes_what_has_no_tokens():
    model, x = Net(), torch.randn(N, T, D)
    measures = [ip.Entropy(select="last"), ip.Entropy(select=2), ip.Entropy(select="tokens")]
    with ip.probe(model, layers="head", measures=measures) as probe:
        probe.mask(RIGHT)
        y = model(x)
    last, third, tokens = probe.report().rows
    assert last["value"] == pytest.approx(float(ip.Histogram().entropy(y)))
    long = y[LENGTHS > 2]
    assert third["value"] == pytest.approx(float(ip.Histogram().entropy(long)))
    assert tokens["value"] is None
    assert "has no tokens" in tokens["findings"][0]


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("select", ["tokens", "last", 1])
def test_targets_of_tokens_and_of_sequences(per_token, select):
    model, x = Net(), torch.randn(N, T, D)
    target = torch.randint(0, 2, (N, T) if per_token else (N,))
    estimator = ip.Histogram(bins=4, range="minmax", over="samples")
    measure = ip.MutualInformation(estimator, reference="target", select=select)
    with ip.probe(model, layers="act", measures=measure) as probe:
        probe.mask(RIGHT)
        probe.target(target)
        model(x)
    y = by_hand(RIGHT, select, model.act(model.mix(x)))
    whole = target if per_token else target.unsqueeze(1).expand(N, T)
    labels = by_hand(RIGHT, select, whole)
    (row,) = probe.report().rows
    assert row["value"] == pytest.approx(float(estimator.mutual_information(labels, y)))


def test_layers_keep_the_same_tokens():
    model, x = nn.Sequential(nn.Identity(), nn.Identity()), torch.randn(40, T, D)
    mask = torch.rand(40, T) < 0.7
    mask[:, 0] = True
    estimator = ip.Gaussian()
    measure = ip.MutualInformation(estimator, select="tokens", samples=64)
    divergence = ip.Divergence(estimator, select="tokens", samples=64)
    with ip.probe(model, measures=[measure, divergence]) as probe:
        for part, of in zip(x.chunk(5), mask.chunk(5), strict=True):
            probe.mask(of)
            model(part)
    for row in probe.report().rows:
        assert row["n"] == 64
        if row["measure"] == "divergence@tokens":
            assert row["value"] == pytest.approx(0, abs=0.2)
        else:  # of a variable and itself
            assert "infinite" in row["findings"][0]


class TestTheDefaultUnderAMask:
    def test_values_of_padding_are_not_counted(self):
        model, x = Net(), torch.randn(N, T, D)
        x[~RIGHT] = torch.nan
        with ip.probe(model, measures=ip.Entropy()) as probe:
            probe.mask(RIGHT)
            model(x)
        mix, act, head = probe.report().rows
        y = by_hand(RIGHT, "tokens", model.mix(x))
        assert mix["value"] == pytest.approx(float(ip.Histogram().entropy(y)))
        assert mix["n"] == N
        assert act["findings"] == []
        assert head["value"] is None  # the mean over tokens is NaN

    def test_samples_with_padding_are_refused(self):
        model, x = Net(), torch.randn(N, T, D)
        with (
            ip.probe(model, layers="mix", measures=ip.Entropy(ip.Gaussian())) as probe,
            pytest.warns(RuntimeWarning, match="with their padding"),
        ):
            masked(probe, RIGHT, model, x)
        assert probe.report().rows[0]["value"] is None

    def test_a_mask_that_leaves_all_in_changes_nothing(self):
        model, x = Net(), torch.randn(N, T, D)
        probes = []
        for masked in (True, False):
            with ip.probe(model) as probe:
                if masked:
                    probe.mask(torch.ones(N, T, dtype=torch.bool))
                model(x)
            probes.append(probe.report().rows)
        assert probes[0] == probes[1]


class TestBadInput:
    @pytest.mark.parametrize("select", ["token", "", "all"])
    def test_unknown_names(self, select):
        with pytest.raises(ArgumentValueError, match="'tokens'"):
            ip.Entropy(select=select)

    @pytest.mark.parametrize("select", [1.5, True, [1], torch.nn.Linear])
    def test_other_types(self, select):
        with pytest.raises(ArgumentTypeError, match="select"):
            ip.Entropy(select=select)

    @pytest.mark.parametrize(
        "mask", [torch.ones(3), torch.full((2, 2), 2), torch.tensor([[0, -1]])]
    )
    def test_masks_of_other_values(self, mask):
        with ip.probe(Net()) as probe, pytest.raises((ArgumentTypeError, ArgumentValueError)):
            probe.mask(mask if mask.dim() > 1 else mask.long())

    def test_masks_of_floats(self):
        with ip.probe(Net()) as probe, pytest.raises(ArgumentTypeError, match="booleans"):
            probe.mask(torch.ones(2, 3))

    @pytest.mark.parametrize("shape", [(N, T + 1), (N - 1, T), (T, N), (N, T, D)])
    @pytest.mark.parametrize("select", ["tokens", "last", None])
    def test_masks_of_another_shape(self, shape, select):
        model = Net()
        measure = ip.Entropy(select=select)
        with (
            ip.probe(model, measures=measure) as probe,
            pytest.warns(RuntimeWarning, match="expected the shape") as caught,
        ):
            masked(probe, torch.ones(shape, dtype=torch.bool), model, torch.randn(N, T, D))
        assert len(caught) == 1
        assert all(row["value"] is None for row in probe.report().rows)

    @pytest.mark.parametrize("select", [T, -T - 1])
    def test_no_sequence_is_that_long(self, select):
        model = Net()
        with (
            ip.probe(model, layers="mix", measures=ip.Entropy(select=select)) as probe,
            pytest.warns(RuntimeWarning, match="no sequence has"),
        ):
            model(torch.randn(N, T, D))
        assert probe.report().rows[0]["value"] is None

    def test_nothing_is_left(self):
        model = Net()
        with (
            ip.probe(model, layers="mix", measures=ip.Entropy(select="tokens")) as probe,
            pytest.warns(RuntimeWarning, match=r"a mask of shape \(12, 7\) that leaves out all"),
        ):
            masked(probe, torch.zeros(N, T, dtype=torch.bool), model, torch.randn(N, T, D))
        assert probe.report().rows[0]["value"] is None

    @pytest.mark.parametrize(
        ("bad", "text"),
        [
            (lambda x: 3, "expected a function that returns a tensor .* got 3"),
            (lambda x: x.sum(), "expected a function that returns a tensor"),
            (lambda x: x[:, T], r"fails at shape \(12, 7, 4\): .* raises IndexError: index 7"),
        ],
    )
    def test_functions_that_fail(self, bad, text):
        model = Net()
        with (
            ip.probe(model, layers="mix", measures=ip.Entropy(select=bad)) as probe,
            pytest.warns(RuntimeWarning, match=text),
        ):
            model(torch.randn(N, T, D))
        assert probe.report().rows[0]["value"] is None

    @pytest.mark.parametrize(
        ("length", "select", "text"),
        [
            (N - 1, None, "12 samples, as the model was given shape (12, 7, 3), got shape (11,)"),
            (N * T, None, "reshape it to (12, 7, ...) and use select='tokens'"),
            (N - 1, "last", "for each token, got (11,). Pass what belongs to the batch"),
            (N * T, "tokens", "for each token, got (84,). Reshape it"),
        ],
    )
    def test_targets_of_another_length(self, length, select, text):
        model = Net()
        measure = ip.MutualInformation(reference="target", select=select)
        with ip.probe(model, layers="mix", measures=measure) as probe:
            probe.target(torch.randint(2, (length,)))
            with pytest.warns(RuntimeWarning, match=re.escape(text)):
                model(torch.randn(N, T, D))
        (row,) = probe.report().rows
        assert row["value"] is None
        assert "the target could not be measured: expected" in row["findings"][0]

    def test_ragged_batches(self):
        model, h = nn.Linear(D, D).requires_grad_(False), ip.Histogram()
        parts = [torch.randn(4, t, D) for t in (3, 1, 9)]
        measures = [ip.Entropy(h, select="tokens"), ip.Entropy(ip.Gaussian(), select="tokens")]
        with ip.probe(model, measures=measures) as probe:
            for part in parts:
                model(part)
        y = torch.cat([model(part).flatten(0, 1) for part in parts])
        expected = [float(h.entropy(y)), float(ip.Gaussian().entropy(y))]
        assert [row["value"] for row in probe.report().rows] == pytest.approx(expected, abs=1e-5)
