"""Measures the cost of a probed forward pass, relative to a plain one and beside its peers.

The peers are other libraries that watch layers.

pip install -e ".[benchmarks]"
python benchmarks/probe.py --out docs/benchmarks/probe.json
python benchmarks/probe.py --own --without-numba --out docs/benchmarks/probe.json
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import about, ratios, table, write
from torch import Tensor, nn

import infoprobe as ip

BATCH = 256
Contenders = dict[str, Callable[[], object]]


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


def cifar10_encoder() -> nn.Module:
    # This is the encoder of the classical CIFAR-10 autoencoder of Nguyen, Ardizzone & Köthe (2019)
    # with a code of 128: 3x3 convolutions without padding and two poolings, down to 1,024 x 3 x 3.
    return nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 256, 3),
        nn.ReLU(),
        nn.Conv2d(256, 512, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(512, 1024, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(9216, 128),
    )


def mnist_inn() -> nn.Module:
    return ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 20)


# Each contender watches its own copy, since what it attaches would slow the others' passes.


def plain(model: nn.Module, x: Tensor) -> Contenders:
    own = copy.deepcopy(model)
    return {"plain": lambda: own(x)}


def probed(model: nn.Module, x: Tensor) -> Contenders:
    def attached(**options: Any) -> Callable[[], object]:
        own = copy.deepcopy(model)
        probe = ip.probe(own, **options)
        return lambda: (own(x), probe)  # a probe that nobody has takes its hooks along

    return {
        "no measures": attached(measures=[]),
        "entropy": attached(measures=[ip.Entropy()]),
        "default": attached(),
        "values_per_batch=65536": attached(values_per_batch=65536),
    }


def blocked_bincount(x: Tensor) -> Tensor:
    """The yardstick: counts 256 bins between a tensor's extremes, which no other batch shares."""
    low, high = (float(extreme) for extreme in x.aminmax())
    scale = 255 / (high - low) if high > low else 0.0
    counts = torch.zeros(256, dtype=torch.int64)
    for block in torch.split(x.flatten(), 65536):
        counts += torch.bincount(block.sub(low).mul_(scale).to(torch.int32), minlength=256)
    return counts


def counted(model: nn.Module, x: Tensor) -> Contenders:
    own = copy.deepcopy(model)
    counts: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            counts[module] = blocked_bincount(output)

    for module in own.modules():
        if not list(module.children()):
            module.register_forward_hook(hook)
    return {"a bincount in a hook": lambda: own(x)}


def hooked(model: nn.Module, x: Tensor, folder: str) -> Contenders:
    from delve import SaturationTracker
    from torch.utils.tensorboard import SummaryWriter

    saturated, own = copy.deepcopy(model), copy.deepcopy(model)
    writer = SummaryWriter(folder)
    SaturationTracker(folder, "csv", saturated, device="cpu")  # Linear and Conv2d only

    def histogram(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                writer.add_histogram(name, output)

        return hook

    for name, module in own.named_modules():
        if not list(module.children()):
            module.register_forward_hook(histogram(name))
    return {"delve": lambda: saturated(x), "TensorBoard histograms": lambda: own(x)}


def traced(model: nn.Module, x: Tensor) -> Contenders:
    import torchlens

    own = copy.deepcopy(model)
    return {"torchlens (all outputs kept)": lambda: torchlens.trace(own, x)}


def resident() -> float:
    """Returns the resident memory in MiB, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def growth(batches: int) -> tuple[float, float]:
    """Returns the resident memory before and after probing a number of batches of the MLP."""
    model = mlp()
    with ip.probe(model):
        for _ in range(20):
            model(torch.randn(BATCH, 512))
        before = resident()
        for _ in range(batches):
            model(torch.randn(BATCH, 512))
        return before, resident()


def main() -> None:
    """Prints the ratios, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    parser.add_argument("--own", action="store_true", help="leave the peers' figures as they are")
    parser.add_argument("--without-numba", action="store_true", help="as if it were not there")
    parser.add_argument("--rounds", type=int, default=51, help="at most so many")
    arguments = parser.parse_args()
    if arguments.without_numba:
        sys.modules["numba"] = None  # type: ignore[assignment]
    logging.getLogger("delve.logger").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    before, after = growth(1_000)
    print(f"resident memory over 1,000 batches: {before:.1f} -> {after:.1f} MiB\n", flush=True)
    cases = {
        "MLP 6x512": (mlp(), torch.randn(BATCH, 512), 51),
        "conv AE": (convolutional_autoencoder(), torch.randn(BATCH, 1, 28, 28), 51),
        "CIFAR-10 encoder": (cifar10_encoder(), torch.rand(BATCH, 3, 32, 32), 5),
        "MNIST INN": (mnist_inn(), torch.rand(32, 1, 28, 28), 7),
    }
    cases = {name: case for name, case in cases.items() if arguments.only in name}
    out = arguments.out
    known = json.loads(out.read_text()) if out is not None and out.exists() else {}
    kind = "ratios without numba" if arguments.without_numba else "ratios"
    results = known.get(kind, {})
    for name, (model, x, most) in cases.items():
        rounds = min(most, arguments.rounds)
        with tempfile.TemporaryDirectory() as folder:
            contenders = plain(model, x) | probed(model, x) | counted(model, x)
            contenders |= {} if arguments.own else hooked(model, x, folder)
            results[name] = results.get(name, {}) | ratios(contenders, rounds, twice=True)
    # torchlens comes last, with its own plain passes: it leaves wrappers on torch's functions.
    for name, (model, x, most) in ({} if arguments.own else cases).items():
        rounds = min(most, arguments.rounds)
        results[name] |= ratios(plain(model, x) | traced(model, x), rounds, twice=True)
    print(table(f"batch {BATCH} (INN 32), 1 thread", results))
    memory = {"batches": 1_000, "before": before, "after": after}
    write(out, {**known, "about": about(1), kind: results, "resident MiB": memory})


if __name__ == "__main__":
    main()
