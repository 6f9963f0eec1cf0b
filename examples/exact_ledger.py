"""What do the layers of an invertible network add to entropy? Exactly, beside three estimates.

A bijection f adds E log|det J_f(X)| to differential entropy, h(f(X)) = h(X) + E log|det J_f(X)|,
and invertible layers know that determinant: a mean over images, with a standard error, and no
estimator. The same change as nearest neighbours, a fitted Gaussian and a histogram of all pixels
estimate it, in 784 dimensions, is shown beside it.

A decoder from a code to images is no bijection of images, but the same formula with
1/2 log det J^T J tells what it adds to the entropy of the code, on the surface of images that it
draws; so the invertible and the classical decoder are measured alike. What zero-padding throws
away between encoder and decoder has no such formula: the account of the bottleneck bounds it.

    python examples/exact_ledger.py
    python examples/exact_ledger.py --checkpoints models   # trains once, then reads these files

Models, images and schedules are those of compare_autoencoders.py. Test images are dequantised,
(x + u) / 256 with u uniform in [0, 1), since whole numbers have no density. Writes ledger.png and
ledger.json into --out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import compare_autoencoders as comparison
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from tqdm import tqdm

import infoprobe as ip

MEASURED = 1000  # test images
CODES = 100  # of them, with Jacobians: one pass for each entry of a code

# Bins as fine as half a grey level, the same at all layers, so that their width cancels.
POOLED = ip.Histogram(bins=2**14, range=(-16, 16), outside="clip")
ESTIMATORS: dict[str, Any] = {
    "k-nearest neighbours": ip.KNN(k=3),
    "Gaussian, shrunk covariance": ip.Gaussian(shrinkage="ledoit-wolf"),
    "784 × histogram of all pixels": POOLED,
}
EXACT = "exact: E ln |det J|"
NAMES = {"invertible": "invertible decoder", "classical": "classical decoder"}
LAYERS = ["haar_down", "conv1", "conv2", "conv3", "fc", "haar_up"]  # others only reshape
COLOURS = {
    EXACT: "#12355b",
    **dict(zip(ESTIMATORS, ["#e69f00", "#56b4a0", "#cc79a7"], strict=True)),
}
DECODER_COLOURS = {"invertible": "#12355b", "classical": "#d1495b"}


def main(arguments: list[str] | None = None) -> None:
    """Runs the example; ``arguments`` as on the command line."""
    options, (train, test), models = _parse(arguments)
    seconds = _train(models, train, options)
    models.eval()
    generator = torch.Generator().manual_seed(options.seed)
    x = ip.dequantize(test, generator=generator).to(options.device)
    invertible: Any = models["invertible"]

    ledger = _ledger(invertible.inn, x)
    decoders = {name: _decoder(name, model, x) for name, model in models.items()}
    account = ip.bottleneck_account(invertible, x)

    print(f"\nWhat each layer adds to entropy, in nats, n={len(x):,}, d={x[0].numel():,}")
    print(_table(ledger))
    print(f"\nWhat each decoder adds to the entropy of the code, in nats, n={CODES:,}")
    for name, found in decoders.items():
        print(
            f"{name:11} {_number(found)}; with the code's (at most {found['code']:+.1f}), its "
            f"images have at most {found['images']:+.1f}; {found['collapsed']} of "
            f"{options.bottleneck} directions move them by less than a grey level"
            + (f"; singular at {found['singular']} codes" if found["singular"] else "")
        )
    print(f"\n{account}")

    _figure(ledger, decoders, options.out / "ledger.png")
    settings = {
        name: getattr(options, name) for name in ("images", "epochs", "bottleneck", "seed")
    }
    written = {
        "settings": settings,
        "training seconds": seconds,
        "measured images": len(x),
        "codes": CODES,
        "ledger": ledger,
        "decoders": decoders,
        "bottleneck": asdict(account),
    }
    (options.out / "ledger.json").write_text(json.dumps(_finite(written), indent=1) + "\n")
    print(f"\nThe figure and all numbers are in {options.out}")


def _parse(
    arguments: list[str] | None,
) -> tuple[argparse.Namespace, tuple[Tensor, Tensor], nn.ModuleDict]:
    """The options, images and models, all checked before the long work begins."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument(
        "--epochs",
        type=int,
        default=4,
        help=f"of the invertible model; the classical one takes {comparison.CLASSICAL_EPOCHS} "
        "times as many",
    )
    parser.add_argument("--bottleneck", type=int, default=20, help="size of the code")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, image order and dequantisation"
    )
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        help="folder where both trainings are kept, to go on from or only to be read",
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write into")
    options = parser.parse_args(arguments)
    for name, low, high in (
        ("images", comparison.CLASSICAL.batch_size, 4000),
        ("epochs", 1, 10_000),
        ("bottleneck", 1, 64),  # of more, the classical model uses few
    ):
        if not low <= getattr(options, name) <= high:
            parser.error(f"--{name}: expected {low:,} to {high:,}, got {getattr(options, name):,}")
    try:
        torch.empty(0, device=options.device)
        for folder in filter(None, (options.out, options.checkpoints)):
            folder.mkdir(parents=True, exist_ok=True)
        return options, _images(options), _models(options)
    except (RuntimeError, AssertionError, OSError, ValueError) as error:
        parser.error(str(error))


