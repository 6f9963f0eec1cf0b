import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import (
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    ZeroPadding,
    mnist_inn,
)


@pytest.fixture
def model():
    """An autoencoder away from its identity start."""
    torch.manual_seed(0)
    model = InvertibleAutoencoder(mnist_inn(), 20)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.02)
    return model


@pytest.fixture
def x():
    return torch.rand(6, 1, 28, 28)


def test_parameters():
    trainable = [p.numel() for p in mnist_inn().parameters() if p.requires_grad]
    assert sum(trainable) == 1_121_192


def test_it_starts_as_the_identity(x):
    with torch.no_grad():
        z, log_det = mnist_inn()(x)
    assert torch.allclose(z, x, atol=1e-6)
    assert torch.allclose(log_det, torch.zeros(6), atol=1e-4)


def test_initial_weights_are_as_published():
    torch.manual_seed(0)
    inn = mnist_inn()
    subnet = inn.get_module_by_name("conv1").subnet1
    assert subnet[0].weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert subnet[0].bias.std().item() == pytest.approx(0.1, rel=0.3)
    assert not subnet[4].weight.any()
    assert not subnet[4].bias.any()


def test_it_is_a_bijection(model, x):
    with torch.no_grad():
        z, forward = model.inn(x)
        y, inverse = model.inn(z.clone(), rev=True)
    assert (z - x).abs().max() > 0.01
    assert torch.allclose(x, y, atol=1e-5)
    assert torch.allclose(forward, -inverse, atol=1e-3)


def test_the_log_determinant_is_that_of_the_jacobian(model):
    inn = model.inn.double()
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad():
        _, log_det = inn(x)
    jacobian = torch.func.jacrev(lambda x: inn(x)[0].flatten())(x).reshape(784, 784)
    assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(log_det.item())


def test_the_autoencoder_is_its_parts(model, x):
    with torch.no_grad():
        z, _ = model.inn(x)
        code = model.encode(x)
        assert torch.equal(code, z.flatten(1)[:, :20])
        padded = torch.zeros(6, 784)
        padded[:, :20] = code
        assert torch.equal(model.bottleneck(z).flatten(1), padded)
        expected, _ = model.inn(padded.reshape(6, 1, 28, 28), rev=True)
        assert torch.equal(model(x), expected)
        assert torch.equal(model.decode(code), expected)
        reconstruction, latent = model(x, return_latent=True)
        assert torch.equal(reconstruction, expected)
        assert torch.equal(latent, z)


def test_nothing_is_lost_without_a_bottleneck(x):
    model = InvertibleAutoencoder(mnist_inn(), 784)
    with torch.no_grad():
        assert torch.allclose(model(x), x, atol=1e-5)
        loss = InvertibleAutoencoderLoss()(model, x)
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_the_loss_is_as_published(model, x):
    with torch.no_grad():
        z, _ = model.inn(x)
        expected = (model(x) - x).abs().mean() + z.flatten(1)[:, 20:].square().mean()
        assert InvertibleAutoencoderLoss()(model, x).item() == pytest.approx(expected.item())


def test_inputs_are_left_as_they_were(model, x):
    code = torch.randn(6, 20)
    before = x.clone(), code.clone()
    model(x)
    model.encode(x)
    model.decode(code)
    assert torch.equal(x, before[0])
    assert torch.equal(code, before[1])


def test_shapes_that_do_not_fit(model):
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 1, 28, 28\), got \(3, 784\)"):
        model(torch.rand(3, 784))
    with pytest.raises(ValueError, match=r"code: expected shape \(n, 20\), got \(3, 21\)"):
        model.decode(torch.rand(3, 21))
    for size in (0, 785):
        with pytest.raises(ValueError, match=rf"expected an integer .*got {size}"):
            InvertibleAutoencoder(mnist_inn(), size)
    with pytest.raises(TypeError, match=r"size: expected an integer, got 2\.0"):
        ZeroPadding(2.0)


def test_exports():
    for name in ip.models.__all__:
        assert getattr(ip.models, name).__doc__
