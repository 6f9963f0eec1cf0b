"""What survives of the paper's conclusions, and answers to the questions of its introduction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean, pstdev
from typing import Any

from paper.controls import MEASURES
from paper.published import code_place, relative_entropies
from paper.summaries import rows_of, together
from paper.tables import interval, spread, table
from paper.training import FAMILIES


def survivors(found: dict[str, Any]) -> list[str]:
    models = found["models"]["invertible"]
    lossless = max(model["bottleneck"]["L1 without padding"] for model in models)
    rows, verdicts = [], {}
    row_of = rows_of(found)
    for measure, name in MEASURES.items():
        pair = [row_of[f"{family} autoencoder"][measure] for family in FAMILIES]
        verdicts[measure] = _in_favour(pair, measure)
        digits = 4 if measure == "l1" else 3
        rows.append([name, *(interval(p, digits) for p in pair), verdicts[measure] or "neither"])
    pair = [
        together([model["code"]["I(code; class)"] for model in found["models"][family]])
        for family in FAMILIES
    ]
    favoured = _in_favour(pair, "information") or "neither"
    rows.append(["I(code; class), k-NN", *(interval(p, 3) for p in pair), favoured])
    evenness = _evenness(found)
    return [
        "### What survives of the paper's three conclusions",
        "1. *INNs lose information.* Their layers do not: without padding, the inverse returns "
        f"the images up to an L1 of {lossless:.0e}, the rounding of float32. Only zero-padding "
        f"loses information: it keeps {found['bottleneck']} of {found['d']:,} numbers, which "
        f"leaves an L1 of {interval(row_of['invertible autoencoder']['l1'], 4)}. "
        f"{_resolution(found)}",
        f"2. *Invertible and classical autoencoders are alike between input and output.* "
        f"{_alike(verdicts)} (*neither* means that the intervals overlap, which does not prove "
        "equality.)",
        table(["", *FAMILIES, "in favour of"], rows),
        "3. *INNs lose information at a more constant rate.* No layer but the bottleneck loses "
        "any: all of the loss occurs there, as unevenly as possible. The relative entropy of a "
        "layer's input and output, which the paper calls a loss, is none: a bijection can have "
        f"any, and loses nothing. {_constancy(evenness)}",
        table(
            ["relative entropies", *FAMILIES],
            [[name, spread(ours, 2), spread(theirs, 2)] for name, ours, theirs in evenness],
        ),
    ]


def _resolution(found: dict[str, Any]) -> str:
    place, n = code_place(found["dataset"], "invertible"), found["measured"]
    fewest = min(model["symbols"][place] for model in found["models"]["invertible"])
    return (
        f"Even there, no two of the {n:,} images are confused: what is lost is resolution."
        if _all_distinct(fewest, n)
        else "There, some images share all their bins."
    )


def _all_distinct(symbols: float, n: int) -> bool:
    """Returns whether symbols of this entropy tell n images apart."""
    return symbols > math.log(n) - 1e-9


def _alike(verdicts: dict[str, str | None]) -> str:
    """Tells what the measures say that pass their controls."""
    better = verdicts["l1"]
    error = (
        f"the {better} autoencoder has the smaller error"
        if better
        else "neither autoencoder has the smaller error"
    )
    bins = _bins(verdicts["fine"], verdicts["coarse"])
    return (
        "Of the measures below, only L1 and matrix Rényi compare each image with its own "
        f"reconstruction. By L1, for this size of the code and this training, {error}. Shared "
        f"bins of two widths {bins}. The paper's KL and matrix Rényi failed the controls, and are "
        "shown for completeness."
    )


def _bins(fine: str | None, coarse: str | None) -> str:
    """Tells what two widths of bins say together."""
    favoured = fine or coarse
    if favoured is None:
        return "do not tell the autoencoders apart"
    if fine == coarse:
        return f"favour the {favoured} one"
    if fine and coarse:
        return "contradict each other"
    return f"favour the {favoured} one or do not tell the autoencoders apart"


def _in_favour(pair: Sequence[dict[str, float] | None], measure: str) -> str | None:
    """Returns the family with less divergence or error, or more information, if there is one."""
    ours, theirs = pair
    if ours is None or theirs is None:
        return None
    if ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]:
        return None
    lower = "invertible" if ours["value"] < theirs["value"] else "classical"
    higher = "classical" if lower == "invertible" else "invertible"
    return higher if measure in ("renyi", "information") else lower


def rate(found: dict[str, Any]) -> str:
    """Tells in short what is left of the third conclusion."""
    even = {name: max(ours) < min(theirs) for name, ours, theirs in _evenness(found)}
    held = all(even[name + end] for name in (_BY_PAPER, _ON_SHARED) for end in ("", _WITHOUT))
    return (
        "No: all of it is lost at the bottleneck. Relative entropies, which are no loss, are "
        + (
            "more even in them than in classical networks."
            if held
            else "more even in them by some definitions, and not by others."
        )
    )


def _constancy(evenness: Sequence[tuple[str, list[float], list[float]]]) -> str:
    """Tells whether the relative entropies themselves are more even, with and without a code."""
    even = {name: max(ours) < min(theirs) for name, ours, theirs in evenness}
    published, paper, shared = (
        [even[name], even[name + _WITHOUT]] for name in (_PUBLISHED, _BY_PAPER, _ON_SHARED)
    )
    told = {
        (True, True): "with and without them",
        (True, False): "only with them",
        (False, True): "only without them",
        (False, False): "in neither case",
    }
    return (
        "The table tells how uneven relative entropies are, by their standard deviation over the "
        "layers divided by their mean. The published value of the bottleneck belongs to an "
        "impossible entropy, so the comparison is made twice: with the code and the layer after "
        "it, and without them. Those of the invertible autoencoder are more even "
        f"{told[published[0], published[1]]} in the published numbers, "
        f"{told[paper[0], paper[1]]} by the paper's definition, and "
        f"{told[shared[0], shared[1]]} on shared bins."
    )


_PUBLISHED, _BY_PAPER = "published", "by the paper's definition, here"
_ON_SHARED, _WITHOUT = "on shared bins, here", ", without the code"


def _evenness(found: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """Returns how uneven relative entropies are over the layers of each model, by family."""
    curves: dict[str, Callable[[str], list[list[float | None]]]] = {
        _PUBLISHED: lambda f: [relative_entropies(found["dataset"], f)],
        _BY_PAPER: lambda f: [model["relative entropy"] for model in found["paper"][f]],
        _ON_SHARED: lambda f: [
            model["relative entropy, shared bins"] for model in found["models"][f]
        ],
    }
    rows = []
    for name, of in curves.items():
        ours, theirs = (list(map(_variation, of(family))) for family in FAMILIES)
        rows.append((name, ours, theirs))
        places = {family: code_place(found["dataset"], family) for family in FAMILIES}
        ours, theirs = (
            [_variation([*v[: places[family]], *v[places[family] + 2 :]]) for v in of(family)]
            for family in FAMILIES
        )
        rows.append((name + _WITHOUT, ours, theirs))
    return rows


def _variation(values: Sequence[float | None]) -> float:
    # Layers that only pass on their input have no relative entropy.
    known = [value for value in values if value]
    return pstdev(known) / mean(known)


def answers(found: dict[str, Any]) -> str:
    models = found["models"]
    totals = [model["whole network"][0] for model in models["invertible"]]
    n = found["measured"]
    fewest = min(
        value for model in models["classical"] for value in model["symbols"] if value is not None
    )
    rows = rows_of(found)
    said = [
        f"{interval(rows[f'{family} autoencoder']['coarse'], 3)} for the {family} autoencoder"
        for family in FAMILIES
    ]
    return (
        "### The three questions of its introduction\n\n"
        "* *How much entropy is gained or lost at each layer of an INN?* The ledger (see the "
        f"[details](details.md)) tells: {spread(totals, 0)} nats in all, or "
        f"{mean(totals) / found['d']:+.3f} per dimension. "
        "This is a change of volume. No layer loses information; only the bottleneck does.\n"
        "* *What about a classic autoencoder?* Its layers are not invertible, so that only what "
        "its decoder adds is known exactly (see the [details](details.md)). The least entropy of "
        f"any layer's symbols is {fewest:.4f} nats, where ln n is {math.log(n):.4f}: "
        f"{'all' if _all_distinct(fewest, n) else 'not all'} {n:,} images remain distinct. What "
        "is lost is detail, and the L1 error says how much.\n"
        "* *What is the KL-divergence between test inputs and reconstructions?* For images as "
        "whole vectors it is infinite, since reconstructions lie on a surface of "
        f"{found['bottleneck']} dimensions in {found['d']:,}. For single values on shared bins of "
        f"1/16 it is {' and '.join(said)}."
    )
