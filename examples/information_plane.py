"""The information plane of a saturating and of a ReLU network, and how far to believe it.

After Shwartz-Ziv & Tishby (2017) and Saxe et al. (2018): a network 12-10-7-5-4-3-2 learns a
binary rule of 12 bits. Over the training, each layer T moves in the plane of I(X;T), what it keeps
of the input, and I(T;Y), what it tells about the label. Their data file was not available, so a
rule of the same kind is generated: the bits are points on a sphere, the 12 corners of an
icosahedron, and the label says whether a seeded mixture of the pattern's spherical power spectrum,
which no rotation changes, exceeds its median. The networks are trained on 80% of the 4,096
patterns and measured on all of them.

The networks are deterministic, so I(X;T) itself is not worth estimating. X is one of 4,096
patterns here, and I(X;T) equals H(X) as long as no two of them give the same T, whatever training
does; for a continuous X it would be infinite. What moves in such a plane is the coarseness of the
estimate:

* Binned: T is replaced by its bins, 30 for each unit. I(X; binned T) falls when patterns fall
  into the same bins, that is, when they cluster, as when tanh units saturate. It depends on the
  bins.
* Nearest neighbours: T is replaced by T + Z, where Z is Gaussian noise of a stated standard
  deviation. The modules `Noise` add it to a copy of the signal, which itself goes on without it.
  I(X; T + Z) is finite and well defined, and depends on the noise. X is discrete, so Ross's
  estimator serves, with the number of the pattern as label. The estimator of Kraskov et al. is for
  two continuous variables; here it gives psi(3) - psi(1) = 1.5 nats for most layers, whatever they
  do.

Neither number says that the network forgets. Nor do these values obey the data processing
inequality, which those of the layers themselves would: bins and noise are applied to each layer
separately, so a later layer may tell more about Y than an earlier one. Where each pattern has bins
of its own, the binned I(T;Y) is H(Y) from the start.

See Saxe et al. (2018), On the information bottleneck theory of deep learning; Amjad & Geiger
(2018), Learning representations for neural network-based classification using the information
bottleneck principle; Goldfeld et al. (2019), Estimating information flow in deep neural networks.

    python examples/information_plane.py
    python examples/information_plane.py --epochs 5000 --noise 0.1

The script writes information_plane.png into --out, and the rows of each network, with the epoch as
step, as tanh.json and relu.json.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from command_line import parser_for, require_between
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from torch import Tensor, nn
from tqdm import tqdm

import infoprobe as ip
from infoprobe.rows import Row

WIDTHS = (12, 10, 7, 5, 4, 3, 2)
PATTERNS = 2 ** WIDTHS[0]
# There are four angles between corners of an icosahedron, which tell four degrees apart.
DEGREES = 4
MARKERS = "osD^vP"  # one for each layer
BATCH_SIZE = 256
LEARNING_RATE = 3e-3

Bounds = tuple[float, float] | Literal["minmax"]

# tanh is bounded, so its bins are fixed; those of ReLU cover whatever values occur.
NETWORKS: dict[str, tuple[type[nn.Module], Bounds]] = {
    "tanh": (nn.Tanh, (-1.0, 1.0)),
    "ReLU": (nn.ReLU, "minmax"),
}
BINS = 30
# Ross's estimator looks for neighbours among the samples of one label. Where the pattern is the
# label, it needs k + 1 noisy samples of each pattern, so that k is as small as possible.
KNN_OF_LABEL = ip.KNN(k=3)
KNN_OF_PATTERN = ip.KNN(k=1)
DRAWS = KNN_OF_PATTERN.k + 1
# Where all patterns are apart, it gives psi(n) - psi(DRAWS) instead of ln(n / DRAWS).
EXCESS = math.log(DRAWS) - torch.special.digamma(torch.tensor(float(DRAWS))).item()

WARNING = f"""\
What this is not: the networks are deterministic, so I(X;T) = H(X) for any layer that tells all
patterns apart. Binned values show how many patterns share their bins; k-NN values show how many
patterns the noise confuses. Both depend on the bins or the noise as much as on the network, and
falling values mean clustering, not forgetting. I(X;T+Z), estimated from {DRAWS} noisy samples of
each pattern, may be up to {EXCESS:.2f} nats above H(X)."""


class Noise(nn.Module):
    """Gives T + Z with Gaussian Z from its own generator, so that training draws are unchanged."""

    def __init__(self, std: float, seed: int) -> None:
        super().__init__()
        self.std = std
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        """Adds a new Z at each call."""
        noise = torch.randn(x.shape, generator=self._generator, dtype=torch.float64)
        return x + self.std * noise  # in float64, so that rounding makes no ties


class Network(nn.Module):
    """Fully connected layers; in evaluation mode each output is also given to a `Noise`."""

    def __init__(self, activation: type[nn.Module], noise: float, seed: int) -> None:
        super().__init__()
        hidden, last = len(WIDTHS) - 2, nn.Sigmoid
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(*pair), activation() if i < hidden else last())
            for i, pair in enumerate(itertools.pairwise(WIDTHS))
        )
        self.noises = nn.ModuleList(Noise(noise, seed + i) for i in range(len(self.layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Returns two numbers in (0, 1), one for each class."""
        for layer, noise in zip(self.layers, self.noises, strict=True):
            x = layer(x)
            if not self.training:
                noise(x)  # for the probe alone: the signal goes on without it
        return x


