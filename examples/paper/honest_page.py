"""The honest answers, drawn and written up: all numbers from what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes

from paper.controls import AFFINE, COMPONENTS, MEASURES, SHIFTED
from paper.figures import COLOURS, DATASETS, tidy
from paper.published import PLACES, relative_entropies
from paper.tables import number, spread, table
from paper.training import FAMILIES

_SHOWN = {"paper": "paper's KL", "coarse": "KL, shared bins of 1/16", "l1": "L1"}


def figure(found: dict[str, Any], path: Path) -> None:
    """Controls beside models; the exact ledger; matrix Rényi information along the layers."""
    drawn = pyplot.figure(figsize=(13, 9.4), layout="constrained")
    panels: Any = drawn.subfigures(2, 1, height_ratios=[1, 0.95])
    above, below = panels
    axes = above.subplots(1, len(_SHOWN), sharey=True)
    for ax, (measure, name) in zip(axes, _SHOWN.items(), strict=True):
        _bars(ax, _rows(found), measure)
        ax.set_title(name)
    axes[0].invert_yaxis()
    above.suptitle(
        f"{DATASETS[found['dataset']]}: images against controls that need no model, and against "
        "reconstructions",
        fontsize=13,
    )
    ledger, renyi = below.subplots(1, 2, width_ratios=[1, 1.5])
    _ledger_bars(ledger, found["models"]["invertible"])
    _information(renyi, found)
    drawn.savefig(path, dpi=110)
    pyplot.close(drawn)


def _rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The controls, and the models of each family as one, from lowest to highest."""
    rows = dict(found["controls"])
    for family in FAMILIES:
        models = [model["reconstruction"] for model in found["models"][family]]
        rows[f"{family} autoencoder"] = {
            measure: _together([model[measure] for model in models]) for measure in MEASURES
        }
    return rows