def _images(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Training images in a seeded order, and test images."""
    train, _ = ip.datasets.load("mnist5k", split="train")
    test, _ = ip.datasets.load("mnist5k", split="test")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(options.seed))
    return train[order[: options.images]], test[:MEASURED]


def _models(options: argparse.Namespace) -> nn.ModuleDict:
    """Both models."""
    torch.manual_seed(options.seed)
    inn = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), options.bottleneck)
    classical = ip.models.MNISTAutoencoder(options.bottleneck)
    return nn.ModuleDict({"invertible": inn, "classical": classical}).to(options.device)


def _train(models: nn.ModuleDict, train: Tensor, options: argparse.Namespace) -> float | None:
    """Trains both models; the seconds that it took, unless a part had been done before."""
    print(f"{len(train):,} images to train on")
    schedules = {
        "invertible": replace(comparison.INVERTIBLE, epochs=options.epochs),
        "classical": replace(
            comparison.CLASSICAL, epochs=comparison.CLASSICAL_EPOCHS * options.epochs
        ),
    }
    begun = False
    start = time.perf_counter()
    for name, model in models.items():
        checkpoint = options.checkpoints and options.checkpoints / f"{name}.safetensors"
        begun |= checkpoint is not None and checkpoint.exists()
        ip.models.fit(
            model,
            train,
            schedules[name],
            seed=options.seed,
            autocast="auto",
            checkpoint=checkpoint,
        )
    return None if begun else round(time.perf_counter() - start, 1)


def _ledger(inn: nn.Module, x: Tensor) -> dict[str, Any]:
    """Of each layer and in total: the exact change of entropy, and estimates of it."""
    entropies = [ip.Entropy(estimator) for estimator in ESTIMATORS.values()]
    with ip.probe(inn, measures=[ip.EntropyChange(), *entropies]) as probe, torch.no_grad():
        for batch in tqdm(torch.split(x, 100), desc="measuring layers", unit="batch"):
            inn(batch)
    lines: list[dict[str, Any]] = []
    for row in probe.report().ledger().rows:
        changes: dict[str, Any] = dict(row["estimates"])
        estimates = {
            name: changes[repr(estimator)] * (x[0].numel() if estimator == POOLED else 1)
            for name, estimator in ESTIMATORS.items()
        }
        lines.append(
            {
                "layer": row["layer"],
                "exact": row["exact"],
                "stderr": row["stderr"],
                "estimates": estimates,
            }
        )
    # Layers see the same images, so the error of the sum is that of the whole network.
    whole = ip.entropy_change(inn, x)
    total = {
        "layer": "total",
        "exact": sum(line["exact"] for line in lines),
        "stderr": float(whole.stderr),
        "estimates": {name: sum(line["estimates"][name] for line in lines) for name in ESTIMATORS},
    }
    return {"layers": lines, "total": total, "whole network": float(whole.value)}


def _decoder(name: str, model: Any, x: Tensor) -> dict[str, Any]:
    """How a decoder stretches codes, in their own units and in standard deviations of them."""
    with torch.no_grad():
        codes = torch.cat([model.encode(batch) for batch in torch.split(x, 100)])
    root = torch.linalg.cholesky(codes.double().T.cov()).to(codes.dtype)
    white = torch.linalg.solve_triangular(root, codes.T, upper=False).T
    bar = tqdm(total=2 * CODES, desc=f"Jacobians, {name}", unit="code")
    log_volumes, values = _spectrum(model.decode, codes[:CODES], bar)
    # Whichever root is taken, the singular values are the same.
    _, relative = _spectrum(lambda z: model.decode(z @ root.T), white[:CODES], bar)
    bar.close()
    code = float(ip.Gaussian().entropy(codes))
    singular = int(log_volumes.isinf().sum())  # where rounding hides how far the image moves
    value = -math.inf if singular else float(log_volumes.mean())
    return {
        "exact": value,
        "stderr": 0.0 if singular else float(log_volumes.std() / len(log_volumes) ** 0.5),
        "singular": singular,
        "code": code,
        "images": value + code,
        "collapsed": int((relative.median(0).values < 1 / 256).sum()),
        "singular values": _quartiles(values),
        "singular values per standard deviation": _quartiles(relative),
    }


def _spectrum(
    decode: Callable[[Tensor], Tensor], codes: Tensor, bar: Any
) -> tuple[Tensor, Tensor]:
    """Of each code, 1/2 ln det J^T J and the singular values of the decoder's Jacobian J."""
    found = []
    for part in torch.split(codes, 10):
        found.append(ip.jacobian_spectrum(decode, part))
        bar.update(len(part))
    log_volumes = torch.cat([spectrum.log_volume for spectrum in found]).cpu()
    return log_volumes, torch.cat([spectrum.singular_values for spectrum in found]).cpu()


def _quartiles(values: Tensor) -> dict[str, list[float]]:
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype)
    low, median, high = values.quantile(levels, 0).tolist()
    return {"lower quartile": low, "median": median, "upper quartile": high}


