import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.measures.helpers import (
    OF_INFORMATION,
    SPLITS,
    Spy,
    activations,
    data,
    measured,
    model_of,
)


class TestAllSamples:
    """With room for all samples, values are those of the whole tensors, to the last bit."""

    @pytest.mark.parametrize("reference", ["previous", "input"])
    @pytest.mark.parametrize("estimator", OF_INFORMATION, ids=repr)
    def test_mutual_information(self, estimator, reference):
        model, x = model_of(), data()
        tensors = activations(model, x)
        references = [x] * 3 if reference == "input" else tensors[:3]
        expected = [
            float(estimator.mutual_information(p, q))
            for p, q in zip(references, tensors[1:], strict=True)
        ]
        for splits in SPLITS[::3]:
            rows = measured(model, x, ip.MutualInformation(estimator, reference), splits)
            assert [row["value"] for row in rows] == expected
            assert {row["reference"] for row in rows} == {reference}

    @pytest.mark.parametrize(
        "estimator",
        [ip.KNN(), ip.Histogram(4, over="samples"), ip.Histogram(5, "own", "samples")],
        ids=repr,
    )
    def test_labels(self, estimator):
        model, x = model_of(), data()
        labels = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
        measure = ip.MutualInformation(estimator, "target")
        for splits in SPLITS:
            rows = measured(model, x, measure, splits, labels)
            assert [row["value"] for row in rows] == [
                float(estimator.mutual_information(labels, y)) for y in activations(model, x)[1:]
            ]

    def test_a_target_of_any_other_kind(self):
        model, x = model_of(), data()
        y = x @ torch.randn(4, 2) + torch.randn(120, 2)
        rows = measured(model, x, ip.MutualInformation(reference="target"), [50, 70], y)
        for row, z in zip(rows, activations(model, x)[1:], strict=True):
            assert row["value"] == float(ip.KNN().mutual_information(y, z))


class TestTargets:
    MEASURE = ip.MutualInformation(ip.Gaussian(), "target")

    def test_none(self):
        model = nn.Identity()
        message = r"Call probe.target\(y\) before the forward"
        with (
            ip.probe(model, measures=self.MEASURE) as probe,
            pytest.warns(RuntimeWarning, match=message),
        ):
            model(data())
        (row,) = probe.report().rows
        assert row["value"] is None
        assert (
            "the target could not be measured: there is none. Call probe.target(y)"
            in row["findings"][-1]
        )

    def test_for_the_next_pass_alone(self):
        model, x = nn.Identity(), data()
        y = x + 1
        spy = Spy()
        measure = ip.MutualInformation(spy, "target")
        with ip.probe(model, measures=measure) as probe:
            probe.target(y[:40])
            model(x[:40])
            with pytest.warns(
                RuntimeWarning, match="In pass 2, the target could not be measured: there is none"
            ):
                model(x[40:80])
            probe.target(y[:7])  # the last word counts
            probe.target(y[80:])
            model(x[80:])
        (row,) = probe.report().rows
        (of, z) = spy.given[0]
        assert torch.equal(of, torch.cat([y[:40], y[80:]]))
        assert torch.equal(z, torch.cat([x[:40], x[80:]]))
        assert row["n"] == 80
        assert "1 call is left out" in row["findings"][-1]

    def test_passes_without_one_are_no_random_draw(self):
        model, x = nn.Identity(), data()
        with ip.probe(model, measures=ip.MutualInformation(Spy(), "target")) as probe:
            probe.target(x[:40])
            model(x[:40])
            with pytest.warns(RuntimeWarning):
                model(x[40:80])
        (row,) = probe.report().rows
        assert not any("drawn at random" in found for found in row["findings"])

    def test_a_paused_pass_takes_it_too(self):
        model, x, spy = nn.Identity(), data(), Spy()
        with ip.probe(model, measures=ip.MutualInformation(spy, "target")) as probe:
            probe.target(torch.ones(120))
            with probe.pause():
                model(x)
            probe.target(torch.zeros(120))
            model(x)
        probe.report()
        assert not spy.given[0][0].any()

    def test_another_length(self):
        model = nn.Identity()
        with ip.probe(model, measures=self.MEASURE) as probe:
            probe.target(torch.zeros(7))
            with pytest.warns(RuntimeWarning, match="120 samples, .* got shape"):
                model(data())
            probe.target(data()[:, 0])
            model(data())
        (row,) = probe.report().rows
        assert row["n"] == 120
        assert "1 call is left out. In pass 1" in row["findings"][-1]

    def test_what_is_no_target(self):
        with ip.probe(nn.Identity(), measures=self.MEASURE) as probe:
            with pytest.raises(TypeError, match="target: expected a tensor or an array"):
                probe.target("cat")
            with pytest.raises(ValueError, match="target: expected at least one value"):
                probe.target([])

    def test_a_list_and_an_array(self):
        model, x = nn.Identity(), data(6)
        spy = Spy()
        with ip.probe(model, measures=ip.MutualInformation(spy, "target")) as probe:
            probe.target([0, 1, 0, 1, 2, 2])
            model(x)
            probe.target(x.numpy()[:, 0].round().astype(int))
            model(x)
        probe.report()
        assert spy.given[0][0].tolist() == [0, 1, 0, 1, 2, 2, *x[:, 0].round().long().tolist()]
