"""What the tests of streams share."""

import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import H, Mixes

STREAMING = [ip.Entropy(H), ip.Divergence(H), ip.Divergence(H, "input")]


ROWS = [
    ip.Entropy(ip.Histogram(20, "own"), samples=12),
    ip.MutualInformation(ip.Histogram(4, over="samples"), samples=7, project=2),
]


def equal_states(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return a == b


class Turns(nn.Module):
    """Skips its second layer where the batch is large, and its third where it is small."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = Mixes(), Mixes(), Mixes()

    def forward(self, x):
        x = self.first(x)
        x = self.second(x) if float(x.abs().max()) < 1e3 else x
        return self.third(x) if float(x.abs().max()) > 1e-3 else x


def model_of():
    return nn.Sequential(Mixes(), nn.Hardtanh(), Mixes())


def data(n=100, width=3, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
