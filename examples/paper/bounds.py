"""Deep InfoMax bounds, after Hjelm et al. (2019): what trained critics find of I(X; code).

That information is infinite for continuous images and ln N for N distinct ones. Gaussian pairs of
known information show beside it how far the bounds can be trusted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from drawing import tidy
from matplotlib.figure import Figure
from torch import Tensor

import infoprobe as ip
from paper.digit import batches
from paper.figures import COLOURS, DATASETS
from paper.plan import Plan
from paper.tables import number, table
from paper.training import FAMILIES, Trained, distinct

Bound = Literal["infonce", "dv", "nwj", "jsd", "smile"]
BOUNDS: tuple[Bound, ...] = ("infonce", "dv", "nwj", "jsd", "smile")
MARKERS = dict(zip(BOUNDS, "oDs^v", strict=True))
BOUND_COLOURS = dict(
    zip(BOUNDS, ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#7f7f7f"), strict=True)
)
CRITIC = ip.Critic(steps=1000)
WIDTH, KNOWN = 20, (2.0, 5.0, 10.0)  # the entries of the Gaussian vectors, and their nats
ENOUGH = 5000  # images to train a critic with


def run(plan: Plan, models: dict[str, Trained], x: Tensor) -> dict[str, Any]:
    """Measures all bounds for the codes of both families, and for Gaussian pairs."""
    n = len(x)
    setting = f"bounds-{n}-{CRITIC.steps}"
    pairs = {}
    for nats in (*KNOWN, math.inf):
        name = f"Gaussian, {nats:g} nats" if math.isfinite(nats) else "Gaussian, a copy"
        values = plan.kept(f"gaussian-{nats:g}-{setting}", partial(_of_gaussian, n, nats))
        pairs[name] = {"truth": nats if math.isfinite(nats) else None, **values}
    for family, model in models.items():
        values = plan.kept(f"{model.name}-{setting}", partial(_of_code, model, x))
        pairs[f"{family} code"] = {"truth": None, **values}
    ceilings = {bound: replace(CRITIC, bound=bound).ceiling(n) for bound in BOUNDS}
    return {
        "n": n,
        "distinct images": distinct(x),
        # JSON has no infinity.
        "ceilings": {b: c if math.isfinite(c) else None for b, c in ceilings.items()},
        "batch": CRITIC.batch,
        "held out": round(n * CRITIC.held_out),
        "steps": CRITIC.steps,
        "pairs": pairs,
    }


def _of_gaussian(n: int, nats: float) -> dict[str, Any]:
    return {"values": values_by_bound(*gaussian_pair(n, WIDTH, nats))}


def _of_code(trained: Trained, x: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        code = torch.cat([trained.model.encode(part) for part in batches(x, trained.name)])
    return {"values": values_by_bound(x, code), "distinct": distinct(code)}


def values_by_bound(x: Tensor, y: Tensor) -> dict[str, float]:
    return {
        bound: float(replace(CRITIC, bound=bound).mutual_information(x, y)) for bound in BOUNDS
    }


def gaussian_pair(n: int, d: int, nats: float) -> tuple[Tensor, Tensor]:
    """Returns Gaussian vectors (n, d) whose d pairs of entries share the information equally.

    With infinite information, the second is a copy of the first.
    """
    x, noise = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0))
    correlation = math.sqrt(-math.expm1(-2 * nats / d))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def draw(part: Figure, found: dict[str, Any]) -> None:
    bounds = found["bounds"]
    pairs = bounds["pairs"]
    ax = part.subplots()
    for bound, offset in zip(BOUNDS, (-0.24, -0.12, 0, 0.12, 0.24), strict=True):
        ax.plot(
            [place + offset for place in range(len(pairs))],
            [pair["values"][bound] for pair in pairs.values()],
            color=BOUND_COLOURS[bound],
            linestyle="none",
            marker=MARKERS[bound],
            markersize=8,
            label=bound,
        )
    values = [value for pair in pairs.values() for value in pair["values"].values()]
    top = 1.12 * max(*values, math.log(bounds["n"]), *KNOWN)
    for place, pair in enumerate(pairs.values()):
        if pair["truth"] is None:
            ax.annotate(
                "truth: ∞",
                (place, top),
                (0, -6),
                textcoords="offset points",
                ha="center",
                va="top",
            )
        else:
            ax.hlines(pair["truth"], place - 0.36, place + 0.36, color="black", linewidth=2)
            ax.annotate(
                "truth",
                (place - 0.36, pair["truth"]),
                (0, 3),
                textcoords="offset points",
                fontsize=9,
            )
    for value, text in _levels(bounds):
        ax.axhline(value, color="0.45", linewidth=0.9, linestyle="--", zorder=0)
        ax.annotate(
            text,
            (1, value),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.3",
            annotation_clip=False,
        )
    ax.set_xticks(range(len(pairs)), list(pairs))
    for label, name in zip(ax.get_xticklabels(), pairs, strict=True):
        label.set_color(COLOURS.get(name.removesuffix(" code"), "black"))
    ax.set_ylim(min(-0.4, 1.1 * min(values)), top)
    ax.set_ylabel("nats")
    ax.set_title(
        f"Deep InfoMax: what critics find of I(X; code), {DATASETS[found['dataset']]}, and of "
        "Gaussian pairs"
    )
    ax.legend(title="ip.Critic(…)", frameon=False, loc="upper left", bbox_to_anchor=(0, 0.93))
    tidy(ax)


def _levels(bounds: dict[str, Any]) -> list[tuple[float, str]]:
    """Returns the ceilings that are drawn, with their labels."""
    n, m, batch = bounds["n"], bounds["held out"], bounds["batch"]
    return [
        (math.log(n), f"ln N, N = {n:,}:\nexact for N\ndistinct images"),
        (math.log(m), f"ln m, m = {m:,}:\nmost that infonce\ncan say"),
        (math.log(batch), f"ln batch, {batch}:\nmost that a batch\ncan say in training"),
    ]


def section(found: dict[str, Any]) -> list[str]:
    bounds = found["bounds"]
    return [
        f"**Deep InfoMax bounds**, after Hjelm et al. (2019). `ip.Critic` is trained on "
        f"{bounds['n']:,} {bounds['split']} images and their codes, in at most "
        f"{bounds['steps']:,} steps with batches of {bounds['batch']}; {bounds['held out']:,} of "
        "the images are held out for the value. The same is done for pairs of Gaussian vectors of "
        f"{WIDTH} entries. All values are in nats. *jsd* is the NWJ value of a critic that was "
        "trained by the Jensen–Shannon objective, whose own value is no information. *smile* is "
        "no bound where it clips.",
        "![What critics find, and the truth](bounds.png)",
        _codes(bounds),
    ]


def details(found: dict[str, Any]) -> list[str]:
    bounds = found["bounds"]
    return [
        "**Deep InfoMax bounds**, in nats:",
        _bounds_table(bounds),
        _differences(bounds),
        _trust(bounds),
    ]


def _bounds_table(bounds: dict[str, Any]) -> str:
    rows = [
        [
            name,
            _or_infinite(pair["truth"]),
            *(_or_infinite(pair["values"][bound]) for bound in BOUNDS),
        ]
        for name, pair in bounds["pairs"].items()
    ]
    ceilings = [_or_infinite(bounds["ceilings"][bound]) for bound in BOUNDS]
    rows.append(["*ceiling*", "", *ceilings])
    return table(["", "truth", *BOUNDS], rows)


def _or_infinite(value: float | None) -> str:
    return "∞" if value is None else number(value, 2)


def _codes(bounds: dict[str, Any]) -> str:
    n = bounds["n"]
    pairs = {family: bounds["pairs"][f"{family} code"] for family in FAMILIES}
    distinct = {family: pair["distinct"] for family, pair in pairs.items()}
    exact = bounds["distinct images"] == n and set(distinct.values()) == {n}
    known = (
        f"All {n:,} images are distinct, and so are their codes in both models. If X is one of "
        f"these images, H(X) is ln {n:,} = {math.log(n):.2f} nats, and I(X; code) equals H(X) in "
        "both models. For continuous images it is infinite."
        if exact
        else f"Of {n:,} images, {bounds['distinct images']:,} are distinct, and of their codes "
        + ", ".join(f"{count:,} ({family})" for family, count in distinct.items())
        + ". For continuous images, I(X; code) is infinite unless the code is constant."
    )
    codes = {family: pair["values"] for family, pair in pairs.items()}
    ceiling = bounds["ceilings"]["infonce"]
    beyond = _beyond(codes, math.log(n)) if exact else ""
    nearest = min(ceiling - codes[family]["infonce"] for family in FAMILIES)
    return (
        f"**No bound can say what the codes keep.** {known} InfoNCE comes within "
        f"{nearest:.2f} nats of its ceiling ln m = {ceiling:.2f}, which says only that the "
        f"information is greater than that.{beyond}{_failed(codes)} Differences between the two "
        "codes tell how easily this critic finds an image's code among others, not which code "
        f"carries more information{': that is the same for both.' if exact else '.'}"
    )


def _differences(bounds: dict[str, Any]) -> str:
    codes = {family: bounds["pairs"][f"{family} code"]["values"] for family in FAMILIES}
    apart = ", ".join(
        f"{codes['invertible'][bound] - codes['classical'][bound]:+.2f} ({bound})"
        for bound in BOUNDS
    )
    return f"The values of the invertible code minus those of the classical code are {apart}."


def _beyond(codes: dict[str, dict[str, float]], truth: float) -> str:
    """Tells which values are above the exact answer."""
    told = [
        f"{bound} of the {family} code ({values[bound]:.2f})"
        for family, values in codes.items()
        for bound in BOUNDS
        if values[bound] > truth
    ]
    if not told:
        return ""
    return f" These values exceed the exact answer, and so are no lower bounds: {', '.join(told)}."


def _failed(codes: dict[str, dict[str, float]]) -> str:
    """Tells which critics found nothing."""
    told = [
        f"{bound} of the {family} code"
        for family, values in codes.items()
        for bound in BOUNDS
        if values[bound] < 0.01
    ]
    if not told:
        return ""
    return (
        f" These critics find nothing: {', '.join(told)}. On the validation samples they were "
        "never better than untrained, which says nothing about the code."
    )


def _trust(bounds: dict[str, Any]) -> str:
    told = []
    above = []
    for pair in bounds["pairs"].values():
        if pair["truth"] is None:
            continue
        values, truth = pair["values"], pair["truth"]
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        told.append(f"{values[low]:.2f} ({low}) to {values[high]:.2f} ({high}) of {truth:g} nats")
        above += [f"{bound} at {truth:g} nats" for bound in BOUNDS if values[bound] > truth]
    overshoot = (
        f"These values exceed the truth: {', '.join(above)}."
        if above
        else "None exceeds the truth."
    )
    return (
        f"**How far to trust them.** For the Gaussian pairs, the bounds find {'; '.join(told)}. "
        f"{overshoot}"
    )