def _together(intervals: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """The mean of the seeds, from the lowest end of their intervals to the highest."""
    known = [interval for interval in intervals if interval is not None]
    if not known:
        return None
    return {
        "value": mean(interval["value"] for interval in known),
        "low": min(interval["low"] for interval in known),
        "high": max(interval["high"] for interval in known),
    }


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
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _ledger_bars(ax: Axes, models: Sequence[dict[str, Any]]) -> None:
    layers = _moving(models)
    for place, layer in enumerate(layers):
        values = [model["ledger"][layer][0] for model in models]
        ax.bar(place, mean(values), color=COLOURS["invertible"], alpha=0.8)
        ax.plot([place] * len(values), values, "o", color="0.15", markersize=4)
    totals = [model["whole network"][0] for model in models]
    ax.bar(len(layers), mean(totals), color="0.5", alpha=0.8)
    ax.plot([len(layers)] * len(totals), totals, "o", color="0.15", markersize=4)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.set_xticks(range(len(layers) + 1), [*layers, "total"])
    ax.set_ylabel("nats")
    ax.set_title("Exact change of entropy, E ln |det J| (dots: seeds)")
    tidy(ax)


def _moving(models: Sequence[dict[str, Any]]) -> list[str]:
    """The layers that do more than rearrange."""
    return [layer for layer, (value, _) in models[0]["ledger"].items() if value]


def _information(ax: Axes, found: dict[str, Any]) -> None:
    """Both families on one axis, from the input by the code to the reconstruction."""
    for family in FAMILIES:
        places = PLACES[found["dataset"], family]
        middle = _code_place(found["dataset"], family)
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
            marker="o",
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


def _code_place(dataset: str, family: str) -> int:
    """The number of the code among the places."""
    labels = [place.label for place in PLACES[dataset, family]]
    return labels.index("bottleneck" if family == "invertible" else "code")


def page(found: dict[str, Any]) -> str:
    """The section of the page."""
    parts = [
        "## The same questions, asked honestly",
        _mechanism(found),
        _controls(found),
        _layers(found),
        _exactly(found),
        _codes(found),
        *_conclusions(found),
        _answers(found),
    ]
    return "\n\n".join(parts) + "\n"


def _mechanism(found: dict[str, Any]) -> str:
    m = found["mechanism"]
    empty = (
        f"The images have {m['levels']} levels, so that they leave {1000 - m['levels']} of 1,000 "
        f"bins empty: anything smooth is ln(1000 / {m['levels']}) = "
        f"{math.log(1000 / m['levels']):.2f} nats away. The most that can be is "
        f"{m['ceiling']:.2f}."
    )
    zeros = (
        f"Of the {m['values']:,} values of the test images, {m['zeros']:.1%} are 0 and fill the "
        "first bin; that of a network's output usually holds its one most negative value, and one "
        f"pseudo-count. That alone makes p ln(p N / 2) = {m['atom']:.2f} nats for a share p of N "
        "values, whichever network it is."
        if _has_atom(found)
        else f"Only {m['zeros']:.1%} of the values of the test images are 0, so that no single "
        "value decides it."
    )
    return (
        "**What the paper's divergence is made of.** Every tensor has bins over its own range, so "
        f"equal bins are different values. {zeros} {empty}"
    )


def _has_atom(found: dict[str, Any]) -> bool:
    """Whether one value, zero, is a good part of all values."""
    return bool(found["mechanism"]["zeros"] > 0.1)


def _controls(found: dict[str, Any]) -> str:
    rows = [
        [name, *(_cell(row[measure], 4 if measure == "l1" else 2) for measure in MEASURES)]
        for name, row in _rows(found).items()
    ]
    kept, other, noise = (found["controls"][name] for name in ("2x", SHIFTED, "uniform noise"))
    shift = found["controls"][AFFINE]["coarse"]["value"]
    atom = (
        f", and a shift that takes the zeros to another bin costs {shift:.2f} ({AFFINE}), more "
        "with more images"
        if _has_atom(found)
        else ""
    )
    return (
        "**Controls that need no model** tell which measure to believe (in brackets: intervals of "
        "95%; for models, from the lowest end to the highest over the seeds; of the paper's KL "
        "and of matrix Rényi, the seeds alone). Images in another order have lost everything and "
        "2x nothing: divergences of distributions, which do not know which reconstruction is "
        "whose, say nothing of it or the opposite. x + N(0, 0.01) looks like x: bins that all "
        "tensors share, centred at zero and wider than the noise, say so. But to them images in "
        f"another order are the same{atom}. k-NN is on "
        f"{COMPONENTS} principal components, between every other image and what stands for the "
        "rest. Matrix Rényi information, the only one that knows pairs besides L1, is "
        f"{kept['renyi']['value']:.2f} where all is kept (2x), {other['renyi']['value']:.2f} for "
        f"unrelated images and {noise['renyi']['value']:.2f} for noise, which know nothing of x: "
        "in so many dimensions the kernel decides.\n\n"
        + table(["images against", *MEASURES.values()], rows)
    )


def _cell(interval: dict[str, float] | None, digits: int) -> str:
    if interval is None:
        return "–"
    value, low, high = (number(interval[key], digits) for key in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"


def _layers(found: dict[str, Any]) -> str:
    blocks = [
        "**Along the layers**: entropy and relative entropy (of input and output) on shared bins "
        "of 1/64, the entropy of all of a layer's binned values as one symbol, and matrix Rényi "
        f"information with the input. With n = {found['measured']:,} images, ln n = "
        f"{math.log(found['measured']):.4f} nats is the entropy of symbols that tell all images "
        "apart."
    ]
    keys = (
        ("entropy, shared bins", 3),
        ("relative entropy, shared bins", 3),
        ("symbols", 4),
        ("I, matrix Rényi", 3),
    )
    for family in FAMILIES:
        rows = []
        for i, place in enumerate(PLACES[found["dataset"], family]):
            cells = []
            for key, digits in keys:
                values = [model[key][i] for model in found["models"][family]]
                cells.append(spread(values, digits))
            if set(cells) != {"–"}:
                rows.append([place.label, *cells])
        head = [family, "H", "KL", "H, symbols", "I, matrix Rényi"]
        blocks.append(table(head, rows))
    return "\n\n".join(blocks)


def _exactly(found: dict[str, Any]) -> str:
    models = found["models"]["invertible"]
    rows = [
        [layer, *(_with_error(*model["ledger"][layer]) for model in models)]
        for layer in _moving(models)
    ]
    rows.append(["total", *(_with_error(*model["whole network"]) for model in models)])
    rows.append(["per dimension", *(f"{m['whole network'][0] / found['d']:+.3f}" for m in models)])
    accounts = [model["bottleneck"] for model in models]
    for key, name, form in (
        ("energy share", "share of energy dropped", ".1%"),
        ("entropy bound", "h(dropped given kept), at most", "+,.0f"),
        ("L1", "L1 with padding", ".4f"),
        ("L1 without padding", "L1 without padding", ".0e"),
    ):
        rows.append([name, *(format(account[key], form) for account in accounts)])
    head = ["", *(f"seed {model['seed']}" for model in models)]
    return (
        "**The exact ledger** of the invertible network, on dequantised images: what each layer "
        "adds to differential entropy, E ln |det J|, with its standard error; layers that are not "
        "listed add exactly 0. Below it, what zero-padding throws away (the bound is from the "
        f"{accounts[0]['bound from']} of the dropped coordinates).\n\n" + table(head, rows)
    )


def _with_error(value: float, stderr: float) -> str:
    return f"{value:+,.1f} ± {stderr:.1f}"


def _codes(found: dict[str, Any]) -> str:
    models = {family: found["models"][family] for family in FAMILIES}
    first = models["invertible"][0]["code"]
    keys: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "h, k-NN": lambda code: code["h, k-NN"],
        'h, `KNN(calibration="gaussian")`': lambda code: code["h, calibrated"]["gaussian"],
        'h, `KNN(calibration="copula")`': lambda code: code["h, calibrated"]["copula"],
        "h, Gaussian (an upper bound)": lambda code: code["h, Gaussian"],
        "I(code; class), k-NN": lambda code: code["I(code; class)"]["value"],
    }
    rows = []
    for name, value in keys.items():
        rows.append([name, *(spread([value(m["code"]) for m in models[f]], 2) for f in FAMILIES)])
    decoders = [spread([m["decoder"]["value"] for m in models[f]], 1) for f in FAMILIES]
    rows.append(["½ E ln det JᵀJ of the decoder", *decoders])
    findings = "; ".join(first["findings"]) or "nothing"
    return (
        f"**Nearest neighbours on the code** (d = {first['d']}). `ip.diagnose(code, ip.KNN())` "
        f"finds, of the first invertible model: {findings}. Calibrations subtract what is missed "
        "of Gaussian data. Where two of them differ, or exceed the Gaussian bound, they are "
        "wrong; where they agree, both may be, since clusters and curved shapes [mislead "
        "them](../../../README.md#how-far-to-trust-the-numbers). Here "
        f"{_apart(models)}: no entropy of these codes is known to a nat. (A dash: the estimator "
        "refuses the data.) Entropies depend on the units of the "
        f"code, information does not; that about the class, at most ln 10 = {math.log(10):.2f}, "
        "is found too low where neighbours are of other classes. On the images themselves, in "
        f"{found['d']:,} dimensions, no neighbour can be trusted. {_decoders(models)}\n\n"
        + table(["", *FAMILIES], rows)
    )


def _apart(models: dict[str, list[dict[str, Any]]]) -> str:
    """By how much the calibrations contradict each other, or the bound."""
    told = []
    for family in FAMILIES:
        codes = [model["code"] for model in models[family]]
        pairs = [code["h, calibrated"].values() for code in codes]
        if any(None in pair for pair in pairs):
            told.append(f"of the {family} models one is refused")
            continue
        worst = max(max(pair) - min(pair) for pair in pairs)
        above = max(
            max(pair) - code["h, Gaussian"] for pair, code in zip(pairs, codes, strict=True)
        )
        beyond = f" and exceed the bound by up to {above:,.1f}" if above > 0 else ""
        told.append(f"those of the {family} models differ by up to {worst:,.1f} nats{beyond}")
    return ", and ".join(told)


def _decoders(models: dict[str, list[dict[str, Any]]]) -> str:
    """What the last row is."""
    all_ = [model["decoder"] for family in FAMILIES for model in models[family]]
    singular = sum(decoder["singular"] for decoder in all_)
    left_out = (
        f"; at {singular} of {sum(decoder['codes'] for decoder in all_)} the decoder's image has "
        "fewer dimensions than the code, and these are left out"
        if singular
        else ""
    )
    errors = [decoder["stderr"] for decoder in all_ if decoder["stderr"] is not None]
    return (
        "The last row is what the decoder adds to the entropy of a code, exact at each of "
        f"{all_[0]['codes']} codes a model{left_out} (standard errors up to {max(errors):.1f})."
    )


def _conclusions(found: dict[str, Any]) -> list[str]:
    models = found["models"]["invertible"]
    lossless = max(model["bottleneck"]["L1 without padding"] for model in models)
    rows, verdicts = [], {}
    together = _rows(found)
    for measure, name in MEASURES.items():
        pair = [together[f"{family} autoencoder"][measure] for family in FAMILIES]
        verdicts[measure] = _in_favour(pair, measure)
        digits = 4 if measure == "l1" else 3
        rows.append([name, *(_cell(p, digits) for p in pair), verdicts[measure] or "neither"])
    pair = [
        _together([model["code"]["I(code; class)"] for model in found["models"][family]])
        for family in FAMILIES
    ]
    favoured = _in_favour(pair, "information") or "neither"
    rows.append(["I(code; class), k-NN", *(_cell(p, 3) for p in pair), favoured])
    evenness = _evenness(found)
    here = [(ours, theirs) for name, ours, theirs in evenness if name != "published"]
    reproduced = all(max(ours) < min(theirs) for ours, theirs in here)
    return [
        "### What survives of the paper's three conclusions",
        "1. *INNs lose information.* Their layers do not: without padding the inverse returns the "
        f"images to an L1 of {lossless:.0e}, the rounding of float32. Zero-padding does, and is "
        f"the only step that does: it keeps {found['bottleneck']} of {found['d']:,} numbers, at "
        f"an L1 of {_cell(together['invertible autoencoder']['l1'], 4)}. {_resolution(found)}",
        f"2. *Invertible and classical autoencoders are alike between input and output.* "
        f"{_alike(verdicts)} (*neither*: the intervals overlap, which proves no equality.)",
        table(["", *FAMILIES, "in favour of"], rows),
        "3. *INNs lose information at a more constant rate.* As a statement about relative "
        f"entropies this is {'' if reproduced else 'not '}reproduced: their standard deviation "
        "over the layers, in units of their mean, is "
        f"{'smaller' if reproduced else 'not always smaller'} for the invertible autoencoder. But "
        "relative entropy of input and output is no loss: a bijection has it and loses nothing. "
        "All loss is at the bottleneck, as uneven as can be.",
        table(
            ["relative entropies", *FAMILIES],
            [[name, spread(ours, 2), spread(theirs, 2)] for name, ours, theirs in evenness],
        ),
    ]


def _resolution(found: dict[str, Any]) -> str:
    place, n = _code_place(found["dataset"], "invertible"), found["measured"]
    fewest = min(model["symbols"][place] for model in found["models"]["invertible"])
    return (
        f"No two of the {n:,} images are confused even there: what it takes is resolution."
        if _all_distinct(fewest, n)
        else "Some images share all bins there."
    )


def _all_distinct(symbols: float, n: int) -> bool:
    """Whether symbols of this entropy tell n images apart."""
    return symbols > math.log(n) - 1e-9


def _alike(verdicts: dict[str, str | None]) -> str:
    """What the measures say that pass their controls."""
    better = verdicts["l1"]
    error = f"the {better} one errs less" if better else "their errors are not told apart"
    bins = _bins(verdicts["fine"], verdicts["coarse"])
    return (
        "Of the measures below, only L1 and matrix Rényi know which reconstruction is whose. By "
        f"L1, with this size of code and this training, {error}. Shared bins of two widths "
        f"{bins}; the paper's KL and matrix Rényi failed the controls, and are here for "
        "completeness."
    )


def _bins(fine: str | None, coarse: str | None) -> str:
    """What two widths of bins say together."""
    favoured = fine or coarse
    if favoured is None:
        return "do not tell them apart"
    if fine == coarse:
        return f"favour the {favoured} one"
    if fine and coarse:
        return "contradict each other"
    return f"favour the {favoured} one or do not tell them apart"


def _in_favour(pair: Sequence[dict[str, float] | None], measure: str) -> str | None:
    """The family with less divergence or error, or more information; none if not told apart."""
    ours, theirs = pair
    if ours is None or theirs is None:
        return None
    if ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]:
        return None
    lower = "invertible" if ours["value"] < theirs["value"] else "classical"
    higher = "classical" if lower == "invertible" else "invertible"
    return higher if measure in ("renyi", "information") else lower


