"""What do the layers of an invertible network add to entropy? Exactly, beside three estimates.

A bijection f adds E log|det J_f(X)| to differential entropy, h(f(X)) = h(X) + E log|det J_f(X)|,
and invertible layers know that determinant: the number is a mean over images with a standard
error, and needs no estimator. The script shows beside it what nearest neighbours, a fitted
Gaussian and a histogram of all pixels estimate of the same change, in 784 dimensions.

A decoder from codes to images is no bijection of images, but the same formula with
1/2 log det J^T J says what it adds to the entropy of the code, on the surface of images that it
draws. So the invertible and the classical decoder are measured alike. For what zero-padding drops
between encoder and decoder there is no such formula; the account of the bottleneck bounds it.

    python examples/exact_ledger.py
    python examples/exact_ledger.py --checkpoints models   # trains once, then reads these files

Models, images and schedules are those of compare_autoencoders.py. Test images are dequantised to
(x + u) / 256 with u uniform in [0, 1), since whole numbers have no density. The script writes
ledger.png and ledger.json into --out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import autoencoders
import torch
from command_line import parser_for, require_between
from drawing import tidy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from tqdm import tqdm

import infoprobe as ip

MEASURED = 1000  # test images
CODES = 100  # of these images' codes have a Jacobian, which takes a pass for each entry

# Bins as fine as half a grey level, and the same at all layers, so that their width cancels.
POOLED = ip.Histogram(bins=2**14, range=(-16, 16), outside="clip")
ESTIMATORS: dict[str, Any] = {
    "k-nearest neighbours": ip.KNN(k=3),
    "Gaussian, shrunk covariance": ip.Gaussian(shrinkage="ledoit-wolf"),
    "784 × histogram of all pixels": POOLED,
}
EXACT = "exact: E ln |det J|"
NAMES = {"invertible": "invertible decoder", "classical": "classical decoder"}
LAYERS = ["haar_down", "conv1", "conv2", "conv3", "fc", "haar_up"]  # the others only reshape
COLOURS = {
    EXACT: "#12355b",
    **dict(zip(ESTIMATORS, ["#e69f00", "#56b4a0", "#cc79a7"], strict=True)),
}
DECODER_COLOURS = {"invertible": "#12355b", "classical": "#d1495b"}


def main(arguments: list[str] | None = None) -> None:
    """Runs the example with these arguments, or with those of the command line."""
    options, (train, test), models = _parse(arguments)
    seconds = _train(models, train, options)
    models.eval()
    generator = torch.Generator().manual_seed(options.seed)
    x = ip.dequantize(test, generator=generator).to(options.device)
    invertible: Any = models["invertible"]

    ledger = _ledger(invertible.inn, x)
    decoders = {name: measure_decoder(name, model, x) for name, model in models.items()}
    account = ip.bottleneck_account(invertible, x)

    print(f"\nWhat each layer adds to entropy, in nats, n={len(x):,}, d={x[0].numel():,}")
    print(_table(ledger))
    print(f"\nWhat each decoder adds to the entropy of the code, in nats, n={CODES:,}")
    for name, found in decoders.items():
        print(
            f"{name:11} {with_error(found)}; with the code's (at most {found['code']:+.1f}), its "
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
    (options.out / "ledger.json").write_text(json.dumps(finite(written), indent=1) + "\n")
    print(f"\nThe figure and all numbers are in {options.out}")


def _parse(
    arguments: list[str] | None,
) -> tuple[argparse.Namespace, tuple[Tensor, Tensor], nn.ModuleDict]:
    """Returns the options, images and models, all checked before the long work begins."""
    parser = parser_for(__doc__)
    autoencoders.add_options(parser)
    parser.add_argument(
        "--checkpoints",
        type=Path,
        help="folder that keeps both trainings, to continue them or only to read them",
    )
    options = parser.parse_args(arguments)
    require_between(
        parser,
        options,
        images=(autoencoders.CLASSICAL.batch_size, 4000),
        epochs=(1, 10_000),
        bottleneck=(1, 64),  # the classical model uses few entries of a larger code
    )
    try:
        torch.empty(0, device=options.device)
        for folder in filter(None, (options.out, options.checkpoints)):
            folder.mkdir(parents=True, exist_ok=True)
        train, test = autoencoders.images(options)
        models = autoencoders.models(options)
    except (RuntimeError, AssertionError, OSError, ValueError) as error:
        parser.error(str(error))
    return options, (train, test[:MEASURED]), models


def _train(models: nn.ModuleDict, train: Tensor, options: argparse.Namespace) -> float | None:
    """Trains both models and returns the seconds, unless a part had been done before."""
    print(f"{len(train):,} images to train on")
    schedules = autoencoders.schedules(options.epochs)
    times = []
    for name, model in models.items():
        checkpoint = options.checkpoints and options.checkpoints / f"{name}.safetensors"
        _, seconds = autoencoders.timed_fit(
            model, train, schedules[name], options.seed, checkpoint
        )
        times.append(seconds)
    known = [seconds for seconds in times if seconds is not None]
    return sum(known) if len(known) == len(times) else None


def _ledger(inn: nn.Module, x: Tensor) -> dict[str, Any]:
    """Returns the exact change of entropy of each layer and in total, and estimates of it."""
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
    # All layers see the same images, so the sum has the standard error of the whole network.
    whole = ip.entropy_change(inn, x)
    total = {
        "layer": "total",
        "exact": sum(line["exact"] for line in lines),
        "stderr": float(whole.stderr),
        "estimates": {name: sum(line["estimates"][name] for line in lines) for name in ESTIMATORS},
    }
    return {"layers": lines, "total": total, "whole network": float(whole.value)}


def measure_decoder(name: str, model: Any, x: Tensor) -> dict[str, Any]:
    """Measures how a decoder stretches codes, per unit and per standard deviation of them."""
    with torch.no_grad():
        codes = torch.cat([model.encode(batch) for batch in torch.split(x, 100)])
    root = torch.linalg.cholesky(codes.double().T.cov()).to(codes.dtype)
    white = torch.linalg.solve_triangular(root, codes.T, upper=False).T
    bar = tqdm(total=2 * CODES, desc=f"Jacobians, {name}", unit="code")
    log_volumes, values = _spectrum(model.decode, codes[:CODES], bar)
    # The singular values do not depend on which root of the covariance is taken.
    _, relative = _spectrum(lambda z: model.decode(z @ root.T), white[:CODES], bar)
    bar.close()
    code = float(ip.Gaussian().entropy(codes))
    singular = int(log_volumes.isinf().sum())  # rounding hides how far their images move
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
    """Returns, at each code, 1/2 ln det J^T J and the singular values of the Jacobian J."""
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


def finite(x: Any) -> Any:
    """Replaces infinite numbers by ``None``, since JSON has no infinity."""
    if isinstance(x, dict):
        return {key: finite(value) for key, value in x.items()}
    if isinstance(x, list):
        return [finite(value) for value in x]
    return x if not isinstance(x, float) or math.isfinite(x) else None


def _table(ledger: dict[str, Any]) -> str:
    lines = [f"{'':11}{EXACT:>22}" + "".join(f"{name:>31}" for name in ESTIMATORS)]
    for line in _shown(ledger):
        cells = "".join(f"{line['estimates'][name]:+31,.1f}" for name in ESTIMATORS)
        lines.append(f"{line['layer']:11}{with_error(line):>22}{cells}")
    gap = abs(ledger["total"]["exact"] - ledger["whole network"])
    lines.append(f"(the sum of the layers and the whole network agree to {gap:.0e} nats)")
    return "\n".join(lines)


def with_error(line: dict[str, Any]) -> str:
    if not line["stderr"]:
        return f"{line['exact']:g}"  # zero, or minus infinity
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
    _dots(axes["ledger"], _shown(ledger))
    _spectra(axes["unit"], decoders, "singular values")
    _spectra(axes["spread"], decoders, "singular values per standard deviation")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _dots(ax: Axes, lines: list[dict[str, Any]]) -> None:
    """A dot for each change on a linear axis, with a thin stem from zero and the number beside."""
    series = {EXACT: [line["exact"] for line in lines]}
    series |= {name: [line["estimates"][name] for line in lines] for name in ESTIMATORS}
    errors = [line["stderr"] for line in lines]
    for i, ((name, values), marker) in enumerate(zip(series.items(), "os^D", strict=True)):
        exact, colour = name == EXACT, COLOURS[name]
        places = [place + (i - (len(series) - 1) / 2) * 0.22 for place in range(len(lines))]
        ax.vlines(places, 0, values, color=colour, linewidth=0.8, alpha=0.6)
        ax.errorbar(
            places,
            values,
            [1.96 * error for error in errors] if exact else None,
            fmt=marker,
            color=colour,
            markerfacecolor=colour if exact else "white",
            markersize=6,
            capsize=4,
            label=name,
        )
        for place, value, error in zip(places, values, errors, strict=True):
            text = _signed(value) + (f"\n±{error:.1g}" if exact and error else "")
            above = value > -0.5
            ax.annotate(
                text,
                (place, value),
                (0, 7 if above else -7),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=7,
                fontweight="bold" if exact else "normal",
                color=COLOURS[EXACT] if exact else "0.25",
            )
    ax.margins(y=0.12)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.axvline(len(lines) - 1.5, color="0.75", linewidth=0.8)
    ax.set_xticks(range(len(lines)), [line["layer"] for line in lines])
    ax.set_xlim(-0.5, len(lines) - 0.5)
    ax.set_ylabel("change of entropy (nats)")
    ax.set_title(
        "What each layer of the invertible network adds to differential entropy, MNIST", pad=28
    )
    ax.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 0.99))
    tidy(ax)


def _signed(value: float) -> str:
    return f"{value:+.0f}".replace("-", "−") if abs(value) >= 0.5 else "0"


def _spectra(ax: Axes, decoders: dict[str, Any], key: str) -> None:
    relative = "deviation" in key
    for (name, found), marker in zip(decoders.items(), "os", strict=True):
        values, colour = found[key], DECODER_COLOURS[name]
        order = range(1, len(values["median"]) + 1)
        label = (
            f"{NAMES[name]}: h(its images) ≤ {found['images']:+.1f} nats"
            if relative
            else f"{NAMES[name]}: E ½ ln det JᵀJ = {with_error(found)} nats"
        ).replace("-", "−")
        ax.plot(order, values["median"], color=colour, marker=marker, markersize=4, label=label)
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
    tidy(ax)


if __name__ == "__main__":
    main()
