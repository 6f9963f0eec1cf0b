"""What the circumstances of a call mean: determinism, copies, constant units and targets."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.estimators.protocols import Estimate
from infoprobe.findings import code_of
from infoprobe.probing.kept.marks import marks_of, repeats
from tests.probing.helpers import Lambda
from tests.probing.measures.helpers import Spy, data, measured


def codes(row):
    return [code_of(finding) for finding in row["findings"]]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).eval()


class TestDeterministicLayers:
    def test_it_is_said_where_no_random_number_was_drawn(self):
        for reference in ("input", "previous"):
            rows = measured(network(), data(), ip.MutualInformation(reference=reference))
            assert [codes(row)[0] for row in rows] == ["deterministic"] * 3

    def test_noise_makes_the_information_finite_from_there_on(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        said = {
            reference: [
                "deterministic" in codes(row)
                for row in measured(model, data(), ip.MutualInformation(reference=reference))
            ]
            for reference in ("input", "previous")
        }
        assert said == {"input": [True, False, False], "previous": [True, False, True]}

    def test_noise_of_generators_that_a_module_holds(self):
        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.source = torch.Generator().manual_seed(0)

            def forward(self, x):
                return x + torch.randn(x.shape, generator=self.source, dtype=x.dtype)

        model = nn.Sequential(nn.Linear(4, 4), Noisy(), nn.Linear(4, 2))
        for reference, said in (
            ("input", [True, False, False]),
            ("previous", [True, False, True]),
        ):
            rows = measured(model, data(), ip.MutualInformation(reference=reference))
            assert ["deterministic" in codes(row) for row in rows] == said

    def test_not_of_targets_nor_of_discrete_outputs(self):
        rows = measured(
            network(), data(), ip.MutualInformation(reference="target"), target=data()[:, :1]
        )
        assert not any("deterministic" in codes(row) for row in rows)
        binary = Lambda(lambda x: (x[:, :1] > 0).float())
        (row,) = measured(binary, data(), ip.MutualInformation(ip.Histogram(4, over="samples")))
        assert "deterministic" not in codes(row)

    def test_it_is_kept_in_the_state(self):
        model = nn.Dropout(0.5)
        with ip.probe(model, measures=ip.MutualInformation(Spy())) as probe:
            model(data())
        with ip.probe(model, measures=ip.MutualInformation(Spy())) as quiet:
            model.eval()(data())
        assert "deterministic" in codes(quiet.report().rows[0])
        quiet.merge(probe)
        assert "deterministic" not in codes(quiet.report().rows[0])
        quiet.load_state_dict(probe.state_dict())
        assert "deterministic" not in codes(quiet.report().rows[0])


class Known:
    """An estimator that gives the values it was told, with their errors."""

    def __init__(self, *values, stderr=None):
        self.values, self.stderr = iter(values), stderr

    def configuration(self):
        return {}

    def mutual_information(self, x, y):
        raise AssertionError

    def estimate(self, measure, x, y):
        stderr = None if self.stderr is None else torch.tensor(self.stderr)
        return Estimate(torch.tensor(next(self.values)), stderr, [])


class TestDataProcessing:
    def said(self, *values, model=None, reference="target", **options):
        model = model or nn.Sequential(*(nn.Linear(4, 4) for _ in values))
        measure = ip.MutualInformation(Known(*values, **options), reference=reference)
        rows = measured(model, data(), measure, target=data()[:, 0])
        return ["data-processing" in codes(row) for row in rows]

    def test_information_that_rises(self):
        assert self.said(1.0, 2.0, 1.95, 2.0) == [False, True, False, False]
        assert self.said(1.0, 2.0, reference="input") == [False, True]
        assert self.said(1.0, 2.0, reference="previous") == [False, False]

    def test_beyond_the_errors(self):
        assert self.said(1.0, 1.5, stderr=0.2) == [False, False]
        assert self.said(1.0, 1.5, stderr=0.05) == [False, True]

    def test_only_along_a_chain(self):
        class Branches(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

            def forward(self, x):
                return self.c(x + self.b(self.a(x)))

        assert self.said(1.0, 0.5, 1.0, model=Branches()) == [False, False, False]
        assert self.said(1.0, 1.5, 2.0, model=Branches()) == [False, True, False]


class TestCopies:
    @pytest.mark.parametrize("target", [torch.randn(400, 1), torch.randint(3, (400,))])
    def test_two_epochs_over_the_same_data_count_once(self, target):
        model, x = network(), data(400)
        once = measured(
            model, x, measures := ip.MutualInformation(reference="target"), (400,), target
        )
        with ip.probe(model, measures=measures) as probe, torch.no_grad():
            for epoch in range(2):
                order = torch.randperm(400, generator=torch.Generator().manual_seed(epoch))
                for i in order.split(50):
                    probe.target(target[i])
                    model(x[i])
        for row, alone in zip(probe.report().rows, once, strict=True):
            assert row["n"] == 400
            assert row["value"] == pytest.approx(alone["value"], abs=0.05)
            assert codes(row) == ["seen-twice"]
            assert row["findings"][0].startswith("400 of the 800 samples")

    def test_discrete_variables_keep_their_frequencies(self):
        x = torch.tensor([[0.0], [0.0], [0.0], [1.0]]).repeat(5, 1)
        measure = ip.Entropy(ip.Histogram(2, over="samples"))
        (row,) = measured(nn.Identity(), x, measure, (20,))
        assert row["n"] == 20
        assert row["value"] == pytest.approx(0.5623, abs=1e-4)

    def test_other_results_are_other_samples(self):
        x = data(50, 20)
        model = nn.Dropout(0.5)
        (row,) = measured(model, torch.cat([x, x]), ip.Entropy(ip.Gaussian()), (50, 50))
        assert row["n"] == 100
        assert "seen-again" in codes(row)
        (row,) = measured(model.eval(), torch.cat([x, x]), ip.Entropy(ip.Gaussian()), (50, 50))
        assert row["n"] == 50

    def test_discrete_inputs_are_no_copies(self):
        """A channel that keeps one of ten symbols in 82% of the cases."""
        generator = torch.Generator().manual_seed(0)
        label, other = torch.randint(10, (2, 2000), generator=generator)
        keeps = torch.rand(2000, generator=generator) < 0.8
        x = torch.where(keeps, label, other).unsqueeze(1).float()
        measure = ip.MutualInformation(reference="target")
        (row,) = measured(nn.Identity(), x, measure, (2000,), target=label)
        truth = math.log(10) + 0.82 * math.log(0.82) + 0.18 * math.log(0.02)
        assert row["n"] == 2000
        assert row["value"] == pytest.approx(truth, abs=0.1)
        assert "seen-twice" not in codes(row)

    def test_rounded_inputs_are_no_copies(self):
        x = data(1500, 1).bfloat16()
        (row,) = measured(nn.Identity(), x, ip.Entropy(ip.Gaussian()), (1500,))
        assert row["n"] == 1500
        assert not row["findings"]

    def test_merged_and_resumed(self):
        model = nn.Identity()
        probes = []
        for _ in range(2):
            with ip.probe(model, measures=ip.Entropy(ip.Gaussian())) as probe:
                model(data(30))
            probes.append(probe)
        with ip.probe(model, measures=ip.Entropy(ip.Gaussian())) as resumed:
            resumed.load_state_dict(probes[0].state_dict())
        resumed.merge(probes[1])
        (row,) = resumed.report().rows
        assert row["n"] == 30

    @pytest.mark.parametrize(
        "x",
        [
            data(50),
            data(50).half(),
            torch.randint(-9, 9, (50, 7)),
            torch.randn(50, 3, dtype=torch.complex64),
            torch.randn(50) > 0,
            torch.randn(50, 3, 40, 40),
        ],
        ids=lambda x: f"{x.dtype} {tuple(x.shape)}",
    )
    def test_marks_are_those_of_the_values(self, x):
        first = torch.zeros(50, dtype=torch.int64)
        marks = marks_of(x, first)
        assert torch.equal(marks_of(torch.cat([x, x]), torch.cat([first, first]))[50:], marks)
        assert torch.equal(marks_of(x[::2], first[::2]), marks[::2])
        assert not (marks_of(x, first + 1) == marks).any()
        values = torch.view_as_real(x) if x.is_complex() else x
        assert len(marks.unique()) == len(torch.unique(values, dim=0))

    def test_repetitions_are_told_by_when_they_come(self):
        """Those of epochs come after all samples were there; those by chance come at any time."""
        x = data(200, 1)
        marks = marks_of(x, torch.zeros(200, dtype=torch.int64))
        second = torch.arange(400) >= 200
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            order = torch.cat([torch.randperm(200, generator=generator) for _ in range(2)])
            found = repeats(marks[order], [x[order]])
            assert torch.equal(found.same, second)
            assert not found.changed.any()
            found = repeats(marks[order], [x[order] + torch.arange(400.0).unsqueeze(1)])
            assert torch.equal(found.changed, second)
            assert not found.same.any()
            drawn = torch.randint(200, (400,), generator=generator)
            found = repeats(marks[drawn], [x[drawn]])
            assert not found.same.any()
            assert not found.changed.any()


class TestConstants:
    def test_constant_units_carry_no_information(self):
        x = data(300)
        padded = torch.cat([x, torch.zeros(300, 3)], 1)
        model = Lambda(lambda x: x[:, :2] + 0.5 * torch.randn(len(x), 2, generator=seeded()))
        seeded = lambda: torch.Generator().manual_seed(0)  # noqa: E731
        (row,) = measured(model, padded, ip.MutualInformation(), (300,))
        (alone,) = measured(model, x, ip.MutualInformation(), (300,))
        assert row["value"] == alone["value"]
        (finding,) = [x for x in row["findings"] if code_of(x) == "constant-units"]
        assert finding.startswith("the model's input: 3 of 7 units are constant")

    def test_a_constant_target(self):
        measure = ip.MutualInformation(reference="target")
        rows = measured(network(), data(), measure, target=torch.full((120,), 7))
        assert all(codes(row) == ["constant-target"] for row in rows)
        assert all(row["value"] == pytest.approx(0, abs=1e-9) for row in rows)

    def test_token_ids_are_not_compared_with_activations(self):
        model = nn.Sequential(nn.Embedding(9, 3), nn.Linear(3, 3))
        with ip.probe(model) as probe:
            model(torch.randint(9, (20, 5)))
        for row in probe.report().rows:
            integers = row["measure"] == "divergence" and (
                row["layer"] == "0" or row["reference"] == "input"
            )
            assert (row["value"] is None) == integers
            assert not integers or row["findings"][0].startswith("It does not apply")
