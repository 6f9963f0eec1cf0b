"""What single samples contribute: the mean is the estimate, the values those of the densities."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

import infoprobe as ip


def normal(n, rho=0.8, seed=0):
    """Pairs (n, 1) of standard normal variables with a correlation."""
    x, noise = torch.randn(2, n, 1, generator=torch.Generator().manual_seed(seed)).double()
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def density_ratio(x, y, rho):
    """The pointwise information of such pairs."""
    joint = MultivariateNormal(
        torch.zeros(2).double(), torch.tensor([[1, rho], [rho, 1.0]]).double()
    )
    alone = Normal(0.0, 1.0)
    return joint.log_prob(torch.cat([x, y], 1)) - (alone.log_prob(x) + alone.log_prob(y)).squeeze(
        1
    )


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, Y, Z = drawn(400, 2), drawn(400, 2, seed=2), drawn(400, 1, seed=3)
LABELS = (X[:, 0] > 0.3).long()
SYMBOLS = torch.randint(3, (400,), generator=torch.Generator().manual_seed(4))
OVER_SAMPLES = ip.Histogram(bins=4, over="samples")


@pytest.mark.parametrize(
    ("estimator", "measure", "tensors"),
    [
        (ip.KNN(), "entropy", (X,)),
        (ip.KNN(calibration="gaussian"), "entropy", (X,)),
        (ip.KNN(calibration="copula"), "entropy", (X,)),
        (ip.KNN(), "cross_entropy", (X, Y[:300])),
        (ip.KNN(), "kl_divergence", (X[:300], Y)),
        (ip.KNN(), "mutual_information", (X, X[:, :1] + Z)),
        (ip.KNN(variant=2), "mutual_information", (X, X[:, :1] + Z)),
        (ip.KNN(calibration="copula"), "mutual_information", (X, X[:, :1] + Z)),
        (ip.KNN(), "mutual_information", (X, LABELS)),
        (ip.KNN(), "mutual_information", (LABELS, X)),
        (ip.KNN(), "mutual_information", (X[:, :1].round(), X[:, :1].round() + Z)),
        (ip.KNN(), "conditional_mutual_information", (X, Y + Z, Z)),
        (ip.KNN(), "total_correlation", (torch.cat([X, X + Y], 1),)),
        (OVER_SAMPLES, "entropy", (X,)),
        (OVER_SAMPLES, "mutual_information", (X[:, :1], X[:, :1] + Z)),
        (ip.Histogram(over="samples", correction="grassberger"), "entropy", (SYMBOLS,)),
        (
            ip.Histogram(over="samples", correction="grassberger"),
            "mutual_information",
            (SYMBOLS, LABELS),
        ),
    ],
)
def test_the_mean_is_the_estimate(estimator, measure, tensors):
    local = ip.pointwise(measure, *tensors, estimator=estimator)
    assert local.shape == (len(tensors[0]),)
    assert local.dtype == torch.float64
    assert local.isfinite().all()
    assert local.std() > 0.01
    assert float(local.mean()) == pytest.approx(
        float(getattr(estimator, measure)(*tensors)), abs=1e-12
    )


class TestTruth:
    def test_means_of_parts_are_those_of_the_density_ratio(self):
        x, y = normal(8000)
        local, truth = ip.pointwise("mutual_information", x, y), density_ratio(x, y, 0.8)
        parts = truth.argsort().chunk(8)
        found = torch.stack([local[part].mean() for part in parts])
        true = torch.stack([truth[part].mean() for part in parts])
        assert (found - true).abs().max() < 0.15
        # From pairs that speak against the dependence to those that speak for it.
        assert true.max() - true.min() > 1.5

    def test_surprisals_are_those_of_the_density(self):
        x, _ = normal(8000)
        local, truth = ip.pointwise("entropy", x), -Normal(0.0, 1.0).log_prob(x).squeeze(1)
        for part in truth.argsort().chunk(8):
            assert float(local[part].mean()) == pytest.approx(float(truth[part].mean()), abs=0.1)

    def test_the_noise_of_single_samples_is_as_documented(self):
        x, _ = normal(8000)
        truth = -Normal(0.0, 1.0).log_prob(x).squeeze(1)
        for k in (3, 12):
            noise = (ip.pointwise("entropy", x, estimator=ip.KNN(k)) - truth).std()
            assert float(noise) == pytest.approx(1 / math.sqrt(k), rel=0.25)

    @pytest.mark.filterwarnings("ignore::infoprobe.TrustWarning")  # of so few samples
    def test_symbols(self):
        x = torch.tensor([0, 0, 0, 1])
        y = torch.tensor([5, 5, 7, 7])
        histogram = ip.Histogram(over="samples")
        local = ip.pointwise("entropy", x, estimator=histogram)
        assert torch.allclose(local.exp(), torch.tensor([4 / 3, 4 / 3, 4 / 3, 4]).double())
        # p(0, 5) = 1/2, p(0, 7) = p(1, 7) = 1/4, p(0) = 3/4, p(5) = 1/2.
        local = ip.pointwise("mutual_information", x, y, estimator=histogram, base=2)
        expected = torch.tensor([4 / 3, 4 / 3, 2 / 3, 2]).double().log2()
        assert torch.allclose(local, expected)


class TestChoice:
    def test_it_is_that_of_the_plain_functions(self):
        for x, y in [(X, X[:, :1] + Z), (X, LABELS), (SYMBOLS, LABELS)]:
            local = ip.pointwise("mutual_information", x, y)
            value = ip.choose("mutual_information", x, y).estimator.mutual_information(x, y)
            assert float(local.mean()) == pytest.approx(float(value), abs=1e-12)

    def test_densities_where_a_bin_is_of_values_and_not_of_samples(self):
        assert torch.equal(
            ip.pointwise("kl_divergence", X, Y),
            ip.pointwise("kl_divergence", X, Y, estimator=ip.KNN()),
        )


def test_a_bad_number_is_told():
    x = torch.cat([drawn(200, 1), 1e-9 * drawn(200, 1, seed=5)], 1).sum(1, keepdim=True)
    with pytest.warns(ip.TrustWarning, match="deterministic|thin|information"):
        ip.pointwise("mutual_information", x, x.tanh())


class TestRefusals:
    def test_an_estimator_without(self):
        with pytest.raises(TypeError, match=r"expected one that has pointwise.*got Gaussian"):
            ip.pointwise("entropy", X, estimator=ip.Gaussian())

    def test_pooled_values(self):
        with pytest.raises(ValueError, match=r"expected 'samples'.*got 'values'"):
            ip.pointwise("entropy", X, estimator=ip.Histogram())

    def test_samples_that_would_be_left_out(self):
        histogram = ip.Histogram(over="samples", range=(-1, 1), outside="drop")
        with pytest.raises(ValueError, match=r"got 'drop'.*Leave those samples out beforehand"):
            ip.pointwise("entropy", X, estimator=histogram)

    def test_measures(self):
        with pytest.raises(ValueError, match=r"measure.*got 'js_divergence'"):
            ip.pointwise("js_divergence", X, Y, estimator=ip.KNN())
        with pytest.raises(ValueError, match=r"measure.*got 'information'"):
            ip.pointwise("information", X, Y)
        with pytest.raises(TypeError, match="expected the arguments x, y"):
            ip.pointwise("mutual_information", X)
        with pytest.raises(ValueError, match="x, y"):
            ip.pointwise("mutual_information", SYMBOLS, LABELS[:7])
