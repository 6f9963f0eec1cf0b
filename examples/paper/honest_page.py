"""The honest answers, written up: all numbers come from what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from paper import conclusions
from paper.controls import AFFINE, COMPONENTS, MEASURES, SHIFTED
from paper.published import PLACES
from paper.summaries import moving_layers, rows_of
from paper.tables import interval, spread, table
from paper.training import FAMILIES


def page(found: dict[str, Any]) -> str:
    """The section of the page."""
    parts = [
        "## The same questions, asked honestly",
        _mechanism(found),
        _controls(found),
        _layers(found),
        _exactly(found),
        _codes(found),
        *conclusions.survivors(found),
        conclusions.answers(found),
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
        [name, *(interval(row[measure], 4 if measure == "l1" else 2) for measure in MEASURES)]
        for name, row in rows_of(found).items()
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
        for layer in moving_layers(models)
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
