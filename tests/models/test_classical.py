import pytest
import torch
import torch.nn.functional as F

from infoprobe.models import CelebAAutoencoder, CIFAR10Autoencoder, MNISTAutoencoder

FAMILY = [MNISTAutoencoder, CIFAR10Autoencoder, CelebAAutoencoder]
SHAPES = {
    MNISTAutoencoder: (1, 28, 28),
    CIFAR10Autoencoder: (3, 32, 32),
    CelebAAutoencoder: (3, 218, 178),
}
PARAMETERS = {
    MNISTAutoencoder: (1_133_072, 257),
    CIFAR10Autoencoder: (12_549_379, 18_433),
    CelebAAutoencoder: (55_612_163, 40_961),
}
family = pytest.mark.parametrize("cls", FAMILY)


@family
@pytest.mark.parametrize("bottleneck", [1, 20, 64, 1024])
def test_parameters(cls, bottleneck):
    with torch.device("meta"):  # takes no memory
        model = cls(bottleneck)
    fixed, each = PARAMETERS[cls]
    assert sum(p.numel() for p in model.parameters()) == fixed + each * bottleneck


@family
def test_the_autoencoder_is_its_parts(cls):
    model, x = cls(20), torch.rand(2, *SHAPES[cls])
    with torch.no_grad():
        code = model.encode(x)
        assert code.shape == (2, 20)
        assert code.min() < 0  # the code is linear
        y = model(x)
        assert torch.equal(model.decode(code), y)
        reconstruction, latent = model(x, return_latent=True)
    assert torch.equal(reconstruction, y)
    assert torch.equal(latent, code)
    assert y.shape == x.shape
    assert y.abs().max() < 1


def test_the_layers_of_cifar10_are_as_published():
    model, x = CIFAR10Autoencoder(20), torch.rand(2, 3, 32, 32)
    p = [(w, b) for w, b in zip(*[iter(model.parameters())] * 2, strict=True)]
    with torch.no_grad():
        y = F.relu(F.conv2d(F.relu(F.conv2d(x, *p[0])), *p[1]))
        y = F.max_pool2d(y, 2)
        y = F.relu(F.conv2d(F.relu(F.conv2d(y, *p[2])), *p[3]))
        y = F.relu(F.conv2d(F.max_pool2d(y, 2), *p[4]))
        code = F.linear(y.flatten(1), *p[5])
        y = F.relu(F.linear(code, *p[6])).view(2, 1024, 3, 3)
        y = F.relu(F.conv_transpose2d(y, *p[7])).repeat_interleave(2, 2).repeat_interleave(2, 3)
        y = F.relu(F.conv_transpose2d(F.relu(F.conv_transpose2d(y, *p[8])), *p[9]))
        y = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
        y = torch.tanh(F.conv_transpose2d(F.relu(F.conv_transpose2d(y, *p[10])), *p[11]))
        assert torch.allclose(model.encode(x), code, atol=1e-6)
        assert torch.allclose(model(x), y, atol=1e-6)


def test_the_layers_of_celeba_are_as_published():
    model, x = CelebAAutoencoder(20), torch.rand(1, 3, 218, 178)
    p = [(w, b) for w, b in zip(*[iter(model.parameters())] * 2, strict=True)]
    paddings = [0, 1, (0, 1), 0, 0]
    with torch.no_grad():
        y = x
        for layer, padding in zip(p[:5], paddings, strict=True):
            y = F.relu(F.conv2d(y, *layer, stride=2, padding=padding))
        code = F.linear(y.flatten(1), *p[5])
        y = F.relu(F.linear(code, *p[6])).view(1, 1024, 5, 4)
        for layer, padding in zip(p[7:], reversed(paddings), strict=True):
            y = F.conv_transpose2d(F.relu(y), *layer, stride=2, padding=padding)
        assert torch.allclose(model.encode(x), code, atol=1e-6)
        assert torch.allclose(model(x), torch.tanh(y), atol=1e-6)


@pytest.mark.parametrize("cls", FAMILY[1:])
def test_names(cls):
    with torch.device("meta"):
        model = cls(20)
    pools, upsamples = ([], []) if cls is CelebAAutoencoder else (["pool"], ["upsample"])
    names = list(dict(model.encoder.named_children()))
    convs = [f"conv{i}" for i in range(1, 6)]
    assert [name for name in names if name[:-1] not in pools] == [*convs, "flatten", "code"]
    names = list(dict(model.decoder.named_children()))
    expected = ["fc", "unflatten", *convs[:4], "output"]
    assert [name for name in names if name[:-1] not in upsamples] == expected


@family
def test_gradients_reach_every_parameter(cls):
    model, x = cls(20), torch.rand(1, *SHAPES[cls])
    (model(x) - x).abs().mean().backward()
    assert all(p.grad.any() for p in model.parameters())


def test_initial_weights_are_as_published():
    weight, bias = MNISTAutoencoder(20).encoder.fc1.linear.parameters()
    assert weight.abs().max().item() == pytest.approx((6 / (784 + 512)) ** 0.5, rel=1e-3)
    assert (bias == 0.01).all()
    model = CIFAR10Autoencoder(20)
    weight, bias = model.encoder.code.parameters()
    assert weight.abs().max().item() == pytest.approx((6 / (9216 + 20)) ** 0.5, rel=1e-3)
    assert (bias == 0.01).all()
    weight, bias = model.encoder.conv2.conv.parameters()  # torch's own
    assert weight.abs().max().item() == pytest.approx((64 * 9) ** -0.5, rel=1e-3)
    assert bias.std() > 0.01


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 1, 28, 28\), got \(3, 28, 28\)"):
        MNISTAutoencoder(20)(torch.rand(3, 28, 28))
    with pytest.raises(ValueError, match="bottleneck: expected an integer at least 1, got 0"):
        MNISTAutoencoder(0)
    with torch.device("meta"):
        celeba, cifar10 = CelebAAutoencoder(2), CIFAR10Autoencoder(2)
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 3, 218, 178\), got \(1, 3, 156"):
        celeba.encode(torch.rand(1, 3, 156, 128))
    with pytest.raises(ValueError, match=r"code: expected shape \(n, 2\), got \(1, 3\)"):
        cifar10.decode(torch.rand(1, 3))
    with pytest.raises(TypeError, match=r"bottleneck: expected an integer, got 2\.0"):
        CIFAR10Autoencoder(2.0)
