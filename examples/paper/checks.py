"""What the paper's references would check: data processing inequalities, and Deep InfoMax bounds.

*Inequalities*, after Yu & Príncipe (2019): an autoencoder is a Markov chain X - T1 - ... - Z -
... - T'1 - X', along which information cannot grow. Measured by matrix-based Rényi entropies,
under each rule for the kernel width. The exact answer is known: where every layer tells all n
images apart, each of these numbers is ln n.

*Bounds*, after Hjelm et al. (2019): what trained critics find of I(X; code), which is infinite
for continuous images and ln N for N distinct ones, beside Gaussian pairs of known information.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from scipy.stats import t as student
from torch import Tensor, nn

import infoprobe as ip
from paper.digit import batches
from paper.figures import COLOURS, DATASETS, tidy
from paper.plan import Plan
from paper.published import PLACES, Place
from paper.tables import number, table
from paper.training import FAMILIES, Trained, load

#: Each value is of 500 images, where there are enough: it depends on n, its ceiling is ln n, and
#: its time grows as n ** 3. Disjoint sets of images give the standard errors.
SAMPLES, SETS = 500, 5
LEVEL = 0.95
RULES = ("median", "scott, γ = 5", "tapia", "one width")
RULE_COLOURS = dict(zip(RULES, ("#0072b2", "#e69f00", "#009e73", "#cc79a7"), strict=True))
CHAINS = {
    "input": "I(X; T) on the way from input to reconstruction",
    "reconstruction": "I(X′; T′), from there back to the code",
    "symmetric": "S(Z), then I(T; T′) of facing layers, outwards",
}

Bound = Literal["infonce", "dv", "nwj", "jsd", "smile"]
BOUNDS: tuple[Bound, ...] = ("infonce", "dv", "nwj", "jsd", "smile")
MARKERS = dict(zip(BOUNDS, "oDs^v", strict=True))
BOUND_COLOURS = dict(
    zip(BOUNDS, ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#7f7f7f"), strict=True)
)
CRITIC = ip.Critic(steps=1000)
WIDTH, KNOWN = 20, (2.0, 5.0, 10.0)  # of Gaussian pairs: entries of each vector, and nats
ENOUGH = 5000  # images for a critic


def run(plan: Plan) -> dict[str, Any]:
    """Both checks, of the first model of each family."""
    test = load(plan.dataset, plan.data_root, "test") / 255
    n = min(SAMPLES, len(test) // SETS)
    split, shown = "test", test
    if len(test) < ENOUGH:
        split, shown = "training", load(plan.dataset, plan.data_root, "train") / 255
    models = {family: plan.model(family, plan.seeds[family][0]) for family in FAMILIES}
    return {
        "dataset": plan.dataset,
        "models": {
            family: {
                "bottleneck": plan.bottleneck,
                "epochs": model.schedule.epochs,
                "images": model.n_images,
                "test L1": model.test_l1,
            }
            for family, model in models.items()
        },
        "inequalities": {
            "n": n,
            "sets": SETS,
            "level": LEVEL,
            "families": {
                family: plan.kept(
                    f"{model.name}-inequalities-{SETS}x{n}",
                    partial(inequalities, model, test, n),
                )
                for family, model in models.items()
            },
        },
        "bounds": {"split": split, **_bounds(plan, models, shown)},
    }


# --- Inequalities -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What a probe takes for an estimator, but which only keeps what it is given."""

    outputs: list[Tensor] = field(default_factory=list)

    def entropy(self, x: Tensor) -> float:
        self.outputs.append(x.flatten(1))
        return 0.0


def _places(dataset: str, family: str) -> list[Place]:
    """The layers in their order, the code in the middle and the reconstruction last."""
    places = PLACES[dataset, family][1:]  # without the input
    if family == "classical":
        return places
    # All inverse nodes: the published figures leave out that of the last.
    encoder, code = places[:6], places[6]
    decoder = [Place(f"{p.label}⁻¹", p.layer, "inverse") for p in reversed(encoder)]
    return [*encoder, code, *decoder]


def layer_outputs(model: nn.Module, places: Sequence[Place], x: Tensor) -> list[Tensor]:
    """What the layers give for the images, the same rows of all."""
    kept = _Kept()
    layers = list(dict.fromkeys(place.layer for place in places))
    with (
        ip.probe(model, layers, ip.Entropy(kept, samples=len(x))) as probe,
        torch.no_grad(),
    ):
        for batch in batches(x, "layers"):
            model(batch)
    rows = probe.report().rows
    found = {
        (row["layer"], row["direction"]): output
        for row, output in zip(rows, kept.outputs, strict=True)
    }
    return [found[place.layer, place.direction] for place in places]


