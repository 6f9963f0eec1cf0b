"""The entropies of all layers and steps are on bins of one width."""

import itertools
import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.findings import code_of
from tests.probing.helpers import probed, save_and_load

H = ip.Histogram()


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def scaled(*factors):
    return nn.Sequential(*map(Times, factors))


def batches(number=4, n=500, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 40, generator=generator) for _ in range(number)]


def entropies(report):
    return [row["value"] for row in report.rows if row["measure"] == "entropy"]


def width_of(report):
    (width,) = (x for name, x in report.settings.items() if name.startswith("bin width of"))
    return float(width)


def codes(row):
    return [code_of(found) for found in row["findings"] if code_of(found)]


class TestComparable:
    def test_a_scale_adds_its_logarithm(self):
        # On bins of their own, the changes would be multiples of ln 2 and whatever is left.
        found = entropies(probed(scaled(1, 1.9, 1.1, 0.6), batches(), None).report())
        changes = [after - before for before, after in itertools.pairwise(found)]
        assert changes == pytest.approx([math.log(1.9), math.log(1.1), math.log(0.6)], abs=0.01)

    def test_atoms_count_as_much_at_every_layer(self):
        # Half of the values become one symbol, and the others stay in bins of the same width.
        model = nn.Sequential(Times(1.0), nn.Threshold(0.0, -4.0), Times(3.1))
        of_x, of_half, of_scaled = entropies(probed(model, batches(), ip.Entropy()).report())
        assert of_half == pytest.approx(of_x / 2 + math.log(2) / 2, abs=0.01)
        assert of_scaled - of_half == pytest.approx(math.log(3.1) / 2, abs=0.01)

    @pytest.mark.parametrize("estimator", [H, ip.Histogram(100, pseudocount=1)], ids=repr)
    def test_the_values_are_those_of_the_plain_function_with_the_same_bins(self, estimator):
        model, data = scaled(1, 5.3, 0.2), batches()
        probe = probed(model, data, ip.Entropy(estimator, width="shared"))
        report = probe.report()
        x = torch.cat(data)
        for row, factor in zip(report.rows, (1, 5.3, 5.3 * 0.2), strict=True):
            counts = estimator.count(x * 1 if factor == 1 else model[: row["order"] + 1](x))
            assert row["value"] == float(estimator.entropy(counts.at_width(width_of(report))))
            own = float(estimator.entropy(probe.counts(row["layer"])))
            assert own == float(estimator.entropy(model[: row["order"] + 1](x)))

    def test_explicit_ranges_and_the_paper_s_definition_are_left_as_they_are(self):
        model, x = scaled(1, 7.7), batches(1)[0]
        for h in (ip.Histogram(1000, "own"), ip.Histogram(64, (-50, 50))):
            report = probed(model, [x], ip.Entropy(h)).report()
            assert entropies(report) == [float(h.entropy(x)), float(h.entropy(x * 7.7))]
            assert not any("width" in name for name in report.settings)

    def test_a_divergence_has_bins_of_its_own_pair(self):
        model, x = scaled(1, 7.7), batches(1)[0]
        h = ip.Histogram(pseudocount=1)
        rows = probed(model, [x], None).report().rows
        found = [row["value"] for row in rows if row["measure"] == "divergence"]
        assert found[-1] == float(h.kl_divergence(x, x * 7.7))

    def test_whoever_names_an_estimator_gets_its_own_bins(self):
        model, x = scaled(1, 7.7), batches(1)[0]
        report = probed(model, [x], ip.Entropy(H)).report()
        assert entropies(report) == [float(H.entropy(x)), float(H.entropy(x * 7.7))]
        assert [ip.Entropy().width, ip.Entropy(H).width] == ["shared", "own"]
        assert ip.Entropy() == ip.Entropy(H, width="shared") != ip.Entropy(H)

    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.Histogram(range="own")], ids=repr)
    def test_only_dyadic_bins_can_be_shared(self, estimator):
        with pytest.raises(ValueError, match=r"^width: expected 'own'"):
            ip.Entropy(estimator, width="shared")


