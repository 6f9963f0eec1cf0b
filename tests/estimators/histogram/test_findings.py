"""What a histogram says of its own numbers, where they are wrong and where they are not."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe import Histogram
from tests.estimators.samples import normal


def found(*arguments, measure=None):
    return {finding.code: finding for finding in ip.diagnose(*arguments, measure=measure)}


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class TestInformation:
    @pytest.mark.parametrize("n", [200, 1000, 10_000])
    def test_what_the_bins_show_of_independent_pairs(self, n):
        x, y = normal(n, 1), normal(n, 1, seed=1)
        finding = found(x, y, Histogram())["undersampled-information"]
        assert finding.severity == "error"
        assert finding.figure == pytest.approx(
            float(Histogram().mutual_information(x, y)), rel=0.1
        )

    def test_groups_of_independent_units(self):
        x, y = normal(1000, 4), normal(1000, 4, seed=1)
        for correction in (None, "miller-madow", "grassberger"):
            h = Histogram(8, over="samples", correction=correction)
            assert found(x, y, h)["undersampled-information"].severity == "error", correction

    def test_labels_with_few_pairs_each(self):
        a, b = (draw(2, 1000) * 50).long()
        assert found(a, b, Histogram(over="samples"))["undersampled-information"].figure > 1

    def test_enough_pairs(self):
        x = normal(20_000, 1)
        y = 0.75 * x + math.sqrt(1 - 0.75**2) * normal(20_000, 1, seed=1)
        assert found(x, y, Histogram(16)) == {}
        symbols = (normal(20_000, 9) > 0).float()
        label = (symbols.sum(1) + normal(20_000, 1, seed=2)[:, 0] > 4.5).long()
        assert found(symbols, label, Histogram(2, over="samples")) == {}
        a, b = (draw(2, 20_000) * 10).long()
        for correction in (None, "chao-shen", "grassberger"):
            assert found(a, b, Histogram(over="samples", correction=correction)) == {}

    def test_all_of_an_entropy_is_said_to_be_that(self):
        labels = (draw(2000) * 10).long()
        finding = found(labels[:, None].float(), labels, Histogram(over="samples"))
        (finding,) = finding.values()
        assert finding.code == "information-is-entropy"
        assert finding.severity == "warning"
        assert finding.figure == pytest.approx(math.log(10), abs=0.01)
        assert "all of the entropy of the second, 2.30 nats" in finding.what

    def test_it_may_be_the_bins_alone(self):
        x = normal(2000, 12)
        layer = (x @ normal(12, 1, seed=1) > 0).float()
        (finding,) = found(x, layer, Histogram(30, over="samples")).values()
        assert finding.code == "information-is-entropy"
        assert finding.severity == "error"
        assert finding.figure == pytest.approx(math.log(2), abs=0.01)
        assert "with the pairs shuffled" in finding.what

    def test_a_variable_that_does_not_vary(self):
        labels = (draw(500) * 10).long()
        (finding,) = found(labels, torch.zeros(500), Histogram(over="samples")).values()
        assert (finding.code, finding.argument) == ("constant-variable", "y")

    def test_pooled_values_are_shuffled_as_values(self):
        # All the information is in the position, which samples that are shuffled keep.
        x = torch.arange(16.0).repeat(500, 1)
        assert "undersampled-information" not in found(x, x + 0.1 * normal(500, 16), Histogram(16))


class TestOutliers:
    def test_one_value_squeezes_the_others(self):
        x = torch.cat([normal(20_000, 1), torch.tensor([[1e6]])])
        for range in ("dyadic", "minmax", "own"):
            finding = found(x, Histogram(range=range))["squeezed-bins"]
            assert finding.severity == "error"
            alone = float(Histogram(range=range).entropy(x[:-1]))
            assert finding.figure == pytest.approx(alone, abs=0.7)  # the 20 most extreme go, too
        assert found(x, Histogram(range=(-5, 5), outside="clip")) == {}

    def test_in_a_report(self):
        model = torch.nn.Identity()
        with ip.probe(model, measures=ip.Entropy()) as probe:
            model(normal(20_000, 1))
            model(torch.tensor([[1e6]]))
        (row,) = probe.report().rows
        assert row["findings"][0].endswith("[squeezed-bins]")

    def test_what_is_no_outlier(self):
        rare = (draw(100_000) < 5e-4).float()
        sparse = (normal(100_000, 1) - 3.2).relu()
        tails = torch.distributions.StudentT(torch.tensor(3.0)).sample((100_000,))
        for x in (rare, sparse, tails, normal(100_000, 1).exp(), normal(100_000, 1).relu()):
            h = Histogram()
            assert found(x, h) == {}
            assert h.diagnose("entropy", [h.count(x)], h.entropy(x)) == []


class TestPrecision:
    @pytest.mark.parametrize("pseudocount", [0, 1])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_rounded_data(self, dtype, pseudocount):
        bins = 512 if dtype == torch.bfloat16 else 4096
        x = normal(200_000, 1).sigmoid()
        rounded = normal(200_000, 1, seed=1).sigmoid().to(dtype).float()
        h = Histogram(bins, pseudocount=pseudocount)
        for arguments in ((x, rounded), (rounded, x)):
            assert "bins-finer-than-data" in found(*arguments, h, measure="kl_divergence")
            counts = [h.count(a) for a in arguments]
            codes = [f.code for f in h.diagnose("kl_divergence", counts, torch.tensor(1.0))]
            assert "bins-finer-than-data" in codes

    def test_eight_bits(self):
        image = (draw(100_000) * 256).floor() / 255
        noisy = image[:50_000] + 0.001 * normal(50_000, 1)[:, 0]
        h = Histogram(1000, pseudocount=1)
        assert "bins-finer-than-data" in found(image[50_000:], noisy, h, measure="kl_divergence")
        assert found(image[:50_000], image[50_000:], h, measure="kl_divergence") == {}

    def test_wide_enough_bins(self):
        x = normal(200_000, 1).sigmoid()
        h = Histogram(128, range=(-0.003, 1.003), pseudocount=1)
        assert found(x, x.bfloat16().float(), h, measure="kl_divergence") == {}


def test_token_ids_against_activations():
    tokens = (draw(5000) * 50_000).long()
    activations = normal(5000, 4)
    finding = found(tokens, activations, Histogram(pseudocount=1), measure="kl_divergence")
    assert "of one kind" in finding["missing-support"].remedy
