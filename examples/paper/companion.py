"""The claims of the paper's companion, Nguyen, Ardizzone & Köthe (2019).

They claim that invertible autoencoders, compared with classical ones, give better reconstructions
at most sizes of the bottleneck, and need fewer epochs of training and fewer trainable parameters.
Here both families are trained at several sizes on a short schedule. The models of the other parts,
trained on the long schedule, show how the loss falls with the epochs. All results are shown beside
the published curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from autoencoders import timed_fit
from drawing import tidy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor

from paper.figures import COLOURS, DATASETS
from paper.plan import Plan
from paper.published import PUBLISHED
from paper.tables import spread, table
from paper.training import BUILDERS, FAMILIES, SCHEDULES, load, test_l1

#: The sweep has the published sizes, and short schedules of many small steps. An epoch of the
#: classical model takes a small part of the time of the invertible one, so it gets more of them.
SIZES = {"mnist": (8, 12, 16, 24, 32, 48, 64), "cifar10": ()}
IMAGES, SEED = 8000, 0
SHORT = {
    "invertible": replace(
        SCHEDULES["mnist", "invertible"],
        epochs=3,
        batch_size=16,
        learning_rate=2e-3,
        milestones=(2,),
    ),
    "classical": replace(
        SCHEDULES["mnist", "classical"], epochs=45, batch_size=64, milestones=(30,)
    ),
}

Models = dict[str, list[dict[str, Any]]]


def run(plan: Plan) -> dict[str, Any]:
    """Trains both families at every size, and describes these models and those of the plan."""
    data = load(plan.dataset, plan.data_root, "train")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    chosen = data[order[: min(IMAGES, plan.images or IMAGES)]]
    sweep: Models = {family: [] for family in FAMILIES}
    for size in SIZES[plan.dataset]:
        for family in FAMILIES:
            sweep[family].append({"size": size, **_kept(plan, family, size, chosen)})
    full: Models = {
        family: [
            {
                "size": plan.bottleneck,
                "images": trained.n_images,
                "epochs": trained.schedule.epochs,
                "history": trained.history,
                "seconds": trained.seconds,
                "test L1": trained.test_l1,
            }
            for trained in plan.models(family)
        ]
        for family in FAMILIES
    }
    return {
        "dataset": plan.dataset,
        "sweep": sweep,
        "full": full,
        "parameters": _parameters(),
    }


def _kept(plan: Plan, family: str, size: int, images: Tensor) -> dict[str, Any]:
    """Trains one model of the sweep, or reads what an earlier run found."""
    schedule = SHORT[family]
    source = "" if plan.data_root is not None else "-embedded"
    name = (
        f"sweep-{plan.dataset}{source}-{family}-b{size}-n{len(images)}-e{schedule.epochs}-s{SEED}"
    )

    def train() -> dict[str, Any]:
        torch.manual_seed(SEED)
        model = BUILDERS[plan.dataset, family](size)
        checkpoint = plan.artifacts / f"{name}.safetensors"
        history, seconds = timed_fit(model, images, schedule, SEED, checkpoint)
        return {
            "images": len(images),
            "epochs": schedule.epochs,
            "history": history,
            "seconds": seconds,
            "test L1": test_l1(model.eval(), load(plan.dataset, plan.data_root, "test")),
        }

    return plan.kept(name, train)


def _parameters() -> dict[str, dict[str, Any]]:
    """Counts the trainable parameters at the published sizes, for both data sets."""
    return {
        dataset: {
            # The parameters of the invertible model do not depend on the size of the code.
            "invertible": _count(dataset, "invertible", 1),
            "classical": {
                size: _count(dataset, "classical", int(size))
                for size in PUBLISHED[dataset]["classical"]["test_l1"]
            },
        }
        for dataset in DATASETS
    }


def _count(dataset: str, family: str, size: int) -> int:
    with torch.random.fork_rng(devices=[]):  # the weights are drawn, but not used
        model = BUILDERS[dataset, family](size)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def figure(found: dict[str, Any], path: Path) -> None:
    """Draws errors by size beside the published ones, losses by epoch, and parameters."""
    panels = [_by_size, _by_epoch, _by_parameters]
    if found["sweep"]["invertible"]:
        panels.insert(1, _by_size_in_short)
    drawn, places = pyplot.subplots(
        *(2, 2) if len(panels) == 4 else (1, 3),
        figsize=(12, 9) if len(panels) == 4 else (15.5, 4.9),
        layout="constrained",
    )
    for ax, panel in zip(places.flat, panels, strict=True):
        panel(ax, found)
        tidy(ax)
    if len(panels) == 4:
        top = max(ax.get_ylim()[1] for ax in places[0])
        for ax in places[0]:
            ax.set_ylim(0, top)
    drawn.savefig(path, dpi=130)
    pyplot.close(drawn)


def _by_size(ax: Axes, found: dict[str, Any]) -> None:
    """Draws the published errors, and those of our models on the same schedule."""
    for family, marker in zip(FAMILIES, "os", strict=True):
        colour, published, full = COLOURS[family], _published(found, family), found["full"][family]
        ax.plot(
            list(published),
            list(published.values()),
            color=colour,
            linestyle=":",
            marker=marker,
            markerfacecolor="white",
            label=f"{family}, published",
        )
        ax.plot(
            [m["size"] for m in full],
            [m["test L1"] for m in full],
            color=colour,
            linestyle="none",
            marker="*",
            markersize=13,
            markeredgecolor="white",
            label=f"{family}, here: {_schedule(full[0])}",
        )
    sizes = {size for family in FAMILIES for size in _published(found, family)}
    _errors_axis(ax, sorted(sizes), f"Reconstruction error, {DATASETS[found['dataset']]}")


def _by_size_in_short(ax: Axes, found: dict[str, Any]) -> None:
    """Draws the errors of the sweep, which has a shorter schedule."""
    for family, marker in zip(FAMILIES, "os", strict=True):
        sweep = found["sweep"][family]
        ax.plot(
            [m["size"] for m in sweep],
            [m["test L1"] for m in sweep],
            color=COLOURS[family],
            marker=marker,
            label=f"{family}: {_schedule(sweep[0])}",
        )
    sizes = [m["size"] for m in found["sweep"]["invertible"]]
    _errors_axis(ax, sizes, "The same on a short schedule")


def _errors_axis(ax: Axes, sizes: Sequence[int], title: str) -> None:
    _sizes_axis(ax, sizes)
    ax.set_ylim(0, 1.45 * ax.dataLim.y1)
    ax.set_ylabel("test L1")
    ax.set_title(title)
    ax.legend(frameon=False, fontsize=8.5, loc="upper right")


def _by_epoch(ax: Axes, found: dict[str, Any]) -> None:
    for family in FAMILIES:
        for i, m in enumerate(found["full"][family]):
            ax.plot(
                range(1, len(m["history"]) + 1),
                m["history"],
                color=COLOURS[family],
                marker="o",
                markersize=3.5,
                alpha=0.8,
                label=None if i else f"{family}: {_schedule(m)}",
            )
    longest = max(m["epochs"] for family in FAMILIES for m in found["full"][family])
    _plain_log(ax, [epoch for epoch in (1, 2, 5, 10, 20, 50, 100) if epoch <= longest])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("epoch")
    ax.set_ylabel("mean training loss of the epoch")
    ax.set_title(f"Training, bottleneck {found['full']['invertible'][0]['size']}")
    ax.legend(frameon=False, fontsize=9)


def _by_parameters(ax: Axes, found: dict[str, Any]) -> None:
    shown: set[int] = set()
    for (dataset, counts), marker in zip(found["parameters"].items(), "os", strict=True):
        sizes = [int(size) for size in counts["classical"]]
        shown |= set(sizes)
        ax.plot(
            sizes,
            [count / counts["invertible"] for count in counts["classical"].values()],
            color=COLOURS["classical"],
            marker=marker,
            label=f"classical, {DATASETS[dataset]}",
        )
    ax.axhline(1, color=COLOURS["invertible"], label="invertible, any size")
    _sizes_axis(ax, sorted(shown - {12, 24, 48}))
    ax.set_ylim(bottom=0)
    ax.set_ylabel("relative to the invertible model")
    ax.set_title("Trainable parameters")
    ax.legend(frameon=False, fontsize=9, loc="lower right")


def _sizes_axis(ax: Axes, sizes: Sequence[int]) -> None:
    _plain_log(ax, sizes)
    ax.set_xlabel("size of the bottleneck")


def _plain_log(ax: Axes, ticks: Sequence[int]) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([str(tick) for tick in ticks])


def page(found: dict[str, Any]) -> str:
    """Writes the section of the page, with all of its numbers from what was found."""
    parts = [
        f"## The companion claims, {DATASETS[found['dataset']]}",
        "The figure shows the test L1 of Nguyen, Ardizzone & Köthe's autoencoders. The published "
        "values were read off their figure to 0.001. The stars are the models of the other parts.",
    ]
    if found["sweep"]["invertible"]:
        parts.append(
            "The models of our sweep (second panel) saw far fewer images, so their errors are "
            "larger than the published ones; compare the two families, not the two panels."
        )
    parts += [_better(found), _epochs(found), _fewer_parameters(found)]
    return "\n\n".join(parts) + "\n"


def details(found: dict[str, Any]) -> str:
    """Writes how the sweep was trained, and all of its errors; nothing if there was none."""
    if not found["sweep"]["invertible"]:
        return ""
    title = "## The sweep over sizes of the code"
    return f"{title}\n\n{_reduced(found)}\n\n{_table(found)}\n"


def _reduced(found: dict[str, Any]) -> str:
    told = " and ".join(
        f"{_schedule(found['sweep'][family][0])} in batches of {SHORT[family].batch_size} at a "
        f"learning rate of {SHORT[family].learning_rate:g} for the {family} models (published: "
        f"{SCHEDULES[found['dataset'], family].epochs} epochs of all images)"
        for family in FAMILIES
    )
    return f"The sweep uses a **reduced schedule**, with seed {SEED}: {told}."


def _table(found: dict[str, Any]) -> str:
    rows = []
    for pair in zip(*(found["sweep"][family] for family in FAMILIES), strict=True):
        row = [str(pair[0]["size"])]
        for family, m in zip(FAMILIES, pair, strict=True):
            known = _published(found, family).get(m["size"])
            row += [f"{m['test L1']:.4f}", "–" if known is None else f"{known:.3f}"]
        rows.append(row)
    return table(
        ["bottleneck", *(f"{f}, {w}" for f in FAMILIES for w in ("here", "published"))], rows
    )


def better(found: dict[str, Any]) -> str:
    """Tells at how many sizes the invertible model has the smaller error, there and here."""
    told = [("in the published curves", {f: _published(found, f) for f in FAMILIES})]
    if found["sweep"]["invertible"]:
        told.append(("in our short sweep", _swept(found)))
    sizes = " and ".join(f"{where} {_wins(errors).partition(' (')[0]}" for where, errors in told)
    return f"They have the smaller error {sizes}."


def _swept(found: dict[str, Any]) -> dict[str, dict[int, float]]:
    return {f: {m["size"]: m["test L1"] for m in found["sweep"][f]} for f in FAMILIES}


def _better(found: dict[str, Any]) -> str:
    there = {family: _published(found, family) for family in FAMILIES}
    published = (
        f"In the published curves, the invertible model has the smaller error {_wins(there)}. "
        f"From the smallest size to the largest, its error falls by a factor of "
        f"{_gain(there['invertible']):.2f}, and that of the classical model by a factor of "
        f"{_gain(there['classical']):.2f}."
    )
    here = _swept(found)
    ours = (
        f"Here, the invertible model has the smaller error {_wins(here)}, and the factors are "
        f"{_gain(here['invertible']):.2f} and {_gain(here['classical']):.2f}. These models have "
        "one seed each; on the long schedule, the errors of classical models of one size differ "
        f"by {_seeds_apart(found):.4f} between seeds."
        if here["invertible"]
        else "Here only one size was trained."
    )
    return f"**Better at most sizes?** {published} {ours}"


def _seeds_apart(found: dict[str, Any]) -> float:
    errors: list[float] = [m["test L1"] for m in found["full"]["classical"]]
    return max(errors) - min(errors)


def _wins(errors: dict[str, dict[int, float]]) -> str:
    invertible, classical = errors["invertible"], errors["classical"]
    won = [str(size) for size in invertible if invertible[size] < classical[size]]
    which = f" ({', '.join(won)})" if won else ""
    return f"at {len(won)} of {len(invertible)} sizes{which}"


def _epochs(found: dict[str, Any]) -> str:
    """Compares the models of the first seeds on the long schedule."""
    invertible, classical = (found["full"][family][0] for family in FAMILIES)
    goal = invertible["history"][-1]
    matched = (e for e, loss in enumerate(classical["history"], 1) if loss <= goal)
    epoch = next(matched, None)
    when = (
        f"reaches this loss first in epoch {epoch}"
        if epoch
        else f"reaches this loss in none of its {classical['epochs']} epochs"
    )
    errors = " and ".join(
        f"{spread([m['test L1'] for m in found['full'][family]], 4)} ({family}, after "
        f"{_schedule(found['full'][family][0])})"
        for family in FAMILIES
    )
    text = (
        f"**Fewer epochs?** With a code of {invertible['size']} entries and "
        f"{_schedule(invertible)}, the first invertible model ends with a training loss of "
        f"{goal:.4f}; the first classical model {when}. (The loss of the invertible model also "
        "counts what the code leaves out.) The test L1 at the end, over the seeds, is "
        f"{errors}."
    )
    timed = [
        (a, b)
        for models in (found["full"], found["sweep"])
        for a, b in zip(*(models[family] for family in FAMILIES), strict=False)
        if a["seconds"] and b["seconds"]
    ]
    if not timed:
        return text
    costs = [m["seconds"] / (m["epochs"] * m["images"]) * 1e3 for m in timed[0]]
    return (
        f"{text} But an epoch is no unit of work: an image takes {costs[0]:.3g} ms in the "
        f"invertible model and {costs[1]:.2g} ms in the classical one, a ratio of "
        f"{costs[0] / costs[1]:.2g}."
    )


def _fewer_parameters(found: dict[str, Any]) -> str:
    said = []
    for dataset, counts in found["parameters"].items():
        invertible, classical = counts["invertible"], counts["classical"]
        (first, fewest), (last, most) = next(iter(classical.items())), list(classical.items())[-1]
        fewer = sum(invertible < count for count in classical.values())
        said.append(
            f"On {DATASETS[dataset]}, the invertible model has {invertible:,} trainable "
            "parameters at any size of the bottleneck; the classical model has "
            f"{fewest:,} at size {first} to {most:,} at size {last}. The invertible model has "
            f"fewer at {fewer} of the {len(classical)} published sizes."
        )
    return f"**Fewer parameters?** {' '.join(said)}"


def _schedule(model: dict[str, Any]) -> str:
    epochs = "1 epoch" if model["epochs"] == 1 else f"{model['epochs']} epochs"
    return f"{epochs} of {model['images']:,} images"


def _published(found: dict[str, Any], family: str) -> dict[int, float]:
    values = PUBLISHED[found["dataset"]][family]["test_l1"]
    return {int(size): value for size, value in values.items()}


def _gain(errors: dict[int, float]) -> float:
    return errors[min(errors)] / errors[max(errors)]
