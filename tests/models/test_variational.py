import math

import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

import infoprobe as ip
from infoprobe.models import (
    CIFAR10Autoencoder,
    GaussianBottleneck,
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    MNISTAutoencoder,
    VariationalLoss,
    cifar10_inn,
    fit,
    mnist_inn,
)


def classical(size):
    return MNISTAutoencoder(GaussianBottleneck(size))


def invertible(size):
    return InvertibleAutoencoder(mnist_inn(), GaussianBottleneck(size))


families = pytest.mark.parametrize("build", [classical, invertible])


def divergence(mean, log_variance):
    """Returns the divergence from the standard normal, summed over the code."""
    q = Normal(mean, (0.5 * log_variance).exp())
    return kl_divergence(q, Normal(torch.zeros_like(mean), 1)).sum(1)


class TestGaussianBottleneck:
    def test_codes_are_drawn_in_training_and_means_otherwise(self):
        bottleneck = GaussianBottleneck(3)
        x = torch.randn(1, 6).expand(100_000, 6)
        z = bottleneck(x)
        assert z.shape == (100_000, 3)
        assert torch.allclose(z.mean(0), x[0, :3], atol=0.03)
        assert torch.allclose(z.var(0).log(), x[0, 3:], atol=0.03)
        assert torch.allclose(z.double().T.cov().diag(), z.double().var(0))
        correlations = z.T.corrcoef() - torch.eye(3)
        assert correlations.abs().max() < 0.02
        state = torch.get_rng_state()
        assert torch.equal(bottleneck.eval()(x), x[:, :3])
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_global_generator_decides(self):
        bottleneck, x = GaussianBottleneck(3), torch.randn(5, 6)
        draws = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            draws.append(bottleneck(x))
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    @pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 5.0])
    def test_the_rate_is_the_divergence_from_the_prior(self, scale):
        x = scale * torch.randn(50, 14, dtype=torch.float64)
        expected = divergence(x[:, :7], x[:, 7:])
        rate = GaussianBottleneck(7).rate(x)
        assert rate.shape == (50,)
        assert torch.allclose(rate, expected, rtol=1e-9, atol=1e-14)
        assert (rate > 0).all()
        single = GaussianBottleneck(7).rate(x.float())
        assert torch.allclose(single.double(), expected, rtol=1e-5, atol=1e-6 * scale)

    def test_the_rate_by_monte_carlo(self):
        bottleneck, x = GaussianBottleneck(2), torch.tensor([[0.5, -1.0, 0.3, -2.0]])
        z = bottleneck(x.expand(200_000, 4))
        q = Normal(x[0, :2], (0.5 * x[0, 2:]).exp())
        ratio = (q.log_prob(z) - Normal(0, 1).log_prob(z)).sum(1)
        assert bottleneck.rate(x).item() == pytest.approx(ratio.mean().item(), abs=0.02)

    def test_the_prior_itself_costs_nothing(self):
        assert GaussianBottleneck(4).rate(torch.zeros(3, 8)).tolist() == [0, 0, 0]

    def test_it_takes_the_first_entries_of_a_latent(self):
        bottleneck, z = GaussianBottleneck(3).eval(), torch.randn(2, 4, 2, 2)
        mean, log_variance = bottleneck.posterior(z)
        assert torch.equal(mean, z.flatten(1)[:, :3])
        assert torch.equal(log_variance, z.flatten(1)[:, 3:6])
        assert torch.equal(bottleneck(z), mean)
        assert torch.equal(bottleneck.rate(z), bottleneck.rate(z.flatten(1)[:, :6]))

    def test_gradients(self):
        bottleneck, x = GaussianBottleneck(3), torch.randn(4, 6, requires_grad=True)
        (rates,) = torch.autograd.grad(bottleneck.rate(x).sum(), x)
        mean, log_variance = bottleneck.posterior(x)
        assert torch.allclose(rates, torch.cat([mean, (log_variance.exp() - 1) / 2], 1))
        z = bottleneck(x)
        (codes,) = torch.autograd.grad(z.sum(), x)
        assert torch.allclose(codes, torch.cat([torch.ones(4, 3), (z - mean) / 2], 1))

    def test_half_precision(self):
        x = torch.randn(5, 40).bfloat16()
        rate = GaussianBottleneck(20).rate(x)
        assert torch.equal(rate, GaussianBottleneck(20).rate(x.float()))

    def test_it_has_no_parameters(self):
        assert not GaussianBottleneck(3).state_dict()
        assert repr(GaussianBottleneck(3)) == "GaussianBottleneck(size=3)"

    def test_bad_input(self):
        with pytest.raises(ValueError, match="size: expected an integer at least 1, got 0"):
            GaussianBottleneck(0)
        for use in (GaussianBottleneck(3), GaussianBottleneck(3).rate):
            with pytest.raises(ValueError, match=r"at least 6 numbers .* got shape \(2, 5\)"):
                use(torch.zeros(2, 5))


