import pickle

import FrEIA.framework as ff
import FrEIA.modules as fm
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import infoprobe as ip
from infoprobe.models import (
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    ZeroPadding,
    celeba_inn,
    cifar10_inn,
    mnist_inn,
)

SHAPES = {mnist_inn: (1, 28, 28), cifar10_inn: (3, 32, 32), celeba_inn: (3, 156, 128)}
PARAMETERS = {mnist_inn: 1_121_192, cifar10_inn: 13_235_176, celeba_inn: 50_070_152}
ONE_SCALE = ["haar_down", "conv1", "conv2", "conv3", "flatten", "fc", "unflatten", "haar_up"]
NODES = {
    mnist_inn: ONE_SCALE,
    cifar10_inn: ONE_SCALE,
    celeba_inn: [
        *("haar_down1", "conv1", "conv2", "conv3", "haar_down2", "conv4", "conv5", "conv6"),
        *("flatten", "fc", "unflatten", "haar_up1", "haar_up2"),
    ],
}


def perturbed(module):
    """Moves a module away from its start as the identity."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.02)
    return module


@pytest.fixture
def model():
    """An autoencoder away from its start as the identity."""
    return perturbed(InvertibleAutoencoder(mnist_inn(), 20))


@pytest.fixture
def x():
    return torch.rand(6, 1, 28, 28)


@pytest.fixture(scope="module", params=[mnist_inn, cifar10_inn, celeba_inn])
def network(request):
    """A function that makes a network, such a network away from the identity, and images."""
    torch.manual_seed(0)
    make = request.param
    return make, perturbed(make()), torch.rand(1 if make is celeba_inn else 2, *SHAPES[make])


@pytest.mark.parametrize("make", SHAPES)
def test_it_starts_as_the_identity(make):
    inn, x = make(), torch.rand(2, *SHAPES[make])
    trainable = [p.numel() for p in inn.parameters() if p.requires_grad]
    assert sum(trainable) == PARAMETERS[make]
    with torch.no_grad():
        z, log_det = inn(x)
    assert torch.allclose(z, x, atol=1e-6)
    assert torch.allclose(log_det, torch.zeros(2), atol=1e-4)


def test_initial_weights_are_as_published():
    torch.manual_seed(0)
    inn = mnist_inn()
    subnet = inn.get_module_by_name("conv1").subnet1
    assert subnet[0].weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert subnet[0].bias.std().item() == pytest.approx(0.1, rel=0.3)
    assert not subnet[4].weight.any()
    assert not subnet[4].bias.any()


def test_it_is_a_bijection(network):
    _, inn, x = network
    with torch.no_grad():
        z, forward = inn(x)
        y, inverse = inn(z.clone(), rev=True)
    assert (z - x).abs().max() > 0.01
    assert (y - x).abs().max() <= 1e-5
    assert forward.abs().min() > 1
    assert torch.allclose(forward, -inverse, atol=1e-3)


# The published map in plain torch.

# Mean, left minus right, top minus bottom, diagonal: its own inverse.
HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


def haar_down(x):
    patches = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])
    return torch.einsum("kp,pnchw->nckhw", HAAR, patches).flatten(1, 2)


def haar_up(x):
    patches = torch.einsum("pk,nckhw->ncphw", HAAR, x.unflatten(1, (-1, 4)))
    n, c, _, h, w = patches.shape
    return patches.view(n, c, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c, 2 * h, 2 * w)


def conv_subnet(module, x):
    (w1, b1, w2, b2, w3, b3) = module.parameters()
    x = F.leaky_relu(F.conv2d(x, w1, b1, padding=1), 0.1)
    return F.conv2d(F.leaky_relu(F.conv2d(x, w2, b2, padding=1), 0.1), w3, b3)


def fc_subnet(module, x):
    (w1, b1, w2, b2) = module.parameters()
    return F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)


def glow(module):
    def of(subnet, x):
        return conv_subnet(subnet, x).chunk(2, 1)

    return (lambda x: of(module.subnet1, x)), (lambda x: of(module.subnet2, x))


def real_nvp(module):
    def of(i, x):
        s, t = (module.get_submodule(f"subnet_{kind}{i}") for kind in "st")
        return fc_subnet(s, x), fc_subnet(t, x)

    return (lambda x: of(1, x)), (lambda x: of(2, x))


def coupling(subnets, x):
    """Scales and shifts each half by functions of the other half, with scales within exp(+-1)."""
    first, second = subnets
    x1, x2 = x.chunk(2, 1)
    s2, t2 = second(x2)
    s2 = 0.636 * torch.atan(s2)
    y1 = s2.exp() * x1 + t2
    s1, t1 = first(y1)
    s1 = 0.636 * torch.atan(s1)
    y2 = s1.exp() * x2 + t1
    return torch.cat([y1, y2], 1), s1.flatten(1).sum(1) + s2.flatten(1).sum(1)


def textbook(inn, scales, x):
    part = inn.get_module_by_name
    log_det = 0
    for scale in range(scales):
        x = haar_down(x)
        for i in (1, 2, 3):
            x, added = coupling(glow(part(f"conv{3 * scale + i}")), x)
            log_det = log_det + added
    coarse = x.shape
    x, added = coupling(real_nvp(part("fc")), x.flatten(1))
    x = x.view(coarse)
    for _ in range(scales):
        x = haar_up(x)
    return x, log_det + added


def test_it_is_the_published_map(network):
    make, inn, x = network
    with torch.no_grad():
        z, log_det = inn(x)
        expected, expected_log_det = textbook(inn, 2 if make is celeba_inn else 1, x)
    assert torch.allclose(z, expected, atol=1e-5)
    assert torch.allclose(log_det, expected_log_det, rtol=1e-5, atol=1e-4)


def test_every_step_is_probed_both_ways(network):
    make, inn, x = network
    model = InvertibleAutoencoder(inn, 20)
    with torch.no_grad(), ip.probe(model, measures=[ip.Entropy(), ip.EntropyChange()]) as probe:
        model(x)
    rows = [row for row in probe.report().rows if row["measure"] == "entropy"]
    steps = ["input", *NODES[make], "output"]
    assert [(row["layer"], row["direction"]) for row in rows] == [
        *((step, "forward") for step in steps),
        ("bottleneck", "forward"),
        *((step, "inverse") for step in reversed(steps)),
    ]
    assert all(row["value"] is not None for row in rows)
    (bottleneck,) = (row for row in rows if row["layer"] == "bottleneck")
    assert (bottleneck["type"], bottleneck["d"]) == ("ZeroPadding", x[0].numel())
    total = probe.report().ledger().totals["forward"]["exact"]
    assert total == pytest.approx(inn(x)[1].mean().item(), rel=1e-5)


def test_gradients_reach_every_parameter(network):
    _, inn, x = network
    InvertibleAutoencoderLoss()(InvertibleAutoencoder(inn, 20), x).backward()
    assert all(p.grad.any() for p in inn.parameters() if p.requires_grad)
    inn.zero_grad()


# CIFAR-10 is left out: the comparison of its 3,072 numbers with autograd takes a minute.
@pytest.mark.parametrize("network", [mnist_inn, celeba_inn], indirect=True)
def test_its_verdict(network):
    make, inn, x = network
    check = ip.check_invertible(inn, x[:1])
    assert check.ok, check
    assert check.inversion_error <= 1e-5
    assert check.compared == (make is mnist_inn)


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


def test_zero_padding():
    z = torch.arange(1.0, 13).view(1, 3, 2, 2)
    padding = ZeroPadding(5, (3, 2, 2))
    y = padding(z)
    assert y.shape == z.shape
    assert y.flatten().tolist() == [1, 2, 3, 4, 5, *[0] * 7]
    assert torch.equal(padding(padding.code(z)), y)
    assert padding.rest(z).flatten().tolist() == list(range(6, 13))


@pytest.mark.parametrize("make", [mnist_inn, cifar10_inn])
def test_it_can_be_pickled(make):
    model, x = perturbed(InvertibleAutoencoder(make(), 20)), torch.rand(2, *SHAPES[make])
    with torch.no_grad():
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_zero_padding_does_not_mix_samples():
    for width in (1, 3, 4):
        with pytest.raises(ValueError, match="z: expected at least 5 entries per sample, got"):
            ZeroPadding(5, (12,))(torch.zeros(6, width))


def test_other_networks():
    source, condition = ff.InputNode(4), ff.ConditionNode(2)
    settings = {"subnet_constructor": nn.Linear}
    coupling = ff.Node(source, fm.GLOWCouplingBlock, settings, conditions=condition)
    conditional = ff.GraphINN([source, condition, coupling, ff.OutputNode(coupling)])
    sequence = ff.SequenceINN(4)
    sequence.append(fm.GLOWCouplingBlock, **settings)
    for network in (nn.Linear(4, 4), sequence, conditional, 20):
        with pytest.raises(TypeError, match="inn: expected a FrEIA GraphINN with one input"):
            InvertibleAutoencoder(network, 2)


def test_shapes_that_do_not_fit(model):
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 1, 28, 28\), got \(3, 784\)"):
        model(torch.rand(3, 784))
    with pytest.raises(ValueError, match=r"code: expected shape \(n, 20\), got \(3, 21\)"):
        model.decode(torch.rand(3, 21))
    for size in (0, 785):
        with pytest.raises(ValueError, match=rf"expected an integer .*got {size}"):
            InvertibleAutoencoder(mnist_inn(), size)
    with pytest.raises(TypeError, match=r"size: expected an integer, got 2\.0"):
        ZeroPadding(2.0, (784,))
    with pytest.raises(ValueError, match="size: expected an integer between 1 and 784, got 785"):
        ZeroPadding(785, (1, 28, 28))


def test_exports():
    for name in ip.models.__all__:
        assert getattr(ip.models, name).__doc__
