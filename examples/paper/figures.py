"""The colours of the figures, and the paper's own figure: our models over the published points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drawing import tidy
from matplotlib import pyplot
from matplotlib.axes import Axes

from paper.published import PLACES, entropies, relative_entropies
from paper.training import FAMILIES

DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
COLOURS = {"invertible": "#0072b2", "classical": "#d55e00"}


def layers(found: dict[str, Any], path: Path) -> None:
    """Draws figures 3 and 4: entropy and relative entropy of each layer, for both families."""
    dataset = found["dataset"]
    widths = [len(PLACES[dataset, family]) for family in FAMILIES]
    figure, axes = pyplot.subplots(
        *(2, 2),
        figsize=(13, 8.4),
        sharex="col",
        sharey="row",
        layout="constrained",
        width_ratios=widths,
    )
    for i, family in enumerate(FAMILIES):
        models = found["models"][family]
        ours = [model["entropy"] for model in models]
        _curves(axes[0, i], dataset, family, ours, entropies(dataset, family))
        ours = [model["relative entropy"] for model in models]
        _curves(axes[1, i], dataset, family, ours, relative_entropies(dataset, family))
        seeds = f"{len(models)} seeds; band: lowest to highest" if len(models) > 1 else "1 seed"
        axes[0, i].set_title(f"{family} autoencoder ({seeds})")
    axes[0, 0].set_ylabel("entropy of the output, nats")
    axes[1, 0].set_ylabel("relative entropy of input and output, nats")
    for row in axes:
        row[0].set_ylim(bottom=0)
        row[0].margins(y=0.08)
    axes[0, 0].legend(frameon=False, loc="upper left", ncols=2)
    figure.suptitle(f"{DATASETS[dataset]}, by the paper's definition", fontsize=13)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _curves(
    ax: Axes,
    dataset: str,
    family: str,
    ours: Sequence[Sequence[float | None]],
    published: Sequence[float | None],
) -> None:
    places = PLACES[dataset, family]
    at = [i for i, value in enumerate(published) if value is not None]
    columns = [[value for values in ours if (value := values[i]) is not None] for i in at]
    colour = COLOURS[family]
    ax.fill_between(
        at, list(map(min, columns)), list(map(max, columns)), color=colour, alpha=0.2, linewidth=0
    )
    means = [sum(column) / len(column) for column in columns]
    ax.plot(at, means, color=colour, marker="o", markersize=5, label="here")
    ax.plot(
        at,
        [value for value in published if value is not None],
        color="0.15",
        linewidth=0.8,
        linestyle=":",
        marker="D",
        markersize=6,
        markerfacecolor="none",
        markeredgewidth=1.3,
        label="published",
    )
    for i, place in enumerate(places):
        if place.label in ("bottleneck", "code"):
            ax.axvspan(i - 0.4, i + 0.4, color="0.94", zorder=0)
    ax.set_xticks(range(len(places)), [place.label for place in places], rotation=50, ha="right")
    ax.set_xlim(-0.6, len(places) - 0.4)
    tidy(ax)
