"""Maps for tests, and what the textbook says of them."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip

VECTOR, IMAGE = (6,), (4, 4, 4)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def mixture(d, seed=0):
    """A matrix that mixes d features, with a condition number of some tens."""
    return normal(d, d, seed=seed) / math.sqrt(d) + torch.eye(d, dtype=torch.float64)


def log_det(matrix):
    return torch.linalg.slogdet(matrix)[1].item()


def autograd(function, x):
    """log|det J| at each sample by torch's own Jacobian, one at a time."""
    values = []
    for row in x:
        matrix = torch.autograd.functional.jacobian(lambda x: function(x[None]).flatten(), row)
        values.append(log_det(matrix.reshape(row.numel(), row.numel())))
    return torch.tensor(values, dtype=torch.float64)


def perturbed(module, scale=0.1, seed=0):
    """The module with every trainable parameter moved."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return module


def dense(d, out):
    return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, out))


def convolutional(d, out):
    return nn.Sequential(nn.Conv2d(d, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, out, 1))


def graph(d, *blocks, **settings):
    """A graph of FrEIA's with nodes named first, second, ..."""
    import FrEIA.framework as ff

    nodes = [ff.InputNode(d, name="in")]
    for name, (block, given) in zip(("first", "second", "third"), blocks, strict=False):
        nodes.append(ff.Node(nodes[-1], block, given, name=name))
    return ff.GraphINN([*nodes, ff.OutputNode(nodes[-1], name="out")], **settings)


def real_nvp(d, blocks=3, seed=0):
    import FrEIA.modules as fm

    torch.manual_seed(seed)
    block = (fm.RNVPCouplingBlock, {"subnet_constructor": dense})
    return perturbed(graph(d, *[block] * blocks), seed=seed).double()


class Pair(nn.Module):
    """A map with its inverse, and the log-determinants that it reports."""

    def __init__(self, scale=2.0, forward=None, inverse=None):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.reports = forward, inverse

    def forward(self, x):
        return self.scale * x, self.report(x, 0)

    def inverse(self, z):
        return z / self.scale, self.report(z, 1)

    def report(self, x, way):
        report = self.reports[way]
        exact = (-1) ** way * x[0].numel() * self.scale.log().expand(len(x))
        return exact if report is None else report(exact)


def agree(module, x, forward, c=None, tolerance=1e-4):
    """Compares a map with autograd of what the library itself runs, in both directions."""
    row = x[:1]
    condition = None if c is None else c[:1]
    exact = autograd(forward, row).item()
    found = ip.entropy_change(module, row, c=condition).value.item()
    assert found == pytest.approx(exact, abs=tolerance)
    check = ip.check_invertible(module, x, c=c)
    assert check.ok, check.verdict
    assert check.compared
