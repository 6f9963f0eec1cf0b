"""What the paper's references would check: data processing inequalities, and trained bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from paper import bounds, inequalities
from paper.plan import Plan
from paper.training import FAMILIES, load


def run(plan: Plan) -> dict[str, Any]:
    """Makes both checks, of the first model of each family."""
    test = load(plan.dataset, plan.data_root, "test") / 255
    split, shown = "test", test
    if len(test) < bounds.ENOUGH:
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
        "inequalities": inequalities.run(plan, models, test),
        "bounds": {"split": split, **bounds.run(plan, models, shown)},
    }


def figure(found: dict[str, Any], path: Path) -> None:
    """Draws the inequalities and, in a figure of its own beside this one, the bounds."""
    for draw, size, name in (
        (inequalities.draw, (17, 8.7), path.name),
        (bounds.draw, (14, 5.8), "bounds.png"),
    ):
        drawn = pyplot.figure(figsize=size, layout="constrained")
        draw(drawn, found)
        drawn.savefig(path.with_name(name), dpi=110)
        pyplot.close(drawn)


def page(found: dict[str, Any]) -> str:
    """Writes the section of the page, with all of its numbers from what was found."""
    models = " and ".join(
        f"the {family} one (epochs: {model['epochs']}, images: {model['images']:,}, test L1 "
        f"{model['test L1']:.4f})"
        for family, model in found["models"].items()
    )
    bottleneck = found["models"][FAMILIES[0]]["bottleneck"]
    head = f"These are checks of the autoencoders with a bottleneck of {bottleneck}: {models}."
    parts = [
        "## The references' checks",
        head,
        *inequalities.section(found),
        *bounds.section(found),
    ]
    return "\n\n".join(parts) + "\n"


def details(found: dict[str, Any]) -> str:
    """Writes all violations of the inequalities, and all bounds."""
    parts = [
        "## The references' checks in numbers",
        *inequalities.details(found),
        *bounds.details(found),
    ]
    return "\n\n".join(parts) + "\n"