def inequalities(trained: Trained, x: Tensor, n: int) -> dict[str, Any]:
    """The chains under each rule, with their steps that go the wrong way."""
    places = _places(trained.dataset, trained.family)
    parts = [
        [part, *layer_outputs(trained.model, places, part)]
        for part in torch.split(x[: SETS * n], n)
    ]
    names = ["X", *(place.label for place in places)]
    code = next(i for i, name in enumerate(names) if name in ("bottleneck", "code"))
    names[code], names[-1] = "Z", "X′"
    if trained.family == "invertible":  # the code itself, without the zeros
        for part in parts:
            part[code] = trained.model.bottleneck.code(part[code])
    rules = _rules(parts[0][0])
    return {
        "distinct": min(_distinct(part[-1]) for part in parts),
        "rules": {
            rule: _summary([_chains(estimator, names, code, part) for part in parts])
            for rule, estimator in rules.items()
        },
        "width": float(rules["one width"].bandwidth),
    }


def _distinct(x: Tensor) -> int:
    return len(np.unique(x.flatten(1).numpy(), axis=0))


def _rules(x: Tensor) -> dict[str, ip.MatrixRenyi]:
    """Every rule that the library has, and a number: the median distance of images."""
    estimators = (
        ip.MatrixRenyi(),
        ip.MatrixRenyi(bandwidth="scott", gamma=5),
        ip.MatrixRenyi(bandwidth="tapia"),
        ip.MatrixRenyi(bandwidth=float(ip.MatrixRenyi().kernel_width(x))),
    )
    return dict(zip(RULES, estimators, strict=True))


def _chains(
    estimator: ip.MatrixRenyi, names: list[str], code: int, layers: list[Tensor]
) -> dict[str, dict[str, float]]:
    """Numbers that the data processing inequality forbids to rise from left to right."""
    last = len(layers) - 1
    entropies = [float(estimator.entropy(layer)) for layer in layers]

    def information(i: int, j: int) -> float:
        joint = float(estimator.joint_entropy(layers[i], layers[j]))
        return entropies[i] + entropies[j] - joint

    return {
        "input": {names[j]: information(0, j) for j in range(1, last + 1)},
        "reconstruction": {names[j]: information(last, j) for j in range(last - 1, code - 1, -1)},
        "symmetric": {
            "S(Z)": entropies[code],
            # Layers face each other that are equally far from both ends; of the invertible model,
            # whose latent is as large as an image, the last one faces the code.
            **{
                f"{names[i]}, {names[last - i]}": information(i, last - i)
                for i in reversed(range(code))
            },
        },
    }