class TestMisfits:
    def test_few_rows_have_findings_where_ranges_are_alike(self):
        rows = probed(scaled(1, 3, 0.3, 2), batches(), ip.Entropy()).report().rows
        assert [codes(row) for row in rows] == [[]] * 4

    def test_a_wide_layer_does_not_spoil_the_others(self):
        report = probed(scaled(1, 2, 0.5, 1e4), batches(), ip.Entropy()).report()
        *rows, wide = report.rows
        assert [codes(row) for row in rows] == [[]] * 3
        assert codes(wide) == ["wider-bins"]
        # The finding bounds what is missing, and its figure is right for a density.
        x = torch.cat(batches()) * 1e4
        missing = math.log(H.count(x).grid.width / width_of(report))
        assert f"up to {missing:.2f} nats larger" in wide["findings"][0]
        assert wide["value"] == float(H.entropy(x))

    def test_a_narrow_layer_is_named(self):
        report = probed(scaled(1, 2, 1e-4, 1e4), batches(), ip.Entropy()).report()
        assert [codes(row) for row in report.rows] == [[], [], ["coarse-bins"], []]
        assert report.rows[2]["value"] == pytest.approx(math.log(2), abs=0.01)  # the signs alone

    def test_constants_and_few_values_fit_any_width(self):
        model = nn.Sequential(Times(0.0), Times(1.0), nn.Identity())
        x = torch.randint(0, 3, (100, 5)).float()
        rows = probed(nn.Sequential(nn.Identity(), model), [x], ip.Entropy()).report().rows
        assert not any(codes(row) for row in rows)


class TestAddingUp:
    def test_batches_and_merging_change_nothing(self):
        model, data = scaled(1, 4.4, 0.1), batches(4)
        whole = probed(model, [torch.cat(data)], ip.Entropy()).report()
        first, second = (probed(model, some, ip.Entropy()) for some in (data[:1], data[1:]))
        first.merge(second)
        assert entropies(first.report()) == entropies(whole)
        assert width_of(first.report()) == width_of(whole)

    def test_all_steps_have_one_width(self):
        model = scaled(1, 3)
        with ip.probe(model, measures=ip.Entropy()).track(every=1) as probe:
            for i, x in enumerate(batches(3)):
                model(x * (1 + i))
        report = probe.report()
        by_step = [entropies(report.at(step)) for step in report.steps]
        assert by_step[1][0] - by_step[0][0] == pytest.approx(math.log(2), abs=0.05)
        assert by_step[2][0] - by_step[0][0] == pytest.approx(math.log(3), abs=0.05)
        whole = probed(model, [batches(3)[0]], ip.Entropy())
        h = H.entropy(whole.counts("0").at_width(width_of(report)))
        assert by_step[0][0] == float(h)
        resumed = ip.probe(model, measures=ip.Entropy())
        resumed.load_state_dict(save_and_load(probe.state_dict()))
        assert resumed.report().rows == report.rows

    def test_the_ledger_s_inputs_are_on_the_same_bins(self):
        flow = torch.distributions.ComposeTransform(
            [torch.distributions.AffineTransform(0.0, 5.0)] * 2
        )
        with ip.probe(flow, measures=[ip.EntropyChange(), ip.Entropy()]) as probe:
            flow(torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)))
        (estimate,) = probe.report().ledger().totals["forward"]["estimates"].values()
        assert estimate / 2 == pytest.approx(math.log(5), abs=0.1)


class TestTold:
    def test_in_table_page_file_and_settings(self, tmp_path):
        report = probed(scaled(1, 3), batches(), None).report()
        assert f"H(output) is of bins of width {width_of(report)} at every layer" in repr(report)
        report.save(tmp_path / "report.json")
        loaded = ip.Report.load(tmp_path / "report.json")
        assert loaded == report
        assert {"infoprobe", "torch", "seed", "passes"} <= loaded.settings.keys()
        report.to_html(tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "bin width of" in page

    def test_reports_of_two_widths_say_so_side_by_side(self):
        first, second, third = (
            probed(scaled(1, c), batches(), None).report() for c in (3, 30, 3.01)
        )
        (note,) = first.compare(second, names=("a", "b")).notes
        assert f"width {width_of(first)} in 'a' and of {width_of(second)} in 'b'" in note
        assert note in repr(first.compare(second, names=("a", "b")))
        assert first.compare(third).notes == []

    @pytest.mark.parametrize("width", [0.3, 2.0**-20, 0.0, math.inf])
    def test_counts_know_what_they_can_be_merged_into(self, width):
        counts = H.count(torch.randn(100))
        with pytest.raises(ValueError, match="width"):
            counts.at_width(width)