def main(arguments: list[str] | None = None) -> None:
    """Trains and measures both networks, with these arguments or those of the command line."""
    options = _parse(arguments)
    bits, labels = rule(options.seed)
    entropy = ip.entropy(labels, ip.Histogram(over="samples")).item()
    print(f"{PATTERNS:,} patterns, p(y=1) = {labels.double().mean():.3f}\n\n{WARNING}\n")

    reports = {
        name: _train(name, activation, bins, bits, labels, options)
        for name, (activation, bins) in NETWORKS.items()
    }
    for name, report in reports.items():
        report.save(options.out / f"{name.lower()}.json")
    _figure(reports, entropy, options)
    print(f"\nThe figure and the rows are in {options.out}")


def rule(seed: int) -> tuple[Tensor, Tensor]:
    """Returns all patterns of 12 bits, as -1 and 1, and their labels.

    By the addition theorem, the spherical power of degree l of a pattern with points u is, up to a
    factor, the sum of P_l(u_i . u_j) over pairs of them, where P_l is the Legendre polynomial.
    """
    present = np.arange(PATTERNS)[:, None] >> np.arange(WIDTHS[0]) & 1
    golden = (1 + math.sqrt(5)) / 2
    plane = np.array([(0, s, t * golden) for s in (-1, 1) for t in (-1, 1)])
    corners = np.concatenate([np.roll(plane, i, axis=1) for i in range(3)]) / np.hypot(1, golden)
    weights = np.random.default_rng(seed).normal(size=DEGREES)
    kernel = np.polynomial.legendre.legval(corners @ corners.T, weights)
    # Patterns that a rotation turns into one another have equal values, apart from float errors.
    values = np.einsum("ni,ij,nj->n", present, kernel, present).round(9)
    labels = torch.from_numpy(values > np.median(values)).long()
    return torch.from_numpy(2.0 * present - 1).float(), labels


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Returns the options, all checked before the long work begins."""
    parser = parser_for(__doc__)
    parser.add_argument("--epochs", type=int, default=1500, help="training epochs per network")
    parser.add_argument(
        "--measurements",
        type=int,
        default=10,
        help="greatest number of measurements, at log-spaced epochs",
    )
    parser.add_argument(
        "--noise", type=float, default=0.05, help="standard deviation of Z, for the k-NN"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the rule, the split, the weights and Z"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write into")
    options = parser.parse_args(arguments)
    require_between(parser, options, epochs=(1, 100_000), measurements=(2, 1000), seed=(0, 2**32))
    if not 1e-6 <= options.noise <= 1e6:
        parser.error(f"--noise: expected 1e-06 to 1e+06, got {options.noise:g}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(str(error))
    return options


def _train(
    name: str,
    activation: type[nn.Module],
    bins: Bounds,
    bits: Tensor,
    labels: Tensor,
    options: argparse.Namespace,
) -> ip.Report:
    """Trains a network and returns its rows at the measured epochs."""
    torch.manual_seed(options.seed)
    model = Network(activation, options.noise, options.seed)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    targets = nn.functional.one_hot(labels, WIDTHS[-1]).float()
    train, test = torch.tensor_split(torch.randperm(PATTERNS), [PATTERNS * 4 // 5])
    spaced = np.geomspace(options.epochs, 1, options.measurements - 1).round().astype(int)
    measured = {0, *spaced.tolist()}
    rows: list[Row] = []
    for epoch in tqdm(range(options.epochs + 1), desc=name, unit="epoch"):
        if epoch:
            _epoch(model.train(), optimizer, bits, targets, train)
        if epoch in measured:
            found = measure(model.eval(), bins, bits, labels)
            rows += [{**row, "step": epoch} for row in found]
    with torch.no_grad():
        right = (model.eval()(bits).argmax(1) == labels).double()
    print(f"{name}: {right[train].mean():.1%} right in training, {right[test].mean():.1%} in test")
    return ip.Report(rows)


def _epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, train: Tensor
) -> None:
    for batch in torch.split(train[torch.randperm(len(train))], BATCH_SIZE):
        loss = nn.functional.binary_cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


@torch.no_grad()
def measure(model: nn.Module, bins: Bounds, bits: Tensor, labels: Tensor) -> list[Row]:
    """Measures both coordinates of each layer over all patterns, by bins and by neighbours."""
    histogram = ip.Histogram(BINS, bins, over="samples")
    binned = [ip.MutualInformation(histogram, reference=of) for of in ("input", "target")]
    with ip.probe(model, "layers.?", binned) as probe:
        probe.target(labels)
        model(bits)
    rows = probe.report().rows

    of_label = ip.MutualInformation(KNN_OF_LABEL, reference="target")
    with ip.probe(model, "noises.?", of_label) as probe:
        probe.target(labels)
        model(bits)
    rows += probe.report().rows

    # The number of the pattern carries the same information as its bits, and is a label.
    n = DRAWS * PATTERNS
    of_pattern = ip.MutualInformation(KNN_OF_PATTERN, reference="target", samples=n)
    with ip.probe(model, "noises.?", of_pattern) as probe:
        probe.target(torch.arange(PATTERNS).repeat(DRAWS))
        model(bits.repeat(DRAWS, 1))
    rows += [{**row, "reference": "input"} for row in probe.report().rows]
    return rows


def _figure(reports: dict[str, ip.Report], entropy: float, options: argparse.Namespace) -> None:
    figure, axes = pyplot.subplots(
        len(reports), 2, figsize=(11, 8.5), sharex=True, sharey=True, layout="constrained"
    )
    for line, (name, report) in zip(axes, reports.items(), strict=True):
        of = {
            module: [row for row in report.rows if row["layer"].startswith(module)]
            for module in ("layers", "noises")
        }
        points = _plane(line[0], of["layers"], "T", entropy, options.epochs)
        line[0].set_title(f"{name}, binned: {BINS} bins a unit")
        points = _plane(line[1], of["noises"], "T+Z", entropy, options.epochs)
        line[1].set_title(f"{name}, nearest neighbours: noise Z of deviation {options.noise:g}")
        _show_bias(line[1])
    figure.colorbar(points, ax=axes, label="epoch + 1", aspect=40)
    handles = [
        Line2D([], [], color="0.4", linestyle="", marker=marker, label=f"{i} ({width} units)")
        for i, (marker, width) in enumerate(zip(MARKERS, WIDTHS[1:], strict=True), 1)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(
        f"The layers of {'-'.join(map(str, WIDTHS))} networks in the information plane"
    )
    figure.savefig(options.out / "information_plane.png", dpi=150)
    pyplot.close(figure)


def _plane(ax: Axes, rows: list[Row], layer: str, entropy: float, epochs: int) -> PathCollection:
    """Draws a path for each layer, whose points go from dark to light with the epochs.

    No true value lies in the grey parts, beyond H(X) and H(Y).
    """
    ax.axvspan(math.log(PATTERNS), math.log(PATTERNS) + 1, color="0.9", linewidth=0, zorder=0)
    ax.axhspan(entropy, entropy + 0.2, color="0.9", linewidth=0, zorder=0)
    ax.text(math.log(PATTERNS) - 0.1, 0, f"H(X) = {WIDTHS[0]} ln 2", color="0.4", ha="right")
    ax.text(0, entropy + 0.01, "H(Y)", color="0.4")
    ax.set(xlim=(-0.4, math.log(PATTERNS) + 0.7), ylim=(-0.07, entropy + 0.06))
    for marker, name in zip(MARKERS, dict.fromkeys(row["layer"] for row in rows), strict=True):
        of = {
            reference: [
                (row["step"], row["value"])
                for row in rows
                if (row["layer"], row["reference"]) == (name, reference)
            ]
            for reference in ("input", "target")
        }
        steps, x = zip(*of["input"], strict=True)
        _, y = zip(*of["target"], strict=True)
        ax.plot(x, y, color="0.75", linewidth=0.8, zorder=1)
        points = ax.scatter(
            x,
            y,
            c=[step + 1 for step in steps],
            norm=LogNorm(1, epochs + 1),
            marker=marker,
            edgecolors="black",
            linewidths=0.4,
            zorder=2,
        )
    ax.set_xlabel(f"I(X;{layer}) (nats)")
    ax.set_ylabel(f"I({layer};Y) (nats)")
    return points


def _show_bias(ax: Axes) -> None:
    """Shows how far the estimate by neighbours goes beyond H(X) where all patterns are apart."""
    largest = math.log(PATTERNS) + EXCESS
    ax.axvline(largest, color="0.4", linestyle=":", linewidth=1)
    ax.text(
        math.log(PATTERNS) - 0.1,
        -0.05,
        f"dotted: H(X) + {EXCESS:.2f}, the largest estimate",
        color="0.4",
        ha="right",
    )


if __name__ == "__main__":
    main()
