"""Hard and clean cases on the rows of probes: what a layer does is known, and so is the truth."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import FrEIA.framework as Ff
import FrEIA.modules as Fm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trust_data import COPULA, GAUSS, GAUSSIAN, KNN, of_channel, scales

import infoprobe as ip
from infoprobe.rows import Row

Layer = Callable[[Tensor], Tensor]
GAUSSIAN_FIT, TRANSPORT, BINS = ip.Gaussian(), ip.Gaussianization(), ip.Histogram(pseudocount=1)
ALL = (KNN, COPULA, GAUSSIAN_FIT, TRANSPORT)


@dataclass(frozen=True)
class RowCase:
    """A row of a probe whose truth is known.

    Attributes:
        kind: What goes wrong.
        name: Where.
        truth: What the value should be.
        row: Gives the row.
    """

    kind: str
    name: str
    truth: float
    row: Callable[[torch.Generator], Row]


class Map(nn.Module):
    """A layer that computes a function."""

    def __init__(self, function: Layer) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """The function of the input."""
        return self.function(x)


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The output of the second call."""
        out: Tensor = self.layer(self.layer(x))
        return out


def noisy(width: float) -> Layer:
    return lambda x: x + width * torch.randn_like(x)


def row_of(
    model: nn.Module | Layer,
    x: Tensor,
    measure: Any,
    target: Tensor | None = None,
    *,
    batch: int = 100,
    epochs: int = 1,
    training: bool = True,
    layer: str | None = None,
    track: dict[str, int] | None = None,
) -> Row:
    """The last row of a probe on a model, whose samples are shuffled in each epoch."""
    model = model if isinstance(model, nn.Module) else Map(model)
    model.train(training)
    torch.manual_seed(12345)  # other noise than the generator's
    with ip.probe(model, layer, measure) as probe, torch.no_grad():
        if track:
            probe.track(**track)
        for _ in range(epochs):
            order = torch.randperm(len(x)) if epochs > 1 else torch.arange(len(x))
            for some in torch.split(order, batch):
                if target is not None:
                    probe.target(target[some])
                model(x[some])
    return probe.report().rows[-1]


def draws(n: int, d: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, d, generator=g)


def name_of(estimator: Any) -> str:
    calibration = getattr(estimator, "calibration", None)
    return f"{type(estimator).__name__}{f' {calibration}' if calibration else ''}"


def each(
    kind: str,
    name: str,
    truth: float,
    estimators: Iterable[Any],
    row: Callable[[Any, torch.Generator], Row],
) -> list[RowCase]:
    """A case with several estimators."""
    return [
        RowCase(kind, f"{name}, {name_of(e)}", truth, functools.partial(row, e))
        for e in estimators
    ]


def of_scale(scale: float, shift: float = 0.0) -> float:
    """KL(N(0, 1) || N(shift, scale^2))."""
    return math.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5


def of_noise(width: float, d: int) -> float:
    return d / 2 * math.log(1 + 1 / width**2)


def clusters(n: int, k: int, apart: float, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, k, (n,), generator=g)
    x = draws(n, d, g)
    x[:, 0] += apart * labels
    return x, labels


def _layers() -> list[RowCase]:
    kind, entropy, minus = "layers", ip.Entropy, -math.inf

    def layer(name: str, f: nn.Module | Layer, d: int, truth: float) -> list[RowCase]:
        return each(kind, name, truth, ALL, lambda e, g: row_of(f, draws(1500, d, g), entropy(e)))

    matrix = torch.linalg.qr(draws(3, 3, torch.Generator().manual_seed(7))).Q
    wide = draws(5, 2, torch.Generator().manual_seed(3))
    return [
        *layer("orthogonal", lambda x: x @ matrix, 3, 3 * GAUSSIAN),
        *layer("orthogonal in half precision", lambda x: (x @ matrix).bfloat16(), 3, 3 * GAUSSIAN),
        *layer(
            "scales of 1e-3 to 1e3", lambda x: x * torch.tensor([1e-3, 1, 1e3]), 3, 3 * GAUSSIAN
        ),
        *layer("2 into 5", lambda x: x @ wide.T, 2, minus),
        *layer("ReLU", torch.relu, 3, minus),
        *layer(
            "leaky ReLU", lambda x: F.leaky_relu(x, 0.01), 3, 3 * (GAUSSIAN + math.log(0.01) / 2)
        ),
        *layer("dropout", nn.Dropout(0.3), 3, minus),
        *layer("BatchNorm", nn.BatchNorm1d(2, affine=False), 2, 2 * GAUSSIAN),
        *layer("RMSNorm of 8", nn.RMSNorm(8), 8, minus),
        *layer("unit length of 32", F.normalize, 32, minus),
        *layer("softmax", lambda x: x.softmax(1), 5, minus),
    ]


