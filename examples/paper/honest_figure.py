"""The figure of the honest answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from drawing import open_frame, tidy
from matplotlib import pyplot
from matplotlib.axes import Axes

from paper.figures import COLOURS, DATASETS
from paper.published import PLACES, code_place
from paper.summaries import moving_layers, rows_of
from paper.training import FAMILIES

_SHOWN = {"paper": "paper's KL", "coarse": "KL, shared bins of 1/16", "l1": "L1"}


def figure(found: dict[str, Any], path: Path) -> None:
    """Draws the controls beside the models and, beside this figure, what the layers do."""
    drawn, axes = pyplot.subplots(
        1, len(_SHOWN), figsize=(13, 4.9), sharey=True, layout="constrained"
    )
    for ax, (measure, name) in zip(axes, _SHOWN.items(), strict=True):
        _bars(ax, rows_of(found), measure)
        ax.set_title(name)
    axes[0].invert_yaxis()
    drawn.suptitle(
        f"{DATASETS[found['dataset']]}: images against controls that need no model, and against "
        "reconstructions",
        fontsize=13,
    )
    drawn.savefig(path, dpi=110)
    pyplot.close(drawn)
    _layers(found, path.with_name("layers.png"))


def _layers(found: dict[str, Any], path: Path) -> None:
    """Draws the exact ledger, and matrix Rényi information."""
    drawn, (ledger, renyi) = pyplot.subplots(
        1, 2, figsize=(13, 4.6), width_ratios=[1, 1.5], layout="constrained"
    )
    _ledger_dots(ledger, found["models"]["invertible"])
    _information(renyi, found)
    drawn.savefig(path, dpi=110)
    pyplot.close(drawn)


def _bars(ax: Axes, rows: dict[str, dict[str, Any]], measure: str) -> None:
    for place, (name, row) in enumerate(rows.items()):
        found = row[measure]
        colour = COLOURS.get(name.split()[0], "0.6")
        ax.barh(place, found["value"], color=colour, height=0.7)
        ax.annotate(
            f"{found['value']:.3f}" if measure == "l1" else f"{found['value']:.2f}",
            (max(found["value"], 0), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.set_yticks(range(len(rows)), list(rows))
    ax.margins(x=0.15)
    ax.set_xlim(left=0)
    ax.set_xlabel("mean absolute difference" if measure == "l1" else "nats")
    open_frame(ax)


def _ledger_dots(ax: Axes, models: Sequence[dict[str, Any]]) -> None:
    layers = moving_layers(models)
    for i, model in enumerate(models):
        found = [*(model["ledger"][layer] for layer in layers), model["whole network"]]
        places = [place + 0.16 * (i - (len(models) - 1) / 2) for place in range(len(found))]
        ax.errorbar(
            places,
            [value for value, _ in found],
            [1.96 * stderr for _, stderr in found],
            color=COLOURS["invertible"],
            linestyle="none",
            marker="os^D"[i % 4],
            markerfacecolor="white" if i else COLOURS["invertible"],
            capsize=3,
            label=f"seed {model['seed']}",
        )
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.axvline(len(layers) - 0.5, color="0.75", linewidth=0.8)
    ax.set_xticks(range(len(layers) + 1), [*layers, "total"])
    ax.set_ylabel("nats")
    ax.set_title("Exact change of entropy, E ln |det J|, with 95% intervals")
    ax.legend(frameon=False, fontsize=9)
    tidy(ax)


def _information(ax: Axes, found: dict[str, Any]) -> None:
    """Draws both families on one axis, from the input over the code to the reconstruction."""
    for family in FAMILIES:
        places = PLACES[found["dataset"], family]
        middle = code_place(found["dataset"], family)
        models = [model["I, matrix Rényi"] for model in found["models"][family]]
        at = [i for i in range(len(places)) if models[0][i] is not None]
        where = [
            i / middle - 1 if i <= middle else (i - middle) / (len(places) - 1 - middle)
            for i in at
        ]
        ax.plot(
            where,
            [mean(model[i] for model in models) for i in at],
            color=COLOURS[family],
            marker="o" if family == "invertible" else "s",
            markersize=4,
            label=family,
        )
    ax.axvspan(-0.03, 0.03, color="0.92", zorder=0)
    ax.set_xticks([-1, 0, 1], ["input", "code", "reconstruction"])
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.set_ylabel("nats")
    ax.set_title("I(X; T) along the layers, matrix-based Rényi: it should never rise")
    ax.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
    tidy(ax)
