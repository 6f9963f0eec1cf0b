"""The honest answers, written up: all numbers come from what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from paper import conclusions
from paper.controls import AFFINE, COMPONENTS, FAINT, MEASURES, SHIFTED
from paper.published import PLACES
from paper.summaries import moving_layers, rows_of
from paper.tables import interval, number, spread, table
from paper.training import FAMILIES


def page(found: dict[str, Any]) -> str:
    """Writes the section of the page."""
    parts = [
        "## The same questions, asked honestly",
        _mechanism(found),
        _controls(found),
        *conclusions.survivors(found),
        conclusions.answers(found),
    ]
    return "\n\n".join(parts) + "\n"


def details(found: dict[str, Any]) -> str:
    """Writes what the conclusions rest on, layer by layer."""
    parts = [
        "## Layer by layer",
        "![Exact changes of entropy, and matrix Rényi information](layers.png)",
        _exactly(found),
        _layers(found),
        _codes(found),
    ]
    return "\n\n".join(parts) + "\n"


def _mechanism(found: dict[str, Any]) -> str:
    m = found["mechanism"]
    empty = (
        f"The images have {m['levels']} levels, so that they leave {1000 - m['levels']} of 1,000 "
        f"bins empty: this puts anything smooth ln(1000 / {m['levels']}) = "
        f"{math.log(1000 / m['levels']):.2f} nats away from them. The greatest possible "
        f"divergence is {m['ceiling']:.2f} nats."
    )
    zeros = (
        f"Of the {m['values']:,} values of the test images, {m['zeros']:.1%} are 0 and fill the "
        "first bin. The first bin of a network's output usually holds only its most negative "
        "value and one pseudo-count. For a share p of N values, this alone gives p ln(p N / 2) = "
        f"{m['atom']:.2f} nats, for any network."
        if _has_atom(found)
        else f"Only {m['zeros']:.1%} of the values of the test images are 0, so that no single "
        "value decides the divergence."
    )
    return (
        "**What the paper's divergence is made of.** Each tensor is binned over its own range, so "
        f"that bins of one number stand for different values. {zeros} {empty}"
    )


def _has_atom(found: dict[str, Any]) -> bool:
    """Returns whether one value, zero, makes a large share of all values."""
    return bool(found["mechanism"]["zeros"] > 0.1)


def _controls(found: dict[str, Any]) -> str:
    rows = [
        [name, *(interval(row[measure], 4 if measure == "l1" else 2) for measure in MEASURES)]
        for name, row in rows_of(found).items()
    ]
    kept, other, noise = (found["controls"][name] for name in ("2x", SHIFTED, "uniform noise"))
    shift = found["controls"][AFFINE]["coarse"]["value"]
    atom = (
        f" A shift that moves the zeros to another bin costs {shift:.2f} nats ({AFFINE}), and "
        "more with more images."
        if _has_atom(found)
        else ""
    )
    return (
        "### Controls that need no model\n\n"
        "We know what became of the images in these controls, so they tell which measure to "
        "believe. 2x has lost nothing, images in another order have lost everything, and x + "
        "N(0, 0.01) looks like x.\n\n"
        f"* **The paper's KL** gives the first two {number(kept['paper']['value'], 2)} and "
        f"{number(other['paper']['value'], 2)}, and the third "
        f"{number(found['controls'][FAINT]['paper']['value'], 2)}: it knows neither values nor "
        "images.\n"
        "* **KL on shared bins**, which are centred at zero and wider than the noise, sees that "
        f"x + N(0, 0.01) looks like x. It does not see that images are in another order.{atom}\n"
        f"* **k-NN** works on {COMPONENTS} principal components, and compares every other image "
        "with what stands for the rest. It does not know which image is which, either.\n"
        "* **Matrix Rényi information** compares each image with its own reconstruction. It is "
        f"{kept['renyi']['value']:.2f} where everything is kept (2x), "
        f"{other['renyi']['value']:.2f} for images in another order and "
        f"{noise['renyi']['value']:.2f} for noise, although the last two carry no information "
        "about x: in so many dimensions the kernel decides.\n"
        "* **L1** compares each image with its own reconstruction, and sees the wrong order. It "
        "is an error, not information: it is largest for 1 − x, which has lost nothing.\n\n"
        f"{table(['images against', *MEASURES.values()], rows)}\n\n"
        "Brackets show 95% intervals. For models they reach from the lowest end to the highest "
        "over the seeds, and for the paper's KL and matrix Rényi they show the spread of the "
        "seeds alone."
    )


def _layers(found: dict[str, Any]) -> str:
    blocks = [
        "**Along the layers**, the columns are: entropy, and relative entropy of input and "
        "output, both on shared bins of 1/64; the entropy of a layer's symbols, where a symbol is "
        "the whole vector of its binned values; and matrix Rényi information with the input. With "
        f"n = {found['measured']:,} images, symbols that tell all images apart have an entropy of "
        f"ln n = {math.log(found['measured']):.4f} nats."
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
        "**The exact ledger** of the invertible network, on dequantised images, shows what each "
        "layer adds to differential entropy, E ln |det J|, with its standard error. Layers that "
        "are not listed add exactly 0. The last rows show what zero-padding drops (the bound "
        f"comes from the {accounts[0]['bound from']} of the dropped coordinates).\n\n"
        + table(head, rows)
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
        f"**Nearest neighbours on the code** (d = {first['d']}). For the first invertible model, "
        f"`ip.diagnose(code, ip.KNN())` finds: {findings}. A calibration subtracts the error that "
        "nearest neighbours make on Gaussian data. Where two calibrations differ, or exceed the "
        "Gaussian bound, at least one is wrong; where they agree, both may be wrong, since "
        "clusters and curved shapes [mislead "
        "them](../../trust.md). Here "
        f"{_apart(models)}: no entropy of these codes is known to a nat. (A dash means that the "
        "estimator refuses the data.) Entropies depend on the units of the code; information does "
        "not. The information about the class, which is at most "
        f"ln 10 = {math.log(10):.2f}, is found too low where neighbours belong to other classes. "
        f"On the images themselves, in {found['d']:,} dimensions, no neighbour can be trusted. "
        f"{_decoders(models)}\n\n" + table(["", *FAMILIES], rows)
    )


def _apart(models: dict[str, list[dict[str, Any]]]) -> str:
    """Tells by how much the calibrations contradict each other, or the bound."""
    told = []
    for family in FAMILIES:
        codes = [model["code"] for model in models[family]]
        pairs = [code["h, calibrated"].values() for code in codes]
        if any(None in pair for pair in pairs):
            told.append(f"one of the calibrations refuses a code of the {family} models")
            continue
        worst = max(max(pair) - min(pair) for pair in pairs)
        above = max(
            max(pair) - code["h, Gaussian"] for pair, code in zip(pairs, codes, strict=True)
        )
        beyond = f" and exceed the bound by up to {above:,.1f}" if above > 0 else ""
        told.append(
            f"the calibrations for the {family} models differ by up to {worst:,.1f} nats{beyond}"
        )
    return ", and ".join(told)


def _decoders(models: dict[str, list[dict[str, Any]]]) -> str:
    """Explains the last row."""
    all_ = [model["decoder"] for family in FAMILIES for model in models[family]]
    singular = sum(decoder["singular"] for decoder in all_)
    left_out = (
        f". At {singular} of all {sum(decoder['codes'] for decoder in all_)} codes the decoder's "
        "image has fewer dimensions than the code; these are left out"
        if singular
        else ""
    )
    errors = [decoder["stderr"] for decoder in all_ if decoder["stderr"] is not None]
    return (
        "The last row is what the decoder adds to the entropy of the code, computed exactly at "
        f"{all_[0]['codes']} codes of each model{left_out}. The standard errors of this row are "
        f"at most {max(errors):.1f} nats."
    )
