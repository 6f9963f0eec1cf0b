"""Reproduces Callahan & Paskett (2021), and then asks their questions again, honestly.

The script trains the invertible and the classical autoencoder of Nguyen, Ardizzone & Köthe (2019)
on their schedules, measures each layer by the paper's definition beside the published points, and
answers the paper's questions with measures that mean what they say.

    python examples/reproduce_paper.py --dataset mnist --data-root ~/data
    python examples/reproduce_paper.py --dataset mnist --only-train invertible --seed 0

A run that was stopped continues where it was: weights, and what was measured for each model, are
kept in --artifacts (delete artifacts/measured to measure again). Figures, numbers and the page are
written to --out at the end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from paper import pages
from paper.figures import DATASETS
from paper.plan import MEASURED, Plan
from paper.training import FAMILIES, SCHEDULES, load

# For MNIST, the paper's codes have 20 entries. For CIFAR-10, the paper does not give the number:
# of the sizes 1 to 1,024 in Nguyen et al.'s sweep we take 256, the smallest at which their INN has
# clearly the smaller error.
BOTTLENECKS = {"mnist": 20, "cifar10": 256}
# The published epochs, except for the classical model on CIFAR-10: its 100 epochs take hours for
# each seed.
EPOCHS = {key: schedule.epochs for key, schedule in SCHEDULES.items()} | {
    ("cifar10", "classical"): 40
}
SEEDS = {"invertible": [0, 1], "classical": [0, 1, 2]}


def main(arguments: list[str] | None = None) -> None:
    """Runs the reproduction with these arguments, or with those of the command line."""
    options, plan = _parse(arguments)
    if options.only_train:
        for seed in options.seed or plan.seeds[options.only_train]:
            trained = plan.model(options.only_train, seed)
            print(f"{trained.name}: test L1 {trained.test_l1:.4f}")
        return
    for part in options.part:
        found = pages.PARTS[part].run(plan)
        (plan.out / f"{part}.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{part}: {plan.out / part}.json")
    print(f"the page: {pages.write(plan)}")


def _parse(arguments: list[str] | None) -> tuple[argparse.Namespace, Plan]:
    """Returns the options and the plan, all checked before the long work begins."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--dataset", choices=["mnist", "cifar10"], required=True)
    add(
        "--data-root",
        type=Path,
        help="folder with the data sets; without it, MNIST is 5,000 images that need no files",
    )
    add(
        "--artifacts",
        type=Path,
        default=Path("artifacts"),
        help="folder of weights and of unfinished work; artifacts if not given",
    )
    add("--out", type=Path, help="folder to write into; docs/paper/DATASET if not given")
    add("--part", action="append", choices=pages.PARTS, help="only this part (may be repeated)")
    add("--only-train", choices=FAMILIES, help="train the models of this family and stop")
    add("--seed", type=int, action="append", help="with --only-train: only the model of this seed")
    add("--bottleneck", type=int, help="entries of a code; 20 for MNIST, 256 for CIFAR-10")
    add("--images", type=int, help="number of training images; all if not given")
    add(
        "--measured",
        type=int,
        default=MEASURED,
        help=f"number of test images to measure with, at least some dozens per class; {MEASURED} "
        "if not given",
    )
    for family in FAMILIES:
        epochs_help = ", ".join(f"{EPOCHS[d, family]} for {name}" for d, name in DATASETS.items())
        seeds_help = " ".join(map(str, SEEDS[family]))
        add(f"--{family}-epochs", type=int, help=f"epochs; {epochs_help} if not given")
        add(
            f"--{family}-seeds",
            type=int,
            nargs="+",
            default=SEEDS[family],
            help=f"seeds; {seeds_help} if not given",
        )
    options = parser.parse_args(arguments)
    options.part = options.part or list(pages.PARTS)
    epochs = {
        family: getattr(options, f"{family}_epochs") or EPOCHS[options.dataset, family]
        for family in FAMILIES
    }
    plan = Plan(
        dataset=options.dataset,
        data_root=options.data_root,
        artifacts=options.artifacts,
        out=options.out or Path("docs/paper") / options.dataset,
        bottleneck=options.bottleneck or BOTTLENECKS[options.dataset],
        images=options.images,
        measured=options.measured,
        epochs=epochs,
        seeds={family: getattr(options, f"{family}_seeds") for family in FAMILIES},
    )
    try:
        load(plan.dataset, plan.data_root, "test")
        plan.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return options, plan


if __name__ == "__main__":
    main()