def _summary(chains: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over the sets of images with standard errors, and the steps between neighbours."""
    found = {}
    for chain in CHAINS:
        names = list(chains[0][chain])
        values = torch.tensor([list(one[chain].values()) for one in chains], dtype=torch.float64)
        steps = values.diff(dim=1)
        critical = float(student.ppf((1 + LEVEL) / 2, len(values) - 1))
        clear = critical * _stderr(steps)
        found[chain] = {
            "places": names,
            "value": values.mean(0).tolist(),
            "stderr": _stderr(values).tolist(),
            "step": steps.mean(0).tolist(),
            "uncertainty": clear.tolist(),
            "rises": (steps.mean(0) > clear).tolist(),
            "falls": (-steps.mean(0) > clear).tolist(),
        }
    return found


def _stderr(values: Tensor) -> Tensor:
    return values.std(0) / math.sqrt(len(values))


def _draw_inequalities(part: SubFigure, found: dict[str, Any]) -> None:
    measured = found["inequalities"]
    ceiling = math.log(measured["n"])
    first = measured["families"][FAMILIES[0]]["rules"][RULES[0]]
    axes = part.subplots(
        len(FAMILIES),
        len(CHAINS),
        sharey=True,
        width_ratios=[len(first[chain]["places"]) for chain in CHAINS],
    )
    for line, family in zip(axes, FAMILIES, strict=True):
        for ax, (chain, title) in zip(line, CHAINS.items(), strict=True):
            for rule in RULES:
                _curve(ax, measured["families"][family]["rules"][rule][chain], rule)
            ax.axhline(ceiling, color="0.35", linewidth=1, linestyle="--")
            ax.set_title(title if family == FAMILIES[0] else "", fontsize=11)
            tidy(ax)
        line[0].set_ylabel(f"{family} autoencoder\nnats")
        line[0].annotate(
            f"exact: ln {measured['n']}",
            (0, ceiling),
            (0, 3),
            textcoords="offset points",
            color="0.35",
            fontsize=9,
        )
    axes[0, 0].set_ylim(0, 1.13 * ceiling)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles.append(Line2D([], [], **_VIOLATION))
    part.legend(
        handles,
        [*labels[:-1], "one width: the images' median", "rises, against the inequality"],
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=11,
    )
    part.suptitle(
        "No curve may rise from left to right: matrix Rényi information under each rule for the "
        f"kernel width, {DATASETS[found['dataset']]}"
    )


_VIOLATION: dict[str, Any] = {
    "color": "#d5001c",
    "linestyle": "none",
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgewidth": 1.6,
}


def _curve(ax: Axes, chain: dict[str, Any], rule: str) -> None:
    x, value = range(len(chain["places"])), chain["value"]
    ax.errorbar(
        x,
        value,
        chain["stderr"],
        color=RULE_COLOURS[rule],
        marker="o",
        markersize=4,
        capsize=2,
        label=rule,
    )
    wrong = [i for i, rises in enumerate(chain["rises"], 1) if rises]
    ax.plot(wrong, [value[i] for i in wrong], **_VIOLATION)
    ax.set_xticks(x, chain["places"], rotation=55, ha="right", rotation_mode="anchor")


def _inequalities_page(found: dict[str, Any]) -> list[str]:
    measured = found["inequalities"]
    n, sets, families = measured["n"], measured["sets"], measured["families"]
    return [
        "**Data processing inequalities**, after Yu & Príncipe (2019). An autoencoder is a Markov "
        "chain X – T – … – Z – … – T′ – X′, so none of these may rise from left to right: "
        f"{'; '.join(CHAINS.values())}. (Their first chain ends at Z; the rest is what the "
        "decoder makes of it.) They are measured by `ip.MatrixRenyi` "
        f"(α = {ip.MatrixRenyi().alpha}) on n = {n} test images: values "
        f"depend on n, end at ln n = {math.log(n):.3f} nats, and take a time that grows as n³. "
        f"Means and standard errors are those of {sets} disjoint sets; a step "
        f"counts as a violation where its mean over the sets is above 0 by more than the half "
        f"width of its {LEVEL:.0%} interval (Student's t). If no step rose in truth, about "
        f"{(1 - LEVEL) / 2:.1%} of them would still be counted.",
        _widths(families),
        _violations_table(families),
        _exact(families, n),
        *(
            f"**{family.capitalize()}.** {_worst(families[family]['rules'])}"
            for family in FAMILIES
        ),
        _turned(families),
    ]


def _widths(families: dict[str, Any]) -> str:
    return (
        "Rules for the width σ of the kernel, with n images and d units: *median*, the median "
        "distance; *scott*, γ n^(−1/(4 + d)), with the γ = 5 of the first information planes of "
        "autoencoders; *tapia*, √d n^(−1/(4 + d)) after each unit is standardised; *one width*, "
        f"the median distance of the images, {families[FAMILIES[0]]['width']:.2f}, at every layer."
    )


def _violations_table(families: dict[str, Any]) -> str:
    """How many steps are violated, and by how much at most."""
    rows = []
    for family in FAMILIES:
        for rule, chains in families[family]["rules"].items():
            row = [f"{family}, {rule}"]
            for chain in chains.values():
                rising = _rising(chain)
                worst = f", by {max(rising):.3f} at most" if rising else ""
                row.append(f"{len(rising)} of {len(chain['step'])}{worst}")
            rows.append(row)
    return "Violated steps:\n\n" + table(["", *CHAINS.values()], rows)


def _rising(chain: dict[str, Any]) -> list[float]:
    return [step for step, rises in zip(chain["step"], chain["rises"], strict=True) if rises]


def _exact(families: dict[str, Any], n: int) -> str:
    distinct = {family: families[family]["distinct"] for family in FAMILIES}
    if all(count == n for count in distinct.values()):
        return (
            f"**The exact answer is a flat line.** The reconstructions of all {n} images differ, "
            "so no layer before them confuses any two; each of these quantities, of the images as "
            f"{n} equally likely ones, is ln {n} = {math.log(n):.3f} nats at every place. What "
            "the curves show is how much of that a kernel of the chosen width resolves in each "
            "layer's own units: the distances between images, not their information."
        )
    told = ", ".join(f"{count} ({family})" for family, count in distinct.items())
    return (
        f"Of {n} images, the reconstructions take at least these many different values: {told}; "
        f"where they are all different, every quantity is exactly ln {n} = {math.log(n):.3f}."
    )


def _worst(rules: dict[str, dict[str, Any]]) -> str:
    """The violations of a family in words."""
    told = []
    for rule, chains in rules.items():
        rising = [
            (step, f"from {a} to {b}", value)
            for chain in chains.values()
            for step, rises, (a, b), value in zip(
                chain["step"],
                chain["rises"],
                pairwise(chain["places"]),
                chain["value"],
                strict=False,
            )
            if rises
        ]
        if not rising:
            told.append(f"Under *{rule}*, no step is violated.")
            continue
        step, where, before = max(rising)
        total = sum(len(chain["step"]) for chain in chains.values())
        told.append(
            f"Under *{rule}*, {len(rising)} of {total} steps are violated, the largest {where}: "
            f"{before:.3f} to {before + step:.3f} nats."
        )
    return " ".join(told)


def _turned(families: dict[str, Any]) -> str:
    chains = [
        rules["symmetric"] for family in FAMILIES for rules in families[family]["rules"].values()
    ]
    falls = sum(sum(chain["falls"]) for chain in chains)
    steps = sum(len(chain["step"]) for chain in chains)
    return (
        "The third chain is tested in the order that the Markov chain implies, S(Z) ≥ … ≥ "
        "I(X; X′). As we recall the reference (its text was not at hand), it states the reverse, "
        f"I(X; X′) ≥ … ≥ H(Z); that order breaks at {falls} of {steps} steps."
    )


# --- Bounds -------------------------------------------------------------------------------------


def _bounds(plan: Plan, models: dict[str, Trained], x: Tensor) -> dict[str, Any]:
    """Every bound for the codes of both families, and for Gaussian pairs of known information."""
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
        "distinct images": _distinct(x),
        # JSON has no infinity.
        "ceilings": {b: c if math.isfinite(c) else None for b, c in ceilings.items()},
        "batch": CRITIC.batch,
        "held out": round(n * CRITIC.held_out),
        "steps": CRITIC.steps,
        "pairs": pairs,
    }


def _of_gaussian(n: int, nats: float) -> dict[str, Any]:
    return {"values": _values(*gaussian_pair(n, WIDTH, nats))}


def _of_code(trained: Trained, x: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        code = torch.cat([trained.model.encode(part) for part in batches(x, trained.name)])
    return {"values": _values(x, code), "distinct": _distinct(code)}


def _values(x: Tensor, y: Tensor) -> dict[str, float]:
    return {
        bound: float(replace(CRITIC, bound=bound).mutual_information(x, y)) for bound in BOUNDS
    }


def gaussian_pair(n: int, d: int, nats: float) -> tuple[Tensor, Tensor]:
    """Gaussian vectors whose d pairs of entries share the information equally; inf: a copy."""
    x, noise = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0))
    correlation = math.sqrt(-math.expm1(-2 * nats / d))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def _draw_bounds(part: SubFigure, found: dict[str, Any]) -> None:
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
    """The ceilings that are drawn."""
    n, m, batch = bounds["n"], bounds["held out"], bounds["batch"]
    return [
        (math.log(n), f"ln N, N = {n:,}:\nexact for N\ndistinct images"),
        (math.log(m), f"ln m, m = {m:,}:\nmost that infonce\ncan say"),
        (math.log(batch), f"ln batch, {batch}:\nmost that a batch\ncan say in training"),
    ]


def _bounds_page(found: dict[str, Any]) -> list[str]:
    bounds = found["bounds"]
    return [
        f"**Deep InfoMax bounds**, after Hjelm et al. (2019): `ip.Critic` on {bounds['n']:,} "
        f"{bounds['split']} images and their codes, {bounds['held out']:,} of them held out for "
        f"the value, at most {bounds['steps']:,} steps of batches of {bounds['batch']}; the same "
        f"for pairs of Gaussian vectors of {WIDTH} entries. In nats; *jsd* is the NWJ value of a "
        "critic that the Jensen–Shannon objective trained, whose own value is no information; "
        "*smile* is no bound where it clips.",
        _bounds_table(bounds),
        _codes(bounds),
        _trust(bounds),
    ]


def _bounds_table(bounds: dict[str, Any]) -> str:
    rows = [
        [name, _number(pair["truth"]), *(_number(pair["values"][bound]) for bound in BOUNDS)]
        for name, pair in bounds["pairs"].items()
    ]
    ceilings = [_number(bounds["ceilings"][bound]) for bound in BOUNDS]
    rows.append(["*ceiling*", "", *ceilings])
    return table(["", "truth", *BOUNDS], rows)


def _number(value: float | None) -> str:
    return "∞" if value is None else number(value, 2)


def _codes(bounds: dict[str, Any]) -> str:
    n = bounds["n"]
    pairs = {family: bounds["pairs"][f"{family} code"] for family in FAMILIES}
    distinct = {family: pair["distinct"] for family, pair in pairs.items()}
    exact = bounds["distinct images"] == n and set(distinct.values()) == {n}
    known = (
        f"All {n:,} images are distinct, and so are their codes in both models: as one of these "
        f"images, X has H(X) = ln {n:,} = {math.log(n):.2f} nats, and I(X; code) is all of it, in "
        "both. Of continuous images it is infinite."
        if exact
        else f"Of {n:,} images, {bounds['distinct images']:,} are distinct, and of their codes "
        + ", ".join(f"{count:,} ({family})" for family, count in distinct.items())
        + ". Of continuous images, I(X; code) is infinite as long as the code is not constant."
    )
    codes = {family: pair["values"] for family, pair in pairs.items()}
    ceiling = bounds["ceilings"]["infonce"]
    beyond = _beyond(codes, math.log(n)) if exact else ""
    nearest = min(ceiling - codes[family]["infonce"] for family in FAMILIES)
    apart = ", ".join(
        f"{codes['invertible'][bound] - codes['classical'][bound]:+.2f} ({bound})"
        for bound in BOUNDS
    )
    return (
        f"**No bound can say what the codes keep.** {known} InfoNCE comes within "
        f"{nearest:.2f} nats of its ceiling ln m = {ceiling:.2f}, which says only that there is "
        f"more.{beyond}{_failed(codes)} Invertible less classical: {apart}. Such differences tell "
        "how easily this critic finds an image's code among others, not which code knows more"
        f"{': that is the same for both.' if exact else '.'}"
    )


def _beyond(codes: dict[str, dict[str, float]], truth: float) -> str:
    """What is above the exact answer."""
    told = [
        f"{bound} of the {family} code ({values[bound]:.2f})"
        for family, values in codes.items()
        for bound in BOUNDS
        if values[bound] > truth
    ]
    return f" Above the exact answer, and so no bound of it: {', '.join(told)}." if told else ""


def _failed(codes: dict[str, dict[str, float]]) -> str:
    """What found nothing."""
    told = [
        f"{bound} of the {family} code"
        for family, values in codes.items()
        for bound in BOUNDS
        if values[bound] < 0.01
    ]
    if not told:
        return ""
    return (
        f" Nothing is found by {', '.join(told)}: on the validation samples that critic was never "
        "better than untrained, which says nothing of the code."
    )


def _trust(bounds: dict[str, Any]) -> str:
    told = []
    above = []
    for pair in bounds["pairs"].values():
        if pair["truth"] is None:
            continue
        values, truth = pair["values"], pair["truth"]
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        told.append(
            f"of {truth:g} nats, {values[low]:.2f} ({low}) to {values[high]:.2f} ({high}) are "
            "found"
        )
        above += [f"{bound} of {truth:g}" for bound in BOUNDS if values[bound] > truth]
    overshoot = f" Above the truth: {', '.join(above)}." if above else " None is above the truth."
    return f"**How far to trust them.** With Gaussian pairs, {'; '.join(told)}.{overshoot}"


# --- Both ---------------------------------------------------------------------------------------


def figure(found: dict[str, Any], path: Path) -> None:
    """The inequalities, and below them the bounds."""
    drawn = pyplot.figure(figsize=(17, 14.5), layout="constrained")
    parts: Any = drawn.subfigures(2, 1, height_ratios=[8.7, 5.8], hspace=0.03)
    above, below = parts
    _draw_inequalities(above, found)
    _draw_bounds(below, found)
    drawn.savefig(path, dpi=110)
    pyplot.close(drawn)


def page(found: dict[str, Any]) -> str:
    """The section of the page, all of its numbers from what was found."""
    models = " and ".join(
        f"the {family} one (epochs: {model['epochs']}, images: {model['images']:,}, test L1 "
        f"{model['test L1']:.4f})"
        for family, model in found["models"].items()
    )
    bottleneck = found["models"][FAMILIES[0]]["bottleneck"]
    head = f"Of the autoencoders with a bottleneck of {bottleneck}: {models}."
    parts = ["## The references' checks", head, *_inequalities_page(found), *_bounds_page(found)]
    return "\n\n".join(parts) + "\n"
