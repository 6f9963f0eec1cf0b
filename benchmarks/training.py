"""Measures the cost of a training step by number format, memory format and compilation.

pip install -e .
python benchmarks/training.py --compile --out docs/benchmarks/training.json

Costs are in milliseconds per image. A step is what ``ip.models.fit`` does with batches of 128:
forward, backward and fused Adam. All contenders take turns, and the medians count: with one thread
those of process time, which other work on the machine changes little, with more threads those of
time on the clock. Compilation takes minutes, and needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from timing import about, table, write
from torch import nn

import infoprobe as ip

BATCH = 128
ROUNDS = 5

Step = Callable[[], object]


#: The shape of an image and the function that builds the model, by name.
MODELS: dict[str, tuple[tuple[int, int, int], Callable[[], nn.Module]]] = {
    "MNIST INN": (
        (1, 28, 28),
        lambda: ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), 20),
    ),
    "MNIST classical": ((1, 28, 28), lambda: ip.models.MNISTAutoencoder(20)),
    "CIFAR-10 INN": (
        (3, 32, 32),
        lambda: ip.models.InvertibleAutoencoder(ip.models.cifar10_inn(), 256),
    ),
    "CIFAR-10 classical": ((3, 32, 32), lambda: ip.models.CIFAR10Autoencoder(256)),
}


def step_of(
    model: nn.Module,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    compiled: bool,
) -> Step:
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], fused=True)
    invertible = isinstance(model, ip.models.InvertibleAutoencoder)
    of_model = (
        ip.models.InvertibleAutoencoderLoss() if invertible else ip.models.reconstruction_loss
    )
    loss = torch.compile(of_model) if compiled else of_model
    x = torch.rand(BATCH, *shape)

    def step() -> None:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            value = loss(model, x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def contenders(model: str, compiling: bool) -> Iterator[tuple[str, Step]]:
    shape, build = MODELS[model]
    dtypes = (torch.float32, torch.bfloat16)
    formats = (torch.contiguous_format, torch.channels_last)
    compilers = (False, True) if compiling else (False,)
    for compiled, dtype, memory_format in itertools.product(compilers, dtypes, formats):
        choices = [str(choice).split(".")[1] for choice in (dtype, memory_format)]
        name = ", ".join([*choices, "compiled" if compiled else "eager"])
        yield name, step_of(build(), shape, dtype, memory_format, compiled)


def milliseconds(steps: dict[str, Step], clock: Callable[[], float]) -> dict[str, float]:
    """Returns the median time per image of each contender; the first two rounds are a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(ROUNDS + 2):
        for name, step in steps.items():
            start = clock()
            step()
            if round_ >= 2:
                times[name].append(1_000 * (clock() - start) / BATCH)
    return {name: statistics.median(own) for name, own in times.items()}


def main() -> None:
    """Prints the times, and writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="measure compiled models as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    results = {
        name: milliseconds(dict(contenders(name, arguments.compile)), clock) for name in MODELS
    }
    print(table(f"ms an image, batch {BATCH}, {arguments.threads} threads", results))
    content = {"about": {"batch": BATCH, **about(arguments.threads)}, "ms an image": results}
    write(arguments.out, content)


if __name__ == "__main__":
    main()
