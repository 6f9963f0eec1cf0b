"""What a model, its process and this thread are like, to be compared before and after."""

import copy

from torch import nn
from torch.nn.modules import module as torch_module

import infoprobe as ip
from infoprobe.taps import calls
from tests.probing.helpers import MEASURES

EVERYTHING = [
    *MEASURES,
    ip.MutualInformation(ip.KNN(), "target"),
    ip.MutualInformation(ip.KNN(), "input", project=2),
    ip.Entropy(ip.Gaussian(), samples=20),
]
GLOBAL_HOOKS = [name for name in vars(torch_module) if name.startswith("_global_")]


class Affine(nn.Module):
    """With an inverse that is called by its name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(x), x.new_zeros(len(x))

    def inverse(self, z):
        return (z - self.layer.bias) @ self.layer.weight.inverse().T, z.new_zeros(len(z))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.layer(x)
        y += x
        return ip.tap(self.act(y) * 1, "sum")


def network():
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), Residual(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


def snapshot(model):
    """All that a module has in itself, its hooks and flags above all, and torch's global hooks."""
    modules = [
        {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in module.__dict__.items()
        }
        for module in model.modules()
    ]
    return modules, {name: copy.copy(getattr(torch_module, name)) for name in GLOBAL_HOOKS}


def equal(a, b):
    """Whether two snapshots are of the very same objects."""
    (modules, hooks), (modules_, hooks_) = a, b
    return hooks == hooks_ and all(
        x.keys() == y.keys() and all(_same(x[key], y[key]) for key in x)
        for x, y in zip(modules, modules_, strict=True)
    )


def _same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(a[key] is b[key] for key in a)
    return a is b


def quiet():
    """Whether nothing of a probe is at work in this thread."""
    return not calls.running.calls


def entropy(report, layer, call=0):
    key = f"{layer}#{call}" if call else layer
    return report.scalars()[f"{key}/forward/entropy"]
