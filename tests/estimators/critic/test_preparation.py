import pytest
import torch

from infoprobe.estimators.critic.preparation import sizes, split, standardised
from tests.estimators.critic.cases import gaussians, quick
from tests.estimators.samples import generator


def test_the_split():
    assert sizes(10_000, 0.1, 0.2, "x") == (7000, 1000, 2000)
    assert sizes(1000, 0.25, 0.5, "x") == (250, 250, 500)
    assert sizes(100_000, 0.1, 0.2, "x") == (78_000, 2000, 20_000)
    parts = split(1000, 0.1, 0.2, "x", generator())
    assert torch.cat(parts).sort().values.tolist() == list(range(1000))
    assert parts[0].tolist() != list(range(700))


class TestStandardised:
    def test_mean_and_deviation(self):
        x = 3 + 7 * torch.randn(1000, 2, generator=generator(), dtype=torch.float64)
        z = standardised(x, x[:501], "x")
        assert z.dtype == torch.float32
        median, (first, third) = x[:501].median(0).values, x[:501].sort(0).values[[125, 375]]
        tamed = torch.asinh((x - median) / (third - first))
        expected = (tamed - tamed[:501].mean(0)) / tamed[:501].std(0)
        torch.testing.assert_close(z, expected.float())

    def test_long_tails_are_kept(self):
        x = torch.randn(5000, 1, generator=generator()) / torch.rand(
            5000, 1, generator=generator()
        )
        z = standardised(x, x[:2000], "x")
        assert (z.abs() < 5.0).double().mean() > 0.998
        assert torch.equal(z.argsort(0), x.argsort(0)) or (z.abs() == 5.0).any()

    def test_constant_features(self):
        x = torch.randn(10, 3, generator=generator())
        x[:, 1] = 0.1
        x[:5, 2] = 0.1
        z = standardised(x, x[:5], "x")
        assert (z[:, 0] != 0).all()
        assert (z[:, 1:] == 0).all()

    def test_outliers(self):
        x = torch.randn(1000, 1, generator=generator())
        x[7] = 1e9
        z = standardised(x, x[10:], "x")
        assert z[7].item() == 5.0
        others = torch.cat([x[:7], x[8:]])
        torch.testing.assert_close(z[8:], standardised(others, x[10:], "x")[7:])

    def test_features_that_are_mostly_one_value(self):
        x = torch.zeros(1000, 1)
        x[::10] = torch.rand(100, 1, generator=generator()) + 1
        z = standardised(x, x, "x")
        assert z.std().item() == pytest.approx(1)
        assert len(z.unique()) == 101

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_any_scale(self, scale):
        x = torch.randn(100, 2, generator=generator(), dtype=torch.float64)
        z, expected = (standardised(t, t, "x") for t in (x * scale, x))
        torch.testing.assert_close(z, expected)

    def test_units_do_not_matter(self):
        x, y = gaussians(300, 2, 0.7, torch.float64)
        value = quick(steps=60).mutual_information(x, y)
        assert quick(steps=60).mutual_information(8 * x, y / 64) == value
