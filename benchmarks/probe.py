"""Cost of a probed forward pass, attaching the probe included, relative to a plain one.

python benchmarks/probe.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timing import ratios, table
from torch import Tensor, nn

import infoprobe as ip

BATCH = 256


def mlp() -> nn.Module:
    layers = [layer for _ in range(6) for layer in (nn.Linear(512, 512), nn.ReLU())]
    return nn.Sequential(*layers)


def convolutional_autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 4, 2, 1),
    )


def mnist_inn() -> nn.Module:
    return ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 20)


def contenders(model: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    def plain() -> None:
        model(x)

    def probed(measures: list[ip.Entropy | ip.Divergence] | None) -> Callable[[], None]:
        def run() -> None:
            with ip.probe(model, measures=measures):
                model(x)

        return run

    return {
        "plain": plain,
        "no measures": probed([]),
        "entropy": probed([ip.Entropy()]),
        "entropy and both divergences (default)": probed(None),
    }


def main() -> None:
    """Prints the ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {
        "MLP 6x512": (mlp(), torch.randn(BATCH, 512)),
        "conv AE": (convolutional_autoencoder(), torch.randn(BATCH, 1, 28, 28)),
        "MNIST INN": (mnist_inn(), torch.rand(32, 1, 28, 28)),
    }
    with torch.no_grad():
        columns = {
            name: ratios(contenders(model, x), rounds=25) for name, (model, x) in cases.items()
        }
    print(table(f"batch {BATCH} (INN 32), 1 thread", columns))


if __name__ == "__main__":
    main()