def _divergences() -> list[RowCase]:
    kind, estimators = "KL of a layer", (KNN, GAUSS, GAUSSIAN_FIT, TRANSPORT)

    def layer(
        name: str, f: Layer, n: int, d: int, truth: float, of: Iterable[Any] = estimators
    ) -> list[RowCase]:
        return each(
            kind, name, truth, of, lambda e, g: row_of(f, draws(n, d, g), ip.Divergence(e))
        )

    def binned(name: str, f: Layer, x: Callable[[torch.Generator], Tensor], truth: float) -> Any:
        return each(kind, name, truth, [BINS], lambda e, g: row_of(f, x(g), ip.Divergence(e)))

    def outlier(g: torch.Generator) -> Tensor:
        return torch.cat([draws(4000, 1, g), torch.tensor([[1e6]])])

    return [
        *layer("1.3 x + 0.2, d=2", lambda x: 1.3 * x + 0.2, 2000, 2, 2 * of_scale(1.3, 0.2)),
        *layer("x + 5, d=2", lambda x: x + 5, 2000, 2, 25.0),
        *layer("identity, d=64", lambda x: x.clone(), 500, 64, 0, [GAUSSIAN_FIT, GAUSS]),
        *layer("1.1 x, d=64", lambda x: 1.1 * x, 500, 64, 64 * of_scale(1.1), [GAUSSIAN_FIT]),
        *layer(
            "x + noise, d=64", noisy(0.5), 500, 64, 64 * of_scale(math.sqrt(1.25)), [GAUSSIAN_FIT]
        ),
        *layer("ReLU, d=2", torch.relu, 2000, 2, math.inf),
        *binned("1.5 x", lambda x: 1.5 * x, lambda g: draws(4000, 1, g), of_scale(1.5)),
        *binned("1.5 x and an outlier", lambda x: 1.5 * x, outlier, of_scale(1.5)),
        *binned("1000 x", lambda x: 1000 * x, lambda g: draws(4000, 1, g), of_scale(1000.0)),
        *binned("x + 5", lambda x: x + 5, lambda g: draws(60, 1, g), 12.5),
    ]