def _evenness(found: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """How uneven relative entropies are over the layers: of each model, by family."""
    curves: dict[str, Callable[[str], list[list[float | None]]]] = {
        "published": lambda f: [relative_entropies(found["dataset"], f)],
        "by the paper's definition, here": lambda f: [
            model["relative entropy"] for model in found["paper"][f]
        ],
        "on shared bins, here": lambda f: [
            model["relative entropy, shared bins"] for model in found["models"][f]
        ],
    }
    rows = []
    for name, of in curves.items():
        ours, theirs = (list(map(_variation, of(family))) for family in FAMILIES)
        rows.append((name, ours, theirs))
    return rows


def _variation(values: Sequence[float | None]) -> float:
    # The layers that only pass on what they are given have none.
    known = [value for value in values if value]
    return pstdev(known) / mean(known)


def _answers(found: dict[str, Any]) -> str:
    models = found["models"]
    totals = [model["whole network"][0] for model in models["invertible"]]
    n = found["measured"]
    fewest = min(
        value for model in models["classical"] for value in model["symbols"] if value is not None
    )
    rows = _rows(found)
    said = [
        f"{_cell(rows[f'{family} autoencoder']['coarse'], 3)} for the {family} autoencoder"
        for family in FAMILIES
    ]
    return (
        "### The three questions of its introduction\n\n"
        "* *How much entropy is gained or lost at each layer of an INN?* What the ledger above "
        f"says, {spread(totals, 0)} nats in all, or {mean(totals) / found['d']:+.3f} a dimension: "
        "units of volume. Of information, nothing at any layer; what is lost is lost at the "
        "bottleneck.\n"
        "* *What about a classic autoencoder?* Its layers are not invertible, so that only what "
        "its decoder adds is known exactly (above). The least entropy of any layer's symbols is "
        f"{fewest:.4f} nats, with ln n = {math.log(n):.4f}: "
        f"{'all' if _all_distinct(fewest, n) else 'not all'} {n:,} images remain distinct. What "
        "goes is detail: the L1 error says how much.\n"
        "* *What is the KL-divergence between test inputs and reconstructions?* Of images as "
        f"whole vectors, infinite: reconstructions lie on a surface of {found['bottleneck']} "
        f"dimensions in {found['d']:,}. Of single values on shared bins of 1/16, "
        f"{' and '.join(said)}."
    )
