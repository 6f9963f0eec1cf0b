import pytest
import torch

from infoprobe.models import MNISTAutoencoder


@pytest.mark.parametrize("bottleneck", [1, 20, 64])
def test_parameters(bottleneck):
    model = MNISTAutoencoder(bottleneck)
    assert sum(p.numel() for p in model.parameters()) == 1_133_072 + 257 * bottleneck


def test_the_autoencoder_is_its_parts():
    model, x = MNISTAutoencoder(20), torch.rand(4, 1, 28, 28)
    code = model.encode(x)
    assert code.shape == (4, 20)
    assert code.min() < 0  # the code is linear
    y = model(x)
    assert torch.equal(model.decode(code), y)
    assert y.shape == x.shape
    assert y.abs().max() < 1


def test_initial_weights_are_as_published():
    weight, bias = MNISTAutoencoder(20).encoder.fc1.linear.parameters()
    assert weight.abs().max().item() == pytest.approx((6 / (784 + 512)) ** 0.5, rel=1e-3)
    assert (bias == 0.01).all()


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 1, 28, 28\), got \(3, 28, 28\)"):
        MNISTAutoencoder(20)(torch.rand(3, 28, 28))
    with pytest.raises(ValueError, match="bottleneck: expected an integer at least 1, got 0"):
        MNISTAutoencoder(0)