class TestModels:
    def test_parameters(self):
        trainable = sum(p.numel() for p in invertible(20).parameters() if p.requires_grad)
        assert trainable == 1_121_192  # mean and log-variance are entries of the latent
        # The encoder outputs mean and log-variance, the decoder takes one code.
        plain, head = 1_133_072 + 257 * 20, 129 * 20
        assert sum(p.numel() for p in classical(20).parameters()) == plain + head

    @families
    def test_the_autoencoder_is_its_parts(self, build):
        model, x = build(20).eval(), torch.rand(4, 1, 28, 28)
        with torch.no_grad():
            reconstruction, latent = model(x, return_latent=True)
            code = model.encode(x)
            assert code.shape == (4, 20)
            assert torch.equal(code, latent.flatten(1)[:, :20])
            assert torch.equal(model.decode(code), reconstruction)
            assert torch.equal(model(x), reconstruction)
        assert reconstruction.shape == x.shape

    @families
    def test_codes_are_drawn_in_training(self, build):
        model, x = build(20), torch.rand(4, 1, 28, 28)
        with torch.no_grad():
            assert not torch.equal(model(x), model(x))
            assert not torch.equal(model.encode(x), model.encode(x))
            torch.manual_seed(0)
            y = model(x)
            torch.manual_seed(0)
            assert torch.equal(model.decode(model.encode(x)), y)

    def test_every_model_can_be_variational(self):
        x = torch.rand(2, 3, 32, 32)
        for model in (
            CIFAR10Autoencoder(GaussianBottleneck(8)),
            InvertibleAutoencoder(cifar10_inn(), GaussianBottleneck(8)),
        ):
            loss = VariationalLoss()(model, x)
            loss.backward()
            assert loss.isfinite()

    def test_a_code_as_wide_as_half_the_latent(self):
        model, x = invertible(392).eval(), torch.rand(2, 1, 28, 28)
        with torch.no_grad():  # the network is the identity at the start
            expected = torch.cat([x.flatten(1)[:, :392], torch.zeros(2, 392)], 1).view_as(x)
            assert torch.allclose(model(x), expected, atol=1e-6)
        with pytest.raises(ValueError, match=r"bottleneck: expected a size of at most 392,.* 393"):
            invertible(393)


class TestVariationalLoss:
    @families
    def test_it_is_the_negative_bound(self, build):
        model, x = build(20), torch.rand(4, 1, 28, 28)
        with torch.no_grad():
            torch.manual_seed(0)
            reconstruction, latent = model(x, return_latent=True)
            log_likelihood = Laplace(reconstruction, 0.2).log_prob(x).flatten(1).sum(1)
            rate = divergence(*model.gaussian.posterior(latent))
            torch.manual_seed(0)
            loss = VariationalLoss(beta=3, scale=0.2)(model, x)
        expected = (-log_likelihood + 3 * rate).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_it_bounds_the_density(self):
        """If the decoder ignores the code, the bound is tight at rate 0."""
        model, x = classical(2), torch.rand(1, 1, 28, 28)
        for layer in (model.encoder.code, model.decoder.output.linear):
            for parameter in layer.parameters():
                torch.nn.init.zeros_(parameter)
        expected = x.sum() / 0.1 + 784 * math.log(0.2)
        assert VariationalLoss()(model, x).item() == pytest.approx(expected.item(), rel=1e-5)

    @families
    def test_gradients_reach_every_parameter(self, build):
        model, x = build(20), torch.rand(4, 1, 28, 28)
        if build is invertible:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter, std=0.02)
        VariationalLoss()(model, x).backward()
        assert all(p.grad.any() for p in model.parameters() if p.requires_grad)

    @families
    def test_it_trains(self, build):
        torch.manual_seed(0)
        x = torch.zeros(32, 1, 28, 28)
        x[:16, :, 8:20, 8:20] = 1
        model, loss = build(4), VariationalLoss()
        history = fit(model, x, loss=loss, epochs=5, batch_size=8, progress=False)
        assert history[-1] < history[0] - 30

    def test_more_weight_lowers_the_rate(self):
        x = torch.rand(64, 1, 28, 28)
        rates = []
        for beta in (0, 10):
            torch.manual_seed(0)
            model = classical(4)
            loss = VariationalLoss(beta=beta)
            fit(model, x, loss=loss, epochs=10, batch_size=16, progress=False)
            with torch.no_grad():
                rates.append(model.gaussian.rate(model(x, return_latent=True)[1]).mean().item())
        assert rates[1] < rates[0]

    def test_the_plain_loss_is_for_plain_codes(self):
        x = torch.rand(2, 1, 28, 28)
        for model in (invertible(20), classical(20), MNISTAutoencoder(20)):
            with pytest.raises(TypeError, match=r"model: .*use ip\.models\.VariationalLoss"):
                InvertibleAutoencoderLoss()(model, x)

    def test_bad_input(self):
        x = torch.rand(2, 1, 28, 28)
        for model in (MNISTAutoencoder(3), torch.nn.Identity()):
            with pytest.raises(TypeError, match=r"model: expected one with a Gaussian code, got"):
                VariationalLoss()(model, x)
        with pytest.raises(ValueError, match="beta: expected a finite number >= 0, got -1"):
            VariationalLoss(beta=-1)
        with pytest.raises(ValueError, match="scale: expected a positive number, got 0"):
            VariationalLoss(scale=0)
        assert repr(VariationalLoss()) == "VariationalLoss(beta=1.0, scale=0.1)"


@families
def test_the_account_of_a_variational_bottleneck(build):
    model, x = build(20).eval(), torch.rand(8, 1, 28, 28)
    if build is classical:
        with pytest.raises(TypeError, match="expected an invertible network"):
            ip.bottleneck_account(model, x)
    else:
        account = ip.bottleneck_account(model, x)
        assert (account.kept, account.dropped) == (20, 764)
        with torch.no_grad():
            assert account.l1 == pytest.approx((model(x) - x).abs().mean().item(), rel=1e-5)
