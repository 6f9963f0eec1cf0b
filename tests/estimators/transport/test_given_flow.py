"""Flows of other libraries as the map of a transport."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip

GAUSSIAN = math.log(2 * math.pi * math.e)  # the entropy of two standard normal numbers
N = 1200


def normal(n=N, d=2, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def curved(n=N, seed=0):
    x = normal(n, seed=seed)
    return torch.stack([x[:, 0], x[:, 1] + x[:, 0] ** 2], 1)


def zuko_flow():
    zuko = pytest.importorskip("zuko")
    return zuko.flows.MAF(2, transforms=2, hidden_features=(8,)), False


def freia_flow():
    import FrEIA.framework as Ff
    import FrEIA.modules as Fm

    flow = Ff.SequenceINN(2)
    for _ in range(2):
        flow.append(Fm.AllInOneBlock, subnet_constructor=nn.Linear)
    return flow, False


def nflows_flow():
    transforms = pytest.importorskip("nflows.transforms")
    return transforms.MaskedAffineAutoregressiveTransform(2, 8), False


def normflows_flow():
    nf = pytest.importorskip("normflows")
    blocks = [nf.flows.AffineCouplingBlock(nf.nets.MLP([1, 8, 2], init_zeros=False))]
    return nf.NormalizingFlow(nf.distributions.DiagGaussian(2), blocks), True


class Affine(nn.Module):
    """A map of nobody's library, which may be wrong."""

    def __init__(self, off=0.0, back=1.0):
        super().__init__()
        self.off, self.back = off, back
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.scale, x.new_full((len(x),), 2 * math.log(2) + self.off)

    def inverse(self, z):
        return z / self.scale * self.back, z.new_full((len(z),), -2 * math.log(2) - self.off)


@pytest.mark.parametrize("make", [zuko_flow, freia_flow, nflows_flow, normflows_flow])
def test_flows_of_every_library(make):
    torch.manual_seed(0)
    flow, rev = make()
    flow.train()
    before = {name: x.clone() for name, x in flow.state_dict().items()}
    trained = [p.requires_grad for p in flow.parameters()]
    estimator = ip.GivenFlow(flow, rev=rev)
    assert float(estimator.entropy(normal())) == pytest.approx(GAUSSIAN, abs=0.12)
    assert flow.training
    assert [p.requires_grad for p in flow.parameters()] == trained
    assert all(torch.equal(before[name], x) for name, x in flow.state_dict().items())


@pytest.mark.parametrize("name", ["NAF", "CNF", "NICE"])
def test_flows_whose_log_determinants_are_gradients_and_others(name):
    zuko = pytest.importorskip("zuko")
    torch.manual_seed(0)
    settings = {} if name == "CNF" else {"transforms": 1}
    flow = getattr(zuko.flows, name)(2, hidden_features=(8,), **settings)
    value = ip.GivenFlow(flow, folds=2).entropy(normal(400))
    assert float(value) == pytest.approx(GAUSSIAN, abs=0.25)
    assert not value.requires_grad


def test_the_map_is_taken_as_it_is():
    x = normal()
    estimator = ip.GivenFlow(Affine(), residual=ip.KNN(), folds=2)
    report = estimator.report("entropy", x)
    assert report.transported["x"].d == 2
    # Nearest neighbours follow a common scale, so the map changes nothing.
    halves = [ip.KNN().entropy(part) for part in (x[::2], x[1::2])]
    assert float(report.value) == pytest.approx(float(sum(halves)) / 2, abs=0.1)
    bound = estimator.upper_bound(x)
    nll = (4 * x.double().square().sum(1) / 2 + math.log(2 * math.pi) - 2 * math.log(2)).mean()
    assert float(bound.value) == pytest.approx(float(nll))


def test_the_other_measures():
    x, y = curved(), curved(seed=1)
    estimator = ip.GivenFlow(Affine(), residual=ip.KNN(), folds=2)
    shifted = ip.GivenFlow(Affine(), folds=2).kl_divergence(
        normal(500, seed=2), normal(500, seed=3) + 1
    )
    assert float(shifted) == pytest.approx(1, abs=0.25)
    assert float(estimator.mutual_information(x, y)) == pytest.approx(0, abs=0.1)
    assert float(estimator.total_correlation(normal())) == pytest.approx(0, abs=0.1)
    with pytest.raises(ValueError, match=r"^flow: expected a flow for samples of 3 features"):
        ip.GivenFlow(freia_flow()[0]).entropy(normal(d=3))


