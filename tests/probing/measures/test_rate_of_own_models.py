"""The rate of models that have no bottleneck of ours, and of priors that are not standard."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

import infoprobe as ip
from infoprobe.models import GaussianBottleneck

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


class Encoder(nn.Module):
    """Returns a mean and a log-variance, as most encoders do."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_variance = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.mean(x), self.log_variance(x)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = Encoder(), nn.Linear(3, 6)

    def forward(self, x):
        mean, log_variance = self.encoder(x)
        return self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean))


def gaussian(returned):
    mean, log_variance = returned
    return Normal(mean, (log_variance / 2).exp())


def row_of(measure, model=None, layers="encoder", x=X):
    model = VAE() if model is None else model
    with torch.no_grad(), ip.probe(model, layers, measure) as probe:
        for part in x.split(20):
            model(part)
    (row,) = probe.report().rows
    return row


def assert_is(row, rates):
    rates = rates.double()
    assert row["value"] == pytest.approx(rates.mean().item(), rel=1e-5)
    assert row["stderr"] == pytest.approx(rates.std().item() / math.sqrt(len(rates)), rel=1e-5)
    assert row["findings"] == []


def bottleneck_rates(scale=1.0, prior_mean=0.0):
    mean, log_variance = (x.detach() for x in VAE().encoder(X))
    ratio = log_variance.exp() / scale**2
    return 0.5 * (((mean - prior_mean) / scale) ** 2 + ratio - 1 - ratio.log()).sum(1)


def test_an_encoder_that_returns_mean_and_log_variance():
    assert_is(row_of(ip.Rate(gaussian)), bottleneck_rates())


@pytest.mark.parametrize(
    "prior",
    [
        Normal(0.5, 2.0),
        Normal(torch.full((3,), 0.5), torch.full((3,), 2.0)),
        Independent(Normal(torch.full((3,), 0.5), torch.full((3,), 2.0)), 1),
    ],
)
@pytest.mark.parametrize("independent", [False, True])
def test_other_priors_in_every_way_of_writing_them(prior, independent):
    def posterior(returned):
        return Independent(gaussian(returned), 1) if independent else gaussian(returned)

    assert_is(row_of(ip.Rate(posterior, prior)), bottleneck_rates(2.0, 0.5))


def test_a_prior_for_our_own_bottleneck():
    model = nn.Sequential(nn.Linear(6, 6), GaussianBottleneck(3))
    with torch.no_grad():
        mean, log_variance = model[0](X).chunk(2, 1)
    prior = Laplace(0.0, 1.0)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(1.0, 2.0)).sum(1)
    assert_is(row_of(ip.Rate(prior=Normal(1.0, 2.0)), model, "1"), expected)
    row = row_of(ip.Rate(prior=Normal(0.0, 1.0)), model, "1")
    assert row["value"] == pytest.approx(row_of(ip.Rate(), model, "1")["value"], rel=1e-5)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), prior).sum(1)
    assert_is(row_of(ip.Rate(prior=prior), model, "1"), expected)


def test_codes_that_depend_on_each_other():
    matrix = torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [-0.3, 0.2, 1]])

    def posterior(returned):
        return MultivariateNormal(returned[0], scale_tril=matrix)

    mean = VAE().encoder(X)[0].detach()
    covariance = matrix @ matrix.T
    expected = 0.5 * (mean.square().sum(1) + covariance.trace() - 3 - covariance.logdet())
    assert_is(row_of(ip.Rate(posterior)), expected)


def test_codes_that_are_not_gaussian():
    def posterior(returned):
        return Bernoulli(logits=returned[0])

    prior = Bernoulli(0.5)
    p = VAE().encoder(X)[0].detach().double().sigmoid()
    expected = math.log(2) * 3 + (p * p.log() + (1 - p) * (1 - p).log()).sum(1)
    assert_is(row_of(ip.Rate(posterior, prior)), expected)


@pytest.mark.parametrize(
    ("measure", "problem"),
    [
        (ip.Rate(lambda r: Bernoulli(logits=r[0])), "expected a prior for codes of Bernoulli"),
        (ip.Rate(lambda r: r[0]), "expected a function that returns a distribution"),
        (
            ip.Rate(
                gaussian,
                MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.zeros(2), 1.0)),
            ),
            "closed form, got MixtureSameFamily for codes of Normal",
        ),
        (ip.Rate(lambda r: Normal(r[0].sum(), 1.0)), "expected one number for each of 20"),
    ],
)
def test_what_has_no_rate_says_why(measure, problem):
    with pytest.warns(RuntimeWarning):
        row = row_of(measure)
    assert row["value"] is None
    assert problem in row["findings"][0]


def test_layers_without_a_bottleneck_point_to_the_way():
    row = row_of(ip.Rate())
    assert row["value"] is None
    assert "ip.Rate(posterior=...) must say" in row["findings"][0]


def test_wrong_arguments_are_refused_at_once():
    with pytest.raises(TypeError, match=r"^posterior: expected a function"):
        ip.Rate(3)
    with pytest.raises(TypeError, match=r"^prior: expected a distribution"):
        ip.Rate(gaussian, "normal")


def test_the_function_calls_modules_unseen_and_the_model_is_left_alone():
    model = VAE()

    def posterior(returned):
        return Normal(model.encoder(X[: len(returned[0])])[0], 1.0)

    torch.manual_seed(3)
    expected = model(X)
    torch.manual_seed(3)
    with ip.probe(model, measures=[ip.Rate(posterior), ip.Entropy()], layers="encoder*") as probe:
        y = model(X)
    assert torch.equal(y, expected)
    assert {row["call"] for row in probe.report().rows} == {0}


def test_two_functions_are_two_measures_and_states_know_them():
    def other(returned):
        return Normal(returned[0], 1.0)

    model = VAE()
    with torch.no_grad(), ip.probe(model, "encoder", [ip.Rate(gaussian), ip.Rate(other)]) as probe:
        model(X)
    first, second = probe.report().rows
    assert first["value"] != second["value"]
    again = ip.probe(model, "encoder", [ip.Rate(gaussian), ip.Rate(other)])
    again.load_state_dict(probe.state_dict())
    assert [row["value"] for row in again.report().rows] == [first["value"], second["value"]]
    assert repr(ip.Rate(gaussian, Normal(0.0, 1.0))) == (
        "Rate(posterior=gaussian, prior=Normal(loc: 0.0, scale: 1.0))"
    )
