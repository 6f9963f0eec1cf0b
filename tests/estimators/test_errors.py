"""Standard errors against the spread of estimates from fresh samples."""

import math

import pytest
import torch

import infoprobe as ip
from infoprobe.estimators.errors import GROUPS, jackknife, random_groups
from infoprobe.estimators.protocols import estimate
from tests.estimators.samples import normal


class TestJackknife:
    def test_the_error_of_a_mean_from_groups_of_one(self):
        x = normal(20, 1).squeeze(1)
        without = (x.sum() - x) / 19
        error = jackknife(x.mean(), without, torch.full((20,), 1 / 20).double())
        assert error.noise.item() == pytest.approx(x.std().item() / math.sqrt(20))
        assert error.bias.item() == pytest.approx(0, abs=1e-12)
        assert error.degrees == pytest.approx(19)
        assert error.stderr.item() == pytest.approx(error.noise.item() * 2.093 / 1.96, rel=1e-4)

    def test_the_bias_of_a_variance(self):
        x = normal(20, 1).squeeze(1)
        without = torch.stack([x[torch.arange(20) != i].var(correction=0) for i in range(20)])
        error = jackknife(x.var(correction=0), without, torch.full((20,), 1 / 20).double())
        assert error.bias.item() == pytest.approx((x.var(correction=0) - x.var()).item())

    def test_groups_of_unequal_size(self):
        """The mean of many draws, each cut into unequal groups."""
        sizes = torch.tensor([40, 10, 10, 5, 20, 5, 5, 5])
        found = []
        for seed in range(300):
            parts = torch.split(normal(100, 1, seed=seed).squeeze(1), sizes.tolist())
            sums = torch.stack([part.sum() for part in parts])
            without = (sums.sum() - sums) / (100 - sizes)
            found.append(jackknife(sums.sum() / 100, without, sizes / 100).noise ** 2)
        assert torch.stack(found).mean().sqrt().item() == pytest.approx(0.1, rel=0.08)

    def test_where_there_is_none(self):
        nothing = torch.zeros(3)
        assert jackknife(nothing[0], nothing, torch.tensor([1.0, 0.0, 0.0])) is None
        without = torch.tensor([0.0, math.inf, 0.0])
        assert jackknife(nothing[0], without, torch.tensor([0.5, 0.5, 0.0])) is None

    def test_random_groups(self):
        groups = random_groups(100)
        assert sorted(set(groups.tolist())) == list(range(GROUPS))
        assert groups.bincount().max() - groups.bincount().min() <= 1
        assert torch.equal(groups, random_groups(100))

    def test_random_groups_of_many(self):
        n = 1 << 23
        groups = random_groups(n)
        assert groups.shape == (n,)
        assert torch.equal(groups, random_groups(n))
        sizes = groups.bincount(minlength=GROUPS)
        assert (sizes - n / GROUPS).abs().max() < 0.01 * n / GROUPS
        # Whatever the distance of two samples, they share a group as often as by chance.
        for distance in (1, 32, 8192, 16384):
            together = (groups[distance:] == groups[:-distance]).double().mean().item()
            assert together == pytest.approx(1 / GROUPS, abs=0.012)