def _finite(x: Any) -> Any:
    """With null for minus infinity, which JSON has no number for."""
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_finite(value) for value in x]
    return x if not isinstance(x, float) or math.isfinite(x) else None


def _table(ledger: dict[str, Any]) -> str:
    lines = [f"{'':11}{EXACT:>22}" + "".join(f"{name:>31}" for name in ESTIMATORS)]
    for line in _shown(ledger):
        cells = "".join(f"{line['estimates'][name]:+31,.1f}" for name in ESTIMATORS)
        lines.append(f"{line['layer']:11}{_number(line):>22}{cells}")
    gap = abs(ledger["total"]["exact"] - ledger["whole network"])
    lines.append(f"(the sum of the layers and the whole network agree to {gap:.0e} nats)")
    return "\n".join(lines)


def _number(line: dict[str, Any]) -> str:
    if not line["stderr"]:
        return f"{line['exact']:g}"  # nothing, or minus infinity
    return f"{line['exact']:+,.1f} ± {line['stderr']:.1f}"


def _shown(ledger: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for line in ledger["layers"] if line["layer"] in LAYERS] + [ledger["total"]]


def _figure(ledger: dict[str, Any], decoders: dict[str, Any], path: Path) -> None:
    figure, axes = pyplot.subplot_mosaic(
        [["ledger", "ledger"], ["unit", "spread"]],
        figsize=(13, 9.5),
        layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.04),
        height_ratios=[1.2, 1],
    )
    _bars(axes["ledger"], _shown(ledger))
    _spectra(axes["unit"], decoders, "singular values")
    _spectra(axes["spread"], decoders, "singular values per standard deviation")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _bars(ax: Axes, lines: list[dict[str, Any]]) -> None:
    series = {EXACT: [line["exact"] for line in lines]}
    series |= {name: [line["estimates"][name] for line in lines] for name in ESTIMATORS}
    errors = [line["stderr"] for line in lines]
    width = 0.88 / len(series)
    for i, (name, values) in enumerate(series.items()):
        exact = name == EXACT
        places = [place + (i - (len(series) - 1) / 2) * width for place in range(len(lines))]
        ax.bar(places, values, 0.94 * width, color=COLOURS[name], label=name)
        if exact:
            ax.errorbar(places, values, errors, fmt="none", ecolor="0.55", capsize=4)
        for place, value, error in zip(places, values, errors, strict=True):
            text = _signed(value) + (f"\n±{error:.1g}" if exact and error else "")
            above = value > -0.5
            ax.annotate(
                text,
                (place, value),
                (0, 5 if above else -5),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=7,
                fontweight="bold" if exact else "normal",
                color=COLOURS[EXACT] if exact else "0.25",
            )
    ax.set_yscale("symlog", linthresh=10, linscale=0.5)
    ticks = [-1000, -100, -10, 0, 10, 100, 1000]
    ax.set_yticks(ticks, [_signed(tick) for tick in ticks])
    ax.margins(y=0.1)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.axvline(len(lines) - 1.5, color="0.75", linewidth=0.8)
    ax.set_xticks(range(len(lines)), [line["layer"] for line in lines])
    ax.set_xlim(-0.5, len(lines) - 0.5)
    ax.set_ylabel("nats (logarithmic beyond ±10)")
    ax.set_title(
        "What each layer of the invertible network adds to differential entropy, MNIST", pad=28
    )
    ax.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 0.99))
    _grid(ax)


def _signed(value: float) -> str:
    return f"{value:+.0f}".replace("-", "−") if abs(value) >= 0.5 else "0"


def _spectra(ax: Axes, decoders: dict[str, Any], key: str) -> None:
    relative = "deviation" in key
    for name, found in decoders.items():
        values, colour = found[key], DECODER_COLOURS[name]
        order = range(1, len(values["median"]) + 1)
        label = (
            f"{NAMES[name]}: h(its images) ≤ {found['images']:+.1f} nats"
            if relative
            else f"{NAMES[name]}: E ½ ln det JᵀJ = {_number(found)} nats"
        ).replace("-", "−")
        ax.plot(order, values["median"], color=colour, marker="o", markersize=4, label=label)
        quartiles = values["lower quartile"], values["upper quartile"]
        ax.fill_between(order, *quartiles, color=colour, alpha=0.2, linewidth=0)
    ax.set_yscale("log")
    ax.set_xlabel("direction of the code, the strongest first")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if relative:
        ax.axhline(1 / 256, color="0.4", linewidth=0.8, linestyle="--")
        ax.annotate(
            "one grey level of one pixel",
            (1, 1 / 256),
            (0, 3),
            textcoords="offset points",
            fontsize=8,
            color="0.35",
        )
        ax.set_ylabel("change of the image per\nstandard deviation of the code")
        ax.set_title("The same, free of units: per standard deviation of the codes")
    else:
        ax.set_ylabel("change of the image per unit of code")
        ax.set_title("Singular values of the decoders' Jacobians J (median, quartiles)")
    ax.legend(frameon=False, fontsize=9)
    _grid(ax)


def _grid(ax: Axes) -> None:
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
