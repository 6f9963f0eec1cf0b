"""Data processing inequalities by matrix-based Rényi entropies, after Yu & Príncipe (2019).

An autoencoder is a Markov chain X - T1 - ... - Z - ... - T'1 - X', along which information cannot
grow. The matrix-based estimates are taken under each rule for the width of the kernel. The exact
answer is known: where each layer tells all n images apart, each of these numbers is ln n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from drawing import tidy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import t as student
from torch import Tensor, nn

import infoprobe as ip
from paper.digit import batches
from paper.figures import DATASETS
from paper.plan import Plan
from paper.published import PLACES, Place
from paper.tables import table
from paper.training import FAMILIES, Trained, distinct

#: Each value is of 500 images, if there are enough: it depends on n, its ceiling is ln n, and its
#: time grows as n ** 3. Disjoint sets of images give the standard errors.
SAMPLES, SETS = 500, 5
LEVEL = 0.95
RULES = ("median", "scott, γ = 5", "tapia", "one width")
RULE_COLOURS = dict(zip(RULES, ("#0072b2", "#e69f00", "#009e73", "#cc79a7"), strict=True))
CHAINS = {
    "input": "I(X; T) on the way from input to reconstruction",
    "reconstruction": "I(X′; T′), from there back to the code",
    "symmetric": "S(Z), then I(T; T′) of facing layers, outwards",
}


def run(plan: Plan, models: dict[str, Trained], images: Tensor) -> dict[str, Any]:
    """Measures the chains of one model of each family on disjoint sets of images."""
    n = min(SAMPLES, len(images) // SETS)
    families = {
        family: plan.kept(
            f"{model.name}-inequalities-{SETS}x{n}", partial(inequalities, model, images, n)
        )
        for family, model in models.items()
    }
    return {"n": n, "sets": SETS, "level": LEVEL, "families": families}


@dataclass(frozen=True)
class _Kept:
    """An estimator that only keeps the tensors that a probe gives it."""

    outputs: list[Tensor] = field(default_factory=list)

    def entropy(self, x: Tensor) -> Tensor:
        self.outputs.append(x.flatten(1))
        return torch.zeros(())


def places_of(dataset: str, family: str) -> list[Place]:
    """Returns the layers in their order, with the code in the middle and the output last."""
    places = PLACES[dataset, family][1:]  # without the input
    if family == "classical":
        return places
    # These are all inverse nodes; the published figures leave out the inverse of the last one.
    encoder, code = places[:6], places[6]
    decoder = [Place(f"{p.label}⁻¹", p.layer, "inverse") for p in reversed(encoder)]
    return [*encoder, code, *decoder]


def layer_outputs(model: nn.Module, places: Sequence[Place], x: Tensor) -> list[Tensor]:
    """Returns the outputs (n, d) of the layers for the same n images."""
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
    """Measures the chains under each rule, and finds the steps that go the wrong way."""
    places = places_of(trained.dataset, trained.family)
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
        "distinct": min(distinct(part[-1]) for part in parts),
        "rules": {
            rule: summary([chains_of(estimator, names, code, part) for part in parts])
            for rule, estimator in rules.items()
        },
        "width": float(rules["one width"].bandwidth),
    }


def _rules(x: Tensor) -> dict[str, ip.MatrixRenyi]:
    """Returns an estimator for each rule of the library, and one with the images' median width."""
    estimators = (
        ip.MatrixRenyi(),
        ip.MatrixRenyi(bandwidth="scott", gamma=5),
        ip.MatrixRenyi(bandwidth="tapia"),
        ip.MatrixRenyi(bandwidth=float(ip.MatrixRenyi().kernel_width(x))),
    )
    return dict(zip(RULES, estimators, strict=True))


def chains_of(
    estimator: ip.MatrixRenyi, names: list[str], code: int, layers: list[Tensor]
) -> dict[str, dict[str, float]]:
    """Returns the chains, whose numbers the data processing inequality forbids to rise."""
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
            # Two layers face each other if they are equally far from both ends. In the invertible
            # model, whose latent is as large as an image, the last layer faces the code.
            **{
                f"{names[i]}, {names[last - i]}": information(i, last - i)
                for i in reversed(range(code))
            },
        },
    }


