"""What somebody else wrote is used like what the library brings."""

import numpy as np
import pytest
import torch

import infoprobe as ip
from infoprobe.probing.measures import Averaging, Need, Reading, Sampling
from infoprobe.probing.measures.entropy_change import LogDeterminants
from tests.probing.helpers import probed, save_and_load
from tests.probing.measures.helpers import data
from tests.probing.measures.strangers import Box, Sparsity, rectified


def box_measures(margin=0.5):
    return [ip.Entropy(Box(margin), samples=30), ip.Divergence(Box(margin), samples=30)]


class TestEstimator:
    def test_rows(self):
        x = data(25)
        entropy, divergence, *_ = probed(rectified(), [x], box_measures()).report().rows
        assert entropy["value"] == float(Box(0.5).entropy(x))
        assert divergence["value"] == 0
        assert {entropy["kind"], divergence["kind"]} == {"differential"}
        (finding,) = entropy["findings"]
        assert finding.startswith("It has no standard error: the estimator knows none")

    def test_its_findings_name_the_tensor(self):
        row = probed(rectified(), [data(10)], ip.Entropy(Box())).report().rows[1]
        assert row["findings"][0] == "the output: 20 samples are too few for a box. Pass more."

    def test_plain_functions(self):
        x = data(10)
        assert ip.entropy(x, Box(1.0)) == Box(1.0).entropy(x)
        assert ip.kl_divergence(x, 2 * x, Box()) == pytest.approx(4 * torch.tensor(2).log())
        (found,) = ip.diagnose(x, Box())
        assert found.what.startswith("20 samples")

    def test_equal_settings_are_one_measure(self):
        probe = ip.probe(rectified(), measures=[*box_measures(), *box_measures()])
        probe.remove()
        assert "2 measures" in repr(probe)

    def test_tracked(self):
        x = data(120)
        with ip.probe(model := rectified(), measures=box_measures()).track(every=2) as probe:
            for batch in x.split(20):
                model(batch)
        values = [row["value"] for row in probe.report().rows if row["layer"] == "0"][::2]
        assert values == [float(Box(0.5).entropy(x[i : i + 20])) for i in (0, 40, 80)]

    def test_merged(self):
        x = data(30)
        a, b = (probed(rectified(), [part], box_measures()) for part in x.split(15))
        a.merge(b)
        assert a.report().rows[0]["value"] == float(Box(0.5).entropy(x))
        other = probed(rectified(), [x], box_measures(margin=0.25))
        with pytest.raises(ValueError, match="other: expected a probe with the measures"):
            a.merge(other)

    def test_saved_and_resumed(self):
        x = data(30)
        state = save_and_load(probed(rectified(), [x[:15]], box_measures()).state_dict())
        with ip.probe(model := rectified(), measures=box_measures()) as probe:
            probe.load_state_dict(state)
            model(x[15:])
        assert probe.report().rows[0]["value"] == float(Box(0.5).entropy(x))
        with (
            ip.probe(rectified(), measures=box_measures(margin=0.25)) as probe,
            pytest.raises(ValueError, match="state: expected the measures of this probe"),
        ):
            probe.load_state_dict(state)

    @pytest.mark.filterwarnings("ignore:layer '.*' .* a call is left out")
    def test_what_is_wrong_with_it_stays_on_the_row(self):
        class Fails(Box):
            def diagnose(self, measure, tensors, value):
                raise KeyError("no")

        class Named(Box):
            estimate = diagnose = "by maximum likelihood"  # attributes of another meaning

        for estimator in (Fails(), Named()):
            row = probed(torch.nn.Identity(), [data()], ip.Entropy(estimator)).report().rows[0]
            assert row["value"] == float(estimator.entropy(data()))
        assert (
            "the estimator's own method diagnose failed"
            in (
                probed(torch.nn.Identity(), [data()], ip.Entropy(Fails()))
                .report()
                .rows[0]["findings"][0]
            )
        )

    def test_a_kind_that_there_is_not(self):
        estimator = Box()
        estimator.kind = "continuous"
        with pytest.raises(ValueError, match="kind"):
            ip.Entropy(estimator)