@pytest.mark.parametrize("make", [zuko_flow, freia_flow, nflows_flow, normflows_flow])
def test_new_flows_of_every_library_are_trained(make):
    settings = {"rev": make is normflows_flow, "learning_rate": 1e-2, "folds": 2}
    bounds = [
        float(ip.GivenFlow(lambda d: make()[0], steps=steps, **settings).upper_bound(x).value)
        for x in (curved() * torch.tensor([1.0, 0.2]) + 3,)
        for steps in (1, 75)
    ]
    assert bounds[1] < bounds[0] - 0.02


def test_permutations_that_flows_draw_from_numpy():
    estimator = ip.GivenFlow(lambda d: freia_flow()[0], steps=10, folds=2)
    values = []
    for seed in range(4):  # Of two features, there are two permutations.
        np.random.seed(seed)
        state = np.random.get_state()[1].tolist()
        values.append(float(estimator.entropy(curved())))
        assert np.random.get_state()[1].tolist() == state
    assert len(set(values)) == 1


def test_new_flows_are_trained_for_each_fold():
    zuko = pytest.importorskip("zuko")

    def make(d):
        return zuko.flows.NSF(d, transforms=2, hidden_features=(16,))

    state = torch.get_rng_state()
    estimator = ip.GivenFlow(make, steps=60, learning_rate=1e-2, folds=2)
    report = estimator.report("entropy", curved())
    assert torch.equal(torch.get_rng_state(), state)
    assert float(report.value) == pytest.approx(GAUSSIAN, abs=0.15)
    assert report.transported["x"].gain > 0.15
    assert len(report.transported["x"].maps) == 2
    assert estimator.report("entropy", curved()).value == report.value


def test_maps_that_are_none_are_refused():
    x = normal()
    with pytest.raises(ValueError, match=r"^flow: expected a map whose inverse leads back"):
        ip.GivenFlow(Affine(back=1.1)).entropy(x)
    with pytest.raises(ValueError, match=r"^flow: expected correct log-determinants, got 1\.48"):
        ip.GivenFlow(Affine(off=0.1)).entropy(x)
    with pytest.raises(ValueError, match=r"^flow: .*log-determinants, got .* and none"):
        ip.GivenFlow(nn.Linear(2, 2)).entropy(x)
    with pytest.raises(TypeError, match=r"^flow: expected a function .* returned a int"):
        ip.GivenFlow(lambda d: d).entropy(x)
    with pytest.raises(TypeError, match=r"^flow: expected a flow, or a function"):
        ip.GivenFlow("NSF")
    with pytest.raises(ValueError, match=r"^steps: expected an integer"):
        ip.GivenFlow(Affine(), steps=0)


def test_training_that_diverges_says_so():
    class Explodes(Affine):
        def forward(self, x):
            z, log_det = super().forward(x)
            return z * (self.scale / 2) ** 2 + (self.scale - 2).log() * 0, log_det

    with pytest.raises(FloatingPointError, match=r"training diverged\. Pass a lower learn"):
        ip.GivenFlow(lambda d: Explodes(), steps=5).entropy(normal())


def test_in_a_probe():
    model, flow = nn.Linear(3, 2), Affine()
    measure = ip.Entropy(ip.GivenFlow(flow), samples=300)
    with ip.probe(model, measures=measure) as probe, torch.no_grad():
        model(normal(300, 3))
    (row,) = probe.report().rows
    assert row["estimator"].startswith("GivenFlow(Affine, residual=KNN(")
    assert row["stderr"] > 0
    again = ip.probe(model, measures=ip.Entropy(ip.GivenFlow(Affine()), samples=300))
    again.load_state_dict(probe.state_dict())
    assert again.report().rows[0]["value"] == row["value"]
    with torch.no_grad():
        flow.scale.mul_(2)
    other = ip.probe(model, measures=ip.Entropy(ip.GivenFlow(flow), samples=300))
    with pytest.raises(ValueError, match="measures"):
        other.load_state_dict(probe.state_dict())
