"""The page of a data set on one screen: what came out of each part, in a sentence or two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paper import companion, conclusions, inequalities, published
from paper.controls import FAINT, SHIFTED
from paper.summaries import rows_of
from paper.tables import interval, spread
from paper.training import FAMILIES


def text(found: dict[str, dict[str, Any]]) -> str:
    """Returns the summary of the parts that have been run, by their names."""
    told = [line for part, tell in _PARTS.items() if part in found for line in tell(found[part])]
    return "\n".join(["## In short", "", *(f"* {line}" for line in told), ""])


def _digit(found: dict[str, Any]) -> list[str]:
    lines = []
    if found["golden"] is not None:
        values = found["golden"].values()
        right = sum(abs(x["here"] - x["published"]) <= x["tolerance"] for x in values)
        lines.append(
            f"**The published numbers come out.** Of the {len(values)} values that need no model, "
            f"{right} agree with ours to the digit or to rounding."
        )
    models = found["models"]
    errors = "; ".join(f"{f}: {_error(found['dataset'], f, models[f])}" for f in FAMILIES)
    lines.append(f"**Models that were trained again** have these test L1 errors: {errors}.")
    return lines


def _error(dataset: str, family: str, models: list[dict[str, Any]]) -> str:
    first = models[0]
    there = spread([published.test_l1(dataset, family, first["bottleneck"])], 3)
    here = spread([model["test L1"] for model in models], 4)
    return (
        f"{here} after {first['epochs']} epochs of {first['images']:,} images, published {there}"
    )


def _honest(found: dict[str, Any]) -> list[str]:
    controls, rows = found["controls"], rows_of(found)
    noise, shuffled = (controls[name]["paper"]["value"] for name in (FAINT, SHIFTED))
    errors = " and ".join(
        f"{interval(rows[f'{family} autoencoder']['l1'], 4)} ({family})" for family in FAMILIES
    )
    return [
        f"**The paper's relative entropy is no loss.** It gives noise that no eye can see "
        f"{noise:.2f} nats, and images in the wrong order {shuffled:.2f}.",
        "**Do INNs lose information?** Their layers do not; zero-padding does, and the mean "
        f"absolute error tells how much: {errors}.",
        f"**Do they lose it at a more constant rate?** {conclusions.rate(found)}",
    ]


def _companion(found: dict[str, Any]) -> list[str]:
    return [f"**Are INNs better at most sizes of the code?** {companion.better(found)}"]


def _checks(found: dict[str, Any]) -> list[str]:
    violated, steps = inequalities.violations(found["inequalities"]["families"])
    return [
        "**No estimate in so many dimensions can tell.** Matrix Rényi information rises along "
        f"layers where it must not, at {violated} of {steps} steps, and what trained bounds find "
        "depends on the bound."
    ]


_PARTS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "digit": _digit,
    "honest": _honest,
    "companion": _companion,
    "checks": _checks,
}