class TestMeasure:
    def test_rows_and_findings(self):
        x = data(50)
        with ip.probe(model := rectified(), measures=[Sparsity(), ip.Entropy()]) as probe:
            model(x)
        rows = [row for row in probe.report().rows if row["measure"] == "share_of_zeros"]
        share = float((x.relu() == 0).double().mean())
        assert [row["value"] for row in rows] == [0, share]
        assert rows[1]["stderr"] == pytest.approx((share * (1 - share) / 200) ** 0.5)
        assert (rows[1]["estimator"], rows[1]["n"], rows[1]["d"]) == (
            "Sparsity(samples=100)",
            50,
            4,
        )
        (row,) = probed(torch.nn.ReLU(), [-x.abs()], Sparsity()).report().rows
        assert row["findings"] == ["All values are zero."]

    def test_label_in_table_plot_and_page(self, tmp_path):
        report = probed(rectified(), [data(50)], [Sparsity(), ip.Entropy()]).report()
        assert "share of zeros" in repr(report)
        assert report.plot("share_of_zeros").get_ylabel() == "share of zeros (share)"
        report.to_html(tmp_path / "report.html")
        assert "share of zeros" in (tmp_path / "report.html").read_text()

    def test_tracked_merged_saved(self):
        x = data(60)
        a, b = (probed(rectified(), [part], Sparsity()) for part in x.split(30))
        a.merge(b)
        share = float((x.relu() == 0).double().mean())
        assert a.report().rows[1]["value"] == pytest.approx(share)
        with ip.probe(rectified(), measures=Sparsity()).track(every=1) as probe:
            probe.load_state_dict(save_and_load(a.state_dict()))
        assert probe.report().rows[1]["value"] == pytest.approx(share)

    def test_a_name_that_another_measure_has(self):
        with pytest.raises(ValueError, match="name: expected a name that no other measure has"):

            class Entropy(ip.Measure):
                name = "entropy"

    @pytest.mark.parametrize(
        ("needs", "message"),
        [
            ((), "needs: expected at least one need"),
            ((("output", Sampling(9)),), "needs: expected .*Need"),
            ((Need("outputs", Sampling(9)),), "role: expected one of"),
            ((Need("layer", Sampling(9)),), "reduction: expected a CallReduction"),
            ((Need("output", Averaging(LogDeterminants())),), "expected a TensorReduction"),
        ],
    )
    def test_impossible_needs_are_refused_at_once(self, needs, message):
        class Impossible(Sparsity):
            pass

        Impossible.needs = needs
        with pytest.raises((TypeError, ValueError), match=message):
            ip.probe(torch.nn.ReLU(), measures=Impossible())

    @pytest.mark.parametrize("size", [0, -1, 2.5])
    def test_impossible_numbers_of_samples(self, size):
        with pytest.raises((TypeError, ValueError), match="samples: expected an integer"):
            Sampling(size)

    def test_two_reductions_each_say_how_many_samples_were_used(self):
        class Both(Sparsity):
            needs = (Need("input", Sampling(5)), Need("output", Sampling(10)))

            def compute(self, x, y):
                return Reading(torch.tensor(float(len(x) + len(y))), stderr=np.float32(1))

        (row,) = probed(torch.nn.ReLU(), [data(40)], Both()).report().rows
        assert (row["value"], row["stderr"]) == (15.0, 1.0)
        assert {type(row["value"]), type(row["stderr"])} == {float}
        assert [finding.split("of 40")[0] for finding in row["findings"]] == [
            "It was computed from 5 ",
            "It was computed from 10 ",
        ]

    def test_an_error_in_it_stays_on_the_row(self):
        class Fails(Sparsity):
            def compute(self, output):
                raise RuntimeError("no")

        fails, works = probed(torch.nn.ReLU(), [data()], [Fails(), ip.Entropy()]).report().rows
        assert (fails["value"], fails["findings"][0]) == (None, "RuntimeError: no")
        assert works["value"] is not None
