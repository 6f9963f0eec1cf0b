import pytest
import torch

from infoprobe.estimators.critic.preparation import sizes, split, standardised
from tests.estimators.critic.cases import gaussians, quick
from tests.estimators.samples import generator


def test_the_split():
    assert sizes(10_000, 0.1, 0.2, "x") == (7000, 1000, 2000)
    assert sizes(1000, 0.25, 0.5, "x") == (250, 250, 500)
    assert sizes(100_000, 0.1, 0.2, "x") == (78_000, 2000, 20_000)
    x = torch.randn(1000, 2, generator=generator())
    parts = split([x], 0.1, 0.2, "x", generator())
    assert torch.cat(parts).sort().values.tolist() == list(range(1000))
    assert parts[0].tolist() != list(range(700))


class TestStandardised:
    def test_mean_and_deviation(self):
        x = 3 + 7 * torch.randn(1000, 2, generator=generator(), dtype=torch.float64)
        z = standardised(x, x[:500], "x")
        assert z.dtype == torch.float32
        expected = (x - x[:500].mean(0)) / x[:500].std(0)
        torch.testing.assert_close(z, expected.float())

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
        assert z[8].item() == pytest.approx((x[8] - x[10:].mean()).item() / x[10:].std().item())

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_any_scale(self, scale):
        x = torch.randn(100, 2, generator=generator(), dtype=torch.float64)
        z, expected = (standardised(t, t, "x") for t in (x * scale, x))
        torch.testing.assert_close(z, expected)

    def test_units_do_not_matter(self):
        x, y = gaussians(300, 2, 0.7, torch.float64)
        value = quick(steps=60).mutual_information(x, y)
        assert quick(steps=60).mutual_information(8 * x, y / 64) == value