def summary(chains: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Returns the steps of each chain: means over the sets of images, with standard errors."""
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


def draw(part: Figure, found: dict[str, Any]) -> None:
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
        marker="os^D"[RULES.index(rule)],
        markersize=4,
        capsize=2,
        label=rule,
    )
    wrong = [i for i, rises in enumerate(chain["rises"], 1) if rises]
    ax.plot(wrong, [value[i] for i in wrong], **_VIOLATION)
    ax.set_xticks(x, chain["places"], rotation=55, ha="right", rotation_mode="anchor")


def section(found: dict[str, Any]) -> list[str]:
    measured = found["inequalities"]
    n, sets, families = measured["n"], measured["sets"], measured["families"]
    return [
        "**Data processing inequalities**, after Yu & Príncipe (2019). An autoencoder is a Markov "
        "chain X – T – … – Z – … – T′ – X′, so none of these sequences may rise from left to "
        f"right: {'; '.join(CHAINS.values())}. (The first sequence of Yu & Príncipe ends at Z; "
        "its rest here shows what the decoder does.) They are measured by `ip.MatrixRenyi` "
        f"(α = {ip.MatrixRenyi().alpha}) on n = {n} test images, as means of {sets} disjoint sets "
        f"of them. {_all_violations(families)}",
        _exact(families, n),
    ]


def details(found: dict[str, Any]) -> list[str]:
    measured = found["inequalities"]
    n, families = measured["n"], measured["families"]
    return [
        f"**Data processing inequalities.** The values depend on n, cannot exceed ln n = "
        f"{math.log(n):.3f} nats, and take a time that grows as n³. A step counts as a violation "
        "if its mean over the sets is above 0 by more than the half width of its "
        f"{LEVEL:.0%} interval (Student's t). If no step rose in truth, about "
        f"{(1 - LEVEL) / 2:.1%} of them would still be counted.",
        _widths(families),
        _violations_table(families),
        *(
            f"**{family.capitalize()}.** {_worst(families[family]['rules'])}"
            for family in FAMILIES
        ),
        _turned(families),
    ]


def _all_violations(families: dict[str, Any]) -> str:
    violated, steps = violations(families)
    return f"Over all rules for the width of the kernel, {violated} of {steps} steps rise."


def violations(families: dict[str, Any]) -> tuple[int, int]:
    """Returns how many steps of all sequences rise, and how many there are."""
    chains = [
        chain
        for family in FAMILIES
        for rule in families[family]["rules"].values()
        for chain in rule.values()
    ]
    return sum(sum(chain["rises"]) for chain in chains), sum(len(c["step"]) for c in chains)


def _widths(families: dict[str, Any]) -> str:
    return (
        "The rules for the width σ of the kernel, with n images and d units, are: *median*, the "
        "median distance; *scott*, γ n^(−1/(4 + d)), with the γ = 5 of the first information "
        "planes of autoencoders; *tapia*, √d n^(−1/(4 + d)) after each unit is standardised; "
        "*one width*, the median distance of the images, "
        f"{families[FAMILIES[0]]['width']:.2f}, at every layer."
    )


def _violations_table(families: dict[str, Any]) -> str:
    """Returns a table of how many steps are violated, and by how much at most."""
    rows = []
    for family in FAMILIES:
        for rule, chains in families[family]["rules"].items():
            row = [f"{family}, {rule}"]
            for chain in chains.values():
                rising = rising_steps(chain)
                worst = f", by {max(rising):.3f} at most" if rising else ""
                row.append(f"{len(rising)} of {len(chain['step'])}{worst}")
            rows.append(row)
    return "These steps are violated:\n\n" + table(["", *CHAINS.values()], rows)


def rising_steps(chain: dict[str, Any]) -> list[float]:
    return [step for step, rises in zip(chain["step"], chain["rises"], strict=True) if rises]


def _exact(families: dict[str, Any], n: int) -> str:
    distinct = {family: families[family]["distinct"] for family in FAMILIES}
    if all(count == n for count in distinct.values()):
        return (
            f"**The exact answer is a flat line.** The reconstructions of all {n} images differ, "
            "so no earlier layer confuses any two of them. If all images are equally likely, "
            f"each of these quantities is ln {n} = {math.log(n):.3f} nats at every place. The "
            "curves show how much of that a kernel of the chosen width resolves in each layer's "
            "own units: they show the distances between images, not their information."
        )
    told = ", ".join(f"{count} ({family})" for family, count in distinct.items())
    return (
        f"The reconstructions of {n} images have at least this many different values: {told}. "
        f"Where all are different, every quantity is exactly ln {n} = {math.log(n):.3f}."
    )


def _worst(rules: dict[str, dict[str, Any]]) -> str:
    """Tells the violations of a family in words."""
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
            f"Under *{rule}*, {len(rising)} of {total} steps are violated. The largest violation "
            f"is {where}, where the value rises from {before:.3f} to {before + step:.3f} nats."
        )
    return " ".join(told)


def _turned(families: dict[str, Any]) -> str:
    chains = [
        rules["symmetric"] for family in FAMILIES for rules in families[family]["rules"].values()
    ]
    falls = sum(sum(chain["falls"]) for chain in chains)
    steps = sum(len(chain["step"]) for chain in chains)
    return (
        "The third sequence is tested in the order that the Markov chain implies, S(Z) ≥ … ≥ "
        "I(X; X′). As we recall the reference, whose text was not available, it states the "
        "reverse order, I(X; X′) ≥ … ≥ H(Z). The reverse order is violated at "
        f"{falls} of {steps} steps."
    )
