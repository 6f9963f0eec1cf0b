"""What the tests of measures share."""

import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import Mixes

PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)


# Seven ways to split 120 samples.
SPLITS = [[120], [60, 60], [1] * 120, [7] * 17 + [1], [119, 1], [50, 70], [30, 1, 89]]


class Spy:
    """An estimator that remembers the rows it was given."""

    allows_pairs = True

    def __init__(self):
        self.given = []

    def entropy(self, x):
        self.given.append((x,))
        return 0.0

    def kl_divergence(self, p, q):
        return self.mutual_information(p, q)

    def mutual_information(self, x, y):
        self.given.append((x, y))
        return 0.0


class Square(nn.Module):
    def forward(self, x):
        return x * x.abs()


def model_of():
    """Of layers that round each sample alike, whatever batch it comes in."""
    return nn.Sequential(Mixes(), Square(), Mixes())


def data(n=120, width=4):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(2))


def measured(model, x, measures, splits=(120,), target=None, **options):
    with ip.probe(model, measures=measures, **options) as probe, torch.no_grad():
        targets = None if target is None else target.split(list(splits))
        for i, batch in enumerate(x.split(list(splits))):
            if targets is not None:
                probe.target(targets[i])
            model(batch)
    return probe.report().rows


def activations(model, x):
    """The input of the model, and the output of each layer."""
    tensors = [x]
    with torch.no_grad():
        for layer in model:
            tensors.append(layer(tensors[-1]))
    return tensors


def row_bytes(probe):
    """What all rows in a probe's state take."""
    return sum(
        values.numel() * values.element_size()
        for call in probe.state_dict()["record"]["calls"]
        for kept in call["kept"]
        if kept.get("samples") is not None
        for values in [kept["samples"]["values"]]
    )


OF_ENTROPY = [
    PAPER,
    ip.Histogram(50, "minmax"),
    ip.Histogram(50, "own", "units", correction="grassberger"),
    ip.Histogram(8, "dyadic", "units"),
    ip.Histogram(8, "minmax", "samples"),
    ip.Histogram(3, (-2, 2), "samples", outside="clip"),
    ip.KNN(),
    ip.KNN(k=2, metric="chebyshev", calibration="gaussian"),
    ip.Gaussian(),
    ip.MatrixRenyi(),
]


OF_DIVERGENCE = [
    PAPER,
    ip.Histogram(20, "minmax", pseudocount=0.5),
    ip.Histogram(20, "own", "units", pseudocount=1),
    ip.Histogram(4, "minmax", "samples"),
    ip.KNN(),
    ip.KNN(calibration="gaussian"),
    ip.Gaussian(),
]


OF_INFORMATION = [
    ip.KNN(),
    ip.KNN(variant=2),
    ip.Histogram(4, over="samples"),
    ip.Histogram(4, "own", over="samples"),
    ip.Histogram(6, "minmax"),
    ip.Histogram(6, "own", over="units"),
    ip.Gaussian(),
    ip.MatrixRenyi(),
]