class TestHistogram:
    """The standard error is the root of the mean squared error over repetitions."""

    @pytest.mark.parametrize(
        ("estimator", "width"),
        [
            (ip.Histogram(32, (-5.0, 5.0)), 1),
            (ip.Histogram(16, (-6.0, 6.0), over="units"), 3),
            (ip.Histogram(3, (-6.0, 6.0), over="samples"), 2),
        ],
    )
    def test_entropies(self, estimator, width):
        self.check(estimator, "entropy", [(normal(600, width, seed=i),) for i in range(60)])

    def test_values_of_one_sample_belong_together(self):
        pixels = [normal(200, 1, seed=i) + normal(200, 20, seed=99) / 20 for i in range(60)]
        self.check(ip.Histogram(32, (-5.0, 5.0)), "entropy", [(x,) for x in pixels])

    @pytest.mark.parametrize("measure", ["cross_entropy", "kl_divergence", "js_divergence"])
    def test_divergences(self, measure):
        pairs = [(normal(800, 1, seed=i), 1.3 * normal(500, 1, seed=900 + i)) for i in range(60)]
        self.check(
            ip.Histogram(16, (-7.0, 7.0), pseudocount=0.5), measure, pairs, "cross" in measure
        )

    def test_paired_arguments_cancel(self):
        """Of a reference and an output that share their samples, the same are left out."""
        x = normal(1000, 1)
        assert float(estimate(ip.Histogram(16, pseudocount=1), "kl_divergence", x, x).stderr) == 0

    @pytest.mark.parametrize("bins", [8, 40])
    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_information(self, over, bins):
        """By a table of all cells and by a list of those that occur."""
        pairs = []
        for i in range(50):
            x = normal(900, 1, seed=i)
            pairs.append((x, x + normal(900, 1, seed=900 + i)))
        self.check(
            ip.Histogram(bins, (-8.0, 8.0), over=over), "mutual_information", pairs, bins > 8
        )

    @staticmethod
    def check(estimator, measure, draws, biased=False):
        found = [estimate(estimator, measure, *tensors) for tensors in draws]
        values = torch.stack([each.value for each in found])
        for tensors, each in zip(draws, found, strict=True):
            assert each.value == getattr(estimator, measure)(*tensors)
        noise = torch.stack([each.stderr for each in found]).median().item()
        spread = values.std().item()
        assert noise > 0.8 * spread
        if not biased:
            assert noise < 1.6 * spread

    def test_bias_is_part_of_it(self):
        x, y = normal(200, 1), normal(200, 1, seed=1)
        found = estimate(ip.Histogram(16), "mutual_information", x, y)  # the truth is 0
        assert abs(float(found.value)) < 2 * float(found.stderr)
        assert [finding.code for finding in found.findings] == ["undersampled-information"]

    def test_who_has_none(self):
        h = ip.Histogram(8)
        assert estimate(h, "entropy", torch.tensor([[1.0, 2.0, 3.0]])).stderr is None
        assert estimate(h, "entropy", torch.tensor(3.0)).stderr is None
        assert estimate(h, "entropy", h.count(normal(100, 1))).stderr is None
        assert estimate(h, "kl_divergence", normal(99, 1), normal(99, 1) + 50).stderr is None

    def test_what_is_dropped_keeps_its_group(self):
        h = ip.Histogram(8, (-1.0, 1.0), outside="drop")
        x = normal(300, 4)
        assert 0 < float(estimate(h, "entropy", x).stderr) < 0.1
        assert estimate(h, "entropy", x).value == h.entropy(x)


def correlated(n, d, correlation, seed):
    x, noise = normal(n, d, seed=seed), normal(n, d, seed=900 + seed)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


class TestOthers:
    """The standard error is the deviation of estimates from fresh samples."""

    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.Gaussian(), ip.MatrixRenyi(2)])
    def test_entropies(self, estimator):
        self.check(estimator, "entropy", [(normal(300, 3, seed=i),) for i in range(50)])

    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.Gaussian()])
    @pytest.mark.parametrize("measure", ["kl_divergence", "cross_entropy"])
    def test_divergences(self, estimator, measure):
        pairs = [(normal(300, 3, seed=i), 1.3 * normal(400, 3, seed=900 + i)) for i in range(50)]
        self.check(estimator, measure, pairs)

    @pytest.mark.parametrize("estimator", [ip.KNN(), ip.Gaussian(), ip.MatrixRenyi(2)])
    def test_information(self, estimator):
        pairs = [correlated(200, 2, 0.6, i) for i in range(40)]
        self.check(estimator, "mutual_information", pairs)

    def test_labels(self):
        pairs = []
        for i in range(40):
            x, y = correlated(300, 1, 0.7, i)
            pairs.append((x, (y[:, 0] > 0).long()))
        self.check(ip.KNN(), "mutual_information", pairs)

    @staticmethod
    def check(estimator, measure, draws):
        found = [estimate(estimator, measure, *tensors) for tensors in draws]
        values = torch.stack([each.value for each in found])
        stderr = torch.stack([each.stderr for each in found]).median().item()
        most = 1.8 if isinstance(estimator, ip.MatrixRenyi) else 1.45  # a median is not smooth
        assert 0.7 * values.std().item() < stderr < most * values.std().item()
        assert found[0].value == getattr(estimator, measure)(*draws[0])

    def test_calibrated_neighbours(self):
        x = normal(300, 5)
        plain, calibrated = (
            estimate(ip.KNN(calibration=by), "entropy", x).stderr for by in (None, "gaussian")
        )
        assert 0.5 < float(plain / calibrated) < 2

    def test_too_few_samples(self):
        assert estimate(ip.Gaussian(), "entropy", normal(5, 4)).stderr is None

    @pytest.mark.parametrize("n", [20, 40])
    @pytest.mark.parametrize("calibration", [None, "copula"])
    def test_neighbours_have_an_error_of_few_samples_too(self, n, calibration):
        knn, truth = ip.KNN(calibration=calibration), -math.log(1 - 0.8**2) / 2
        held = 0
        for seed in range(40):
            x, noise = normal(2, n, 1, seed=seed)
            found = estimate(knn, "mutual_information", x, 0.8 * x + 0.6 * noise)
            held += abs(float(found.value) - truth) <= 1.96 * float(found.stderr)
        assert held >= 36 - 4 * (calibration is None)  # neighbours alone are biased here

    def test_neighbours_have_an_error_for_a_rare_label(self):
        labels = torch.tensor([0] * 5 + [1] * 95)
        found = estimate(ip.KNN(), "mutual_information", normal(100, 1), labels)
        assert 0.005 < float(found.stderr) < 0.2
