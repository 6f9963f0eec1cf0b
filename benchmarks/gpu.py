"""Runs the tests that need a GPU and measures what probing costs there, within ten minutes.

Each figure is a ratio within one run: probed over plain training steps, the bytes that counting
reads in a second over those that a copy moves, and nearest neighbours over a matrix product.

pip install -e ".[tests]"
python benchmarks/gpu.py --out docs/benchmarks/gpu.json
python benchmarks/gpu.py --device cpu --small    # tries the script itself
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import infoprobe as ip

ROOT = Path(__file__).parents[1]


class Bottleneck(nn.Module):
    """Three convolutions around which the input is added to their output."""

    def __init__(self, width: int, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        same = width == out and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(width, out, 1, stride, bias=False)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        out: Tensor = self.last(self.body(x) + self.skip(x))
        return out


def residual_network(small: bool) -> nn.Module:
    """Returns a network of the size of ResNet-50."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for i, blocks in enumerate((1, 1) if small else (3, 4, 6, 3)):
        inner = 64 << i
        for j in range(blocks):
            layers.append(Bottleneck(width, inner, 4 * inner, 2 if i and not j else 1))
            width = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def transformer(small: bool) -> nn.Module:
    """Returns an encoder of twelve layers."""
    width, layers = (64, 2) if small else (768, 12)
    layer = nn.TransformerEncoderLayer(width, width // 64, 4 * width, 0.0, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def wait(device: torch.device) -> None:
    """Returns when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(device: torch.device, run: Callable[[], object], rounds: int) -> float:
    """Returns the median time of a run, after two that do not count."""
    times = []
    for i in range(rounds + 2):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        if i > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def training(model: nn.Module, x: Tensor, rounds: int) -> dict[str, float]:
    """Returns how long a probed training step takes, in plain ones."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()
        optimizer.step()

    plain = seconds(x.device, step, rounds)
    found = {"plain, seconds": plain}
    ways: dict[str, dict[str, Any]] = {
        "no measures": {"measures": []},
        "entropy": {"measures": ip.Entropy()},
        "default": {},
        "values_per_batch=65536": {"values_per_batch": 65536},
    }
    for name, options in ways.items():
        with ip.probe(model, **options):
            found[name] = seconds(x.device, step, rounds) / plain
    return found


def counting(n: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Returns which share of the memory's bandwidth counting reaches."""
    x = torch.randn(n, device=device)
    target = torch.empty_like(x)
    copied = 2 * x.nbytes / seconds(device, lambda: target.copy_(x), rounds)
    found = {"copy, GB/s": copied / 1e9}
    for name, data, h in (
        ("dyadic, float32", x, ip.Histogram()),
        ("explicit, float32", x, ip.Histogram(range=(-9.0, 9.0))),
        ("dyadic, bfloat16", x.bfloat16(), ip.Histogram()),
        ("dyadic, ReLU", x.relu(), ip.Histogram()),
    ):
        took = seconds(device, lambda h=h, data=data: h.count_unread([data], 1), rounds)  # type: ignore[misc]
        found[name] = data.nbytes / took / copied
    return found


def neighbors(n: int, d: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Returns how long nearest neighbours take, in bare matrix products."""
    x = torch.randn(n, d, device=device)

    def product() -> None:
        for rows in torch.split(x, 4096):
            rows @ x.T

    gemm = seconds(device, product, rounds)
    found = seconds(device, lambda: ip.nearest_neighbors(x, 3), rounds)
    return {"product, seconds": gemm, "3 neighbours": found / gemm}


def attempt(run: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, Any]:
    """Returns the figures, or what went wrong, so that the others are not lost."""
    try:
        return dict(run(*arguments))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Prints the figures, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small data, to try the script")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    device, small = torch.device(given.device), given.small
    rounds = 1 if small else 7
    on_gpu = device.type == "cuda"
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor(),
        "torch": torch.__version__,
    }

    def report(name: str, figures: Any) -> None:
        results[name] = figures
        print(name, json.dumps(figures, indent=1), flush=True)
        if given.out is not None:  # at once: somebody may end the run
            given.out.write_text(json.dumps(results, indent=1) + "\n")

    print(results, flush=True)
    images = torch.randn(2 if small else 64, 3, 32 if small else 224, 32 if small else 224)
    tokens = torch.randn(2 if small else 64, 8 if small else 128, 64 if small else 768)
    cnn = residual_network(small).to(device)
    report("residual network", attempt(training, cnn, images.to(device), rounds))
    del cnn
    encoder = transformer(small).to(device)
    report("transformer", attempt(training, encoder, tokens.to(device), rounds))
    del encoder
    report("counting", attempt(counting, 10**5 if small else 10**8, device, rounds))
    n, d = (2000, 20) if small else (50_000, 784)
    report("neighbors", attempt(neighbors, n, d, device, 3 if on_gpu else 1))
    if not given.no_tests:
        command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda", str(ROOT / "tests")]
        try:
            tests = subprocess.run(command, capture_output=True, text=True, timeout=300)
            report("tests", {"code": tests.returncode, "end": tests.stdout.splitlines()[-15:]})
        except subprocess.TimeoutExpired:
            report("tests", {"error": "they took more than 300 seconds"})


if __name__ == "__main__":
    main()