def _targets() -> list[RowCase]:
    kind, target = "target", ip.MutualInformation
    bins = ip.Histogram(16, over="samples")

    def symbols(g: torch.Generator) -> tuple[Tensor, Tensor]:
        labels, other = torch.randint(0, 10, (2, 2000), generator=g)
        keeps = torch.rand(2000, generator=g) < 0.8
        return torch.where(keeps, labels, other).unsqueeze(1).float(), labels

    def parity(g: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randint(0, 2, (2000, 3), generator=g).float() * 2 - 1
        keeps = torch.rand(2000, generator=g) < 0.9
        return x, torch.where(keeps, x.prod(1), -x.prod(1)).long()

    def separated(form: Layer) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
        def drawn(g: torch.Generator) -> tuple[Tensor, Tensor]:
            x, labels = clusters(2000, 10, 10.0, 2, g)
            return x, form(labels)

        return drawn

    def alike(g: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens = draws(100, 2, g)[:, None] + 0.1 * torch.randn(100, 20, 2, generator=g)
        return tokens, torch.randint(0, 2, (100,), generator=g)

    def few(n: int, d: int, k: int) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
        return lambda g: (draws(n, d, g), torch.randint(0, k, (n,), generator=g))

    def known(name: str, truth: float, draw: Any, of: Any = (KNN,), f: Any = Tensor.clone) -> Any:
        def row(estimator: Any, g: torch.Generator, **options: Any) -> Row:
            x, y = draw(g)
            select = "tokens" if x.dim() > 2 else None
            measure = target(estimator, "target", select=select)
            return row_of(f, x, measure, y, batch=10 if select else 100, **options)

        return name, truth, of, row

    again = known("", 0, few(500, 16, 3), (KNN,))[3]
    return [
        *each(kind, *known("ten separate labels", math.log(10), separated(torch.clone))),
        *each(kind, *known("the same as numbers", math.log(10), separated(Tensor.float))),
        *each(
            kind,
            *known(
                "the same in a row of ten", math.log(10), separated(lambda x: F.one_hot(x).float())
            ),
        ),
        *each(kind, *known("a channel of ten symbols", of_channel(10, 0.8), symbols, (KNN, bins))),
        *each(kind, *known("noisy parity of 3 signs", 0.3681, parity, (KNN, bins))),
        *each(kind, *known("nothing of 64 units", 0, few(1000, 64, 5))),
        *each(kind, *known("nothing of 40 samples", 0, few(40, 3, 2))),
        *each(kind, *known("tokens alike, a label for each text", 0, alike, (KNN, bins))),
        RowCase(kind, "nothing, three epochs", 0, lambda g: again(KNN, g, epochs=3)),
        RowCase(
            kind,
            "nothing, three epochs with dropout",
            0,
            lambda g: row_of(
                nn.Dropout(),
                draws(500, 16, g),
                target(KNN, "target"),
                torch.randint(0, 3, (500,), generator=g),
                epochs=3,
            ),
        ),
        RowCase(
            kind,
            "nothing, windows of 16",
            0,
            lambda g: row_of(
                Map(Tensor.clone),
                draws(160, 2, g),
                target(KNN, "target"),
                torch.randint(0, 2, (160,), generator=g),
                batch=16,
                track={"every": 2},
            ),
        ),
    ]


def _noise() -> list[RowCase]:
    kind, of, infinite = "noise", (KNN, COPULA, GAUSSIAN_FIT), math.inf

    def layer(name: str, f: Any, d: int, truth: float, reference: str = "input") -> list[RowCase]:
        return each(
            kind,
            name,
            truth,
            of,
            lambda e, g: row_of(f, draws(2000, d, g), ip.MutualInformation(e, reference)),
        )

    return [
        *layer("noise of 0.5", noisy(0.5), 2, of_noise(0.5, 2)),
        *layer("noise of 20, d=5", noisy(20.0), 5, of_noise(20, 5)),
        *layer("noise, then tanh", nn.Sequential(Map(noisy(0.5)), nn.Tanh()), 2, of_noise(0.5, 2)),
        *layer("tanh alone", nn.Sequential(Map(noisy(0.5)), nn.Tanh()), 2, infinite, "previous"),
        *layer("dropout", nn.Dropout(0.3), 2, infinite),
        *layer("a layer used twice", Twice(Map(noisy(0.5))), 2, of_noise(math.sqrt(0.5), 2)),
    ]


def _bins() -> list[RowCase]:
    kind, width = "bins", 2.0**-6

    def entropy(n: int, epochs: int = 1) -> Callable[[torch.Generator], Row]:
        return lambda g: row_of(Tensor.clone, draws(n, 1, g), ip.Entropy(), epochs=epochs)

    of_width = GAUSSIAN - math.log(width)
    return [
        RowCase(kind, "default entropy of 5 values", of_width, entropy(5)),
        RowCase(kind, "default entropy of 60 values", of_width, entropy(60)),
        RowCase(kind, "default entropy of 60 values, 4 epochs", of_width, entropy(60, 4)),
    ]


def _total_correlations() -> list[RowCase]:
    kind, of, infinite = "total correlation", ALL, math.inf

    def layer(name: str, f: Any, draw: Any, truth: float) -> list[RowCase]:
        return each(kind, name, truth, of, lambda e, g: row_of(f, draw(g), ip.TotalCorrelation(e)))

    def beside(f: Layer) -> Layer:
        return lambda x: torch.cat([x, f(x)], 1)

    widths = [1.0, 2.0, 3.0]
    mixed, mixture = scales(10, widths)
    return [
        *layer("x, x + noise", beside(noisy(1.0)), lambda g: draws(2000, 1, g), math.log(2) / 2),
        *layer("x, x", beside(Tensor.clone), lambda g: draws(2000, 1, g), infinite),
        *layer("x, the square", beside(torch.square), lambda g: draws(2000, 1, g), infinite),
        *layer("RMSNorm of 32", nn.RMSNorm(32), lambda g: draws(1500, 32, g), infinite),
        *layer(
            "scale mixture, d=10",
            Tensor.clone,
            lambda g: mixed(1500, g).float(),
            10 * scales(1, widths)[1] - mixture,
        ),
    ]


def _subnet(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def _flow() -> Ff.GraphINN:
    torch.manual_seed(1)
    nodes = [Ff.InputNode(4, name="in")]
    settings = {"subnet_constructor": _subnet}
    nodes.append(Ff.Node(nodes[-1], Fm.AllInOneBlock, settings, name="a"))
    nodes.append(Ff.Node(nodes[-1], Fm.GLOWCouplingBlock, settings, name="b"))
    nodes.append(Ff.Node(nodes[-1], Fm.PermuteRandom, {"seed": 1}, name="p"))
    nodes.append(Ff.OutputNode(nodes[-1], name="out"))
    return Ff.GraphINN(nodes).eval()


def _exact(x: Tensor, *, rev: bool) -> float:
    """The mean of log|det J| of the flow by autograd."""
    flow = _flow()

    def one(v: Tensor) -> Tensor:
        out: Tensor = flow(v.unsqueeze(0), rev=rev, jac=False)[0][0]
        return out

    jacobians = torch.stack([torch.func.jacrev(one)(v) for v in x])
    return float(torch.linalg.slogdet(jacobians.detach().double()).logabsdet.mean())


def _ledgers() -> list[RowCase]:
    """The total of a ledger, of which a row is made, so that it is judged as others are."""
    kind = "ledger"
    measures = [ip.EntropyChange(), ip.Entropy(KNN)]
    x = draws(1000, 4, torch.Generator().manual_seed(3))
    truths = {rev: _exact(x[:200], rev=rev) for rev in (False, True)}

    def total(column: str, *, rev: bool, merged: bool = False, epochs: int = 1) -> Any:
        def row(g: torch.Generator) -> Row:
            probes = []
            parts = [x[:100], x[100:200]] if column == "exact" else x.chunk(2)
            for seed, half in enumerate(parts if merged else [torch.cat(list(parts))]):
                flow = _flow()
                with ip.probe(flow, None, measures, seed=seed) as probe, torch.no_grad():
                    for _ in range(epochs):
                        flow(half, rev=rev)
                probes.append(probe)
            for other in probes[1:]:
                probes[0].merge(other)
            report = probes[0].report()
            (sums,) = report.ledger().totals.values()
            last = report.rows[-1].copy()
            (estimate,) = sums["estimates"].values()
            last["value"] = sums["exact"] if column == "exact" else estimate
            last["stderr"] = 0.0 if column == "exact" else 0.1
            last["findings"] = [x for row in report.rows for x in row["findings"]]
            return last

        return row

    return [
        RowCase(kind, "exact, forward", truths[False], total("exact", rev=False)),
        RowCase(kind, "exact, inverse", truths[True], total("exact", rev=True)),
        RowCase(kind, "exact, merged", truths[False], total("exact", rev=False, merged=True)),
        RowCase(kind, "estimate, forward", truths[False], total("estimate", rev=False)),
        RowCase(kind, "estimate, inverse", truths[True], total("estimate", rev=True)),
        RowCase(
            kind, "estimate, merged", truths[False], total("estimate", rev=False, merged=True)
        ),
        RowCase(kind, "estimate, epochs", truths[False], total("estimate", rev=False, epochs=3)),
    ]


def _clean() -> list[RowCase]:
    kind, h = "clean", 2.0**-4

    def labelled(g: torch.Generator) -> Row:
        x, labels = clusters(1000, 2, 10.0, 2, g)
        return row_of(Tensor.clone, x, ip.MutualInformation(KNN, "target"), labels)

    def texts(g: torch.Generator) -> Row:
        x, y = torch.randn(100, 10, 2, generator=g), torch.randint(0, 2, (100,), generator=g)
        return row_of(Tensor.clone, x, ip.MutualInformation(KNN, "target", select="tokens"), y)

    def kl(estimator: Any, n: int, d: int) -> Callable[[torch.Generator], Row]:
        return lambda g: row_of(lambda x: 1.5 * x, draws(n, d, g), ip.Divergence(estimator))

    return [
        RowCase(
            kind,
            "row: default entropy of 100,000 values",
            GAUSSIAN - math.log(h),
            lambda g: row_of(Tensor.clone, draws(100_000, 1, g), ip.Entropy()),
        ),
        RowCase(kind, "row: default KL of 1.5 x", of_scale(1.5), kl(BINS, 5000, 4)),
        RowCase(kind, "row: Gaussian KL of 1.5 x", 20 * of_scale(1.5), kl(GAUSSIAN_FIT, 500, 20)),
        RowCase(kind, "row: k-NN KL of 1.5 x", 2 * of_scale(1.5), kl(KNN, 1000, 2)),
        RowCase(kind, "row: separate labels", math.log(2), labelled),
        RowCase(kind, "row: labels of texts", 0, texts),
        RowCase(
            kind,
            "row: noise of 0.5",
            of_noise(0.5, 2),
            lambda g: row_of(noisy(0.5), draws(1000, 2, g), ip.MutualInformation(KNN)),
        ),
        RowCase(
            kind,
            "row: Gaussian entropy, d=64",
            64 * GAUSSIAN,
            lambda g: row_of(Tensor.clone, draws(1000, 64, g), ip.Entropy(GAUSSIAN_FIT)),
        ),
    ]


ROWS = [
    *_layers(),
    *_divergences(),
    *_targets(),
    *_noise(),
    *_bins(),
    *_total_correlations(),
    *_ledgers(),
]
CLEAN_ROWS = _clean()
