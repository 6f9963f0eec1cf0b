"""What the codes of a variational bottleneck cost, in a probe."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import GaussianBottleneck, InvertibleAutoencoder, MNISTAutoencoder, mnist_inn


def classical():
    return MNISTAutoencoder(GaussianBottleneck(5))


def invertible():
    return InvertibleAutoencoder(mnist_inn(), GaussianBottleneck(5))


@pytest.fixture(params=[classical, invertible])
def model(request):
    torch.manual_seed(0)
    return request.param()


@pytest.fixture
def images():
    return torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def rate(probe, layer="gaussian"):
    (row,) = (
        row
        for row in probe.report().rows
        if row["measure"] == "rate" and row["layer"] == layer and row["direction"] == "forward"
    )
    return row


def run(model, batches, **settings):
    with torch.no_grad(), ip.probe(model, measures=ip.Rate(), **settings) as probe:
        for x in batches:
            model(x)
    return probe


@pytest.mark.parametrize("training", [True, False])
def test_mean_and_standard_error(model, images, training):
    model.train(training)
    with torch.no_grad():
        _, latent = model(images, return_latent=True)
        expected = model.gaussian.rate(latent).double()
    row = rate(run(model, [images]))
    assert row["value"] == pytest.approx(expected.mean().item(), rel=1e-6)
    assert row["stderr"] == pytest.approx(expected.std().item() / math.sqrt(24), rel=1e-5)
    assert (row["n"], row["d"], row["unit"], row["kind"]) == (24, 5, "nats", "exact")
    assert (row["type"], row["findings"]) == ("GaussianBottleneck", [])


def test_batches_and_merged_probes_are_as_one(model, images):
    whole = rate(run(model, [images]))
    split = run(model, images.split(7))
    merged = run(model, images[:10].split(3))
    merged.merge(run(model, [images[10:]], seed=1))
    restored = ip.probe(model, measures=ip.Rate())
    restored.load_state_dict(split.state_dict())
    restored.remove()
    for probe in (split, merged, restored):
        row = rate(probe)
        assert row["n"] == 24
        assert row["value"] == pytest.approx(whole["value"], rel=1e-6)
        assert row["stderr"] == pytest.approx(whole["stderr"], rel=1e-5)


def test_one_row_a_bottleneck(model, images):
    report = run(model, [images]).report()
    valued = [row["layer"] for row in report.rows if row["value"] is not None]
    assert valued == ["gaussian"]
    others = [row for row in report.rows if row["value"] is None]
    assert len(others) > 8
    for row in others:
        assert "the layer is no ip.models.GaussianBottleneck." in row["findings"][0]
    assert list(report.scalars()) == ["gaussian/forward/rate"]
    assert "E KL(q(z|x)||p(z))" in repr(report)
    assert report.plot("rate").get_ylabel() == "E KL(q(z|x)||p(z)) (nats)"


def test_any_model_may_have_them(images):
    class TwoCodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = GaussianBottleneck(3), GaussianBottleneck(2)

        def forward(self, x):
            z = self.first(x.flatten(1))
            return self.second(torch.cat([z, 0 * z], 1)), self.first(x=2 * x)

    model = TwoCodes().eval()
    report = run(model, [images]).report()
    x = images.flatten(1)
    expected = {
        "first/forward/rate": model.first.rate(x).mean(),
        "second/forward/rate": model.second.rate(nn.functional.pad(x[:, :3], (0, 3))).mean(),
        "first#1/forward/rate": model.first.rate(2 * x).mean(),
    }
    found = report.scalars()
    assert found == pytest.approx({key: value.item() for key, value in expected.items()})


def test_outputs_and_gradients_are_bit_for_bit_the_same(model, images):
    results = []
    for measures in ([], [ip.Rate(), ip.Entropy(), ip.EntropyChange()]):
        torch.manual_seed(0)
        model.zero_grad()
        with ip.probe(model, measures=measures):
            y = model(images)
            y.square().mean().backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([y.detach(), *gradients, torch.get_rng_state()])
    assert all(map(torch.equal, *results))


def test_beside_the_exact_changes_of_entropy(images):
    model = invertible()
    with torch.no_grad(), ip.probe(model, measures=[ip.Rate(), ip.EntropyChange()]) as probe:
        model(images)
    report = probe.report()
    assert rate(probe)["value"] > 0
    assert report.ledger().totals["inverse"]["exact"] == pytest.approx(0, abs=1e-4)


def test_over_steps(model, images):
    with torch.no_grad(), ip.probe(model, "gaussian", ip.Rate()).track(every=2) as probe:
        for scale in (1.0, 5.0, 0.5):
            model(scale * images)
    rows = probe.report().rows
    assert [row["step"] for row in rows] == [0, 2]
    assert rows[0]["value"] != rows[1]["value"]


def test_half_precision(images):
    model = classical().bfloat16()
    row = rate(run(model, [images.bfloat16()]))
    assert row["value"] > 0
    with torch.no_grad():
        _, latent = model(images.bfloat16(), return_latent=True)
    expected = model.gaussian.rate(latent.float()).mean().item()
    assert row["value"] == pytest.approx(expected, rel=1e-6)


def test_calls_without_a_value_are_left_out(images):
    model = classical()
    with torch.no_grad(), ip.probe(model, "gaussian", ip.Rate()) as probe:
        model(images)
        expected = rate(probe)["value"]
        with pytest.warns(RuntimeWarning, match=r"'gaussian' .* expected numbers, got 1 of 24"):
            model(images.index_fill(0, torch.tensor(3), torch.nan))
    row = rate(probe)
    assert row["value"] == expected
    assert row["findings"][0].startswith(
        "1 call is left out. In pass 2, what the layer reports could not be measured: expected "
        "numbers"
    )


def test_under_transforms_of_torch_func():
    model = GaussianBottleneck(2).eval()
    with ip.probe(model, measures=ip.Rate()) as probe:
        torch.func.grad(lambda x: model(x).sum())(torch.ones(3, 4))
        assert rate(probe, "(model)")["value"] == pytest.approx(
            model.rate(torch.ones(1, 4)).item()
        )
        torch.func.vmap(model)(torch.ones(2, 3, 4))
    assert rate(probe, "(model)")["n"] == 3


def test_repr():
    assert repr(ip.Rate()) == "Rate()"
    assert ip.Rate() == ip.Rate()
