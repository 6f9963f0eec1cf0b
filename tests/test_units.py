"""Nats everywhere, and other units where numbers are read."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip

BASES = {math.e: "nats", 2: "bits", 10: "hartleys"}


def data(n=200, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def measured(measures, model=None):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh()) if model is None else model
    with ip.probe(model, measures=measures) as probe, torch.no_grad():
        model(data())
    return probe.report()


@pytest.mark.parametrize("base", [*BASES, 3.0])
def test_functions_take_a_base(base):
    x, y, z = data(), data().flip(0), data()[:, :1]
    unit = math.log(base)
    for function, arguments in (
        (ip.entropy, [x]),
        (ip.cross_entropy, [x, y]),
        (ip.kl_divergence, [x, x + 0.01]),
        (ip.js_divergence, [x, y]),
        (ip.mutual_information, [x, y]),
        (ip.conditional_mutual_information, [x, y, z]),
        (ip.total_correlation, [x]),
    ):
        estimator = ip.Histogram(8) if function in (ip.cross_entropy, ip.kl_divergence) else None
        expected = float(function(*arguments, estimator)) / unit
        assert float(function(*arguments, estimator, base=base)) == pytest.approx(expected)
    change = ip.entropy_change(torch.exp, x, base=base)
    nats = ip.entropy_change(torch.exp, x)
    assert [float(a) for a in change[:2]] == pytest.approx([float(a) / unit for a in nats[:2]])
    assert change.n == 200
    interval = ip.confidence_interval(ip.KNN().entropy, x, resamples=5, base=base)
    nats = ip.confidence_interval(ip.KNN().entropy, x, resamples=5)
    assert [float(a) for a in interval] == pytest.approx([float(a) / unit for a in nats])


@pytest.mark.parametrize("base", [0, 1, -2, math.inf, math.nan, "2", None])
def test_bases_that_are_none_are_refused_everywhere(base):
    report = measured(ip.Entropy())
    for call in (
        lambda: ip.entropy(data(), base=base),
        lambda: ip.entropy_change(torch.exp, data(), base=base),
        lambda: ip.confidence_interval(ip.KNN().entropy, data(), base=base),
        lambda: report.in_base(base),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^base: expected"):
            call()


class TestReports:
    @pytest.mark.parametrize("base", BASES)
    def test_values_errors_and_units(self, base):
        report = measured([ip.Entropy(ip.KNN()), ip.Entropy()])
        converted = report.in_base(base)
        assert {row["unit"] for row in converted.rows} == {BASES[base]}
        for here, there in zip(report.rows, converted.rows, strict=True):
            assert there["value"] == pytest.approx(here["value"] / math.log(base))
            assert there["stderr"] == pytest.approx(here["stderr"] / math.log(base))
        assert report.in_base(math.e) == report
        back = converted.in_base(math.e)
        assert [row["value"] for row in back.rows] == pytest.approx(
            [row["value"] for row in report.rows]
        )

    def test_everything_that_is_read_is_converted(self, tmp_path):
        report = measured([ip.EntropyChange(), ip.Entropy(ip.KNN())], nn.Sequential(Doubled()))
        bits = report.in_base(2)
        assert "bits" in repr(bits)
        assert "nats" not in repr(bits)
        assert bits.scalars()["0/forward/entropy_change"] == pytest.approx(3)
        assert float(bits.ledger().totals["forward"]["exact"]) == pytest.approx(3)
        assert "bits" in repr(bits.ledger())
        assert "bits" in bits.plot("entropy").get_ylabel()
        assert "bits" in bits.ledger().plot().get_ylabel()
        assert set(bits.to_dataframe()["unit"]) == {"bits"}
        bits.save(tmp_path / "report.json")
        assert ip.Report.load(tmp_path / "report.json") == bits

    def test_shares_and_missing_values_stay(self):
        rows = measured([ip.Spectrum(), ip.EntropyChange()]).rows
        converted = ip.Report(rows).in_base(2).rows
        for here, there in zip(rows, converted, strict=True):
            if here["unit"] != "nats" or here["value"] is None:
                assert there["value"] == here["value"]
        assert any(row["value"] is None for row in rows)
        assert any(row["unit"] != "nats" for row in rows)

    def test_other_bases_have_no_name(self):
        with pytest.raises(ValueError, match=r"^base: expected math\.e for nats, 2 for bits"):
            measured(ip.Entropy()).in_base(3)

    def test_reports_in_two_units_are_not_compared(self):
        report = measured(ip.Entropy())
        with pytest.raises(ValueError, match=r"^other: expected a report in nats, .* in bits"):
            report.compare(report.in_base(2))
        assert {row["unit"] for row in report.in_base(2).compare(report.in_base(2)).rows} == {
            "bits"
        }


class Doubled(nn.Module):
    """A map that doubles: three features gain one bit each."""

    def forward(self, x):
        return 2 * x, x.new_full((len(x),), 3 * math.log(2))

    def inverse(self, x):
        return x / 2, x.new_full((len(x),), -3 * math.log(2))
