"""To the digit: the paper's own definition, on its images and on models that are trained here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import FrEIA.modules as fm
import torch
from torch import Tensor
from tqdm import tqdm

import infoprobe as ip
from paper import figures, published
from paper.plan import Plan
from paper.published import PLACES, PUBLISHED
from paper.tables import spread, table
from paper.training import FAMILIES, SCHEDULES, Trained

#: The definition of the published figures, recovered from them: 1,000 bins over each tensor's own
#: range, compared by their number, with one pseudo-count per bin.
PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)
#: The default of the published code, which fits the published table better.
HUNDRED = ip.Histogram(bins=100, range="own", pseudocount=1)

_TRAINING_IMAGES = {"mnist": 60_000, "cifar10": 50_000}
_VALUES = {"mnist": 784, "cifar10": 3072}  # in an image

#: Bytes for the values of all layers, which are kept: 4 GB per 1,000 images in the largest one.
MEMORY = 1 << 33


def run(plan: Plan) -> dict[str, Any]:
    """Measures the golden values, and our models at every published point."""
    x = plan.test_images()
    models = {
        family: [_kept(plan, trained, x) for trained in plan.models(family)] for family in FAMILIES
    }
    # The golden values are those of the first 1,000 test images of the real data set.
    golden = _golden(plan.dataset, x) if plan.data_root and len(x) == 1000 else None
    return {"dataset": plan.dataset, "measured": len(x), "golden": golden, "models": models}


def _golden(dataset: str, x: Tensor) -> dict[str, dict[str, float]]:
    (haar,) = fm.HaarDownsampling([x.shape[1:]])([x], jac=False)[0]
    here = {
        "H(input)": PAPER.entropy(x),
        "H(Haar(input))": PAPER.entropy(haar),
        "KL(input, Haar(input))": PAPER.kl_divergence(x, haar),
    }
    return {
        name: {
            "published": known["value"],
            "tolerance": known["tolerance"],
            "here": float(here[name]),
        }
        for name, known in PUBLISHED[dataset]["golden"].items()
    }


def _kept(plan: Plan, trained: Trained, x: Tensor) -> dict[str, Any]:
    measured = plan.kept(f"{trained.name}-digit-{len(x)}", lambda: _measured(trained, x))
    return {
        "seed": trained.seed,
        "bottleneck": plan.bottleneck,
        "epochs": trained.schedule.epochs,
        "images": trained.n_images,
        "seconds": trained.seconds,
        "test L1": trained.test_l1,
        **measured,
    }


def _measured(trained: Trained, x: Tensor) -> dict[str, Any]:
    """Measures entropy and relative entropy at each published place, and from end to end."""
    places = PLACES[trained.dataset, trained.family]
    measures: list[ip.Entropy | ip.Divergence] = [
        ip.Entropy(PAPER, samples=len(x)),
        ip.Divergence(PAPER, reference="previous", samples=len(x)),
    ]
    layers = probed_layers(trained)
    with ip.probe(trained.model, layers, measures, memory=MEMORY) as probe, torch.no_grad():
        y = torch.cat([trained.model(batch) for batch in batches(x, trained.name)])
    found = probe.report().scalars()
    entropy, divergence = (
        [found.get(f"{place.layer}/{place.direction}/{measure}") for place in places]
        for measure in ("entropy", "divergence_previous")
    )
    return {
        "entropy": [float(PAPER.entropy(x)), *entropy[1:]],
        "relative entropy": [None, *divergence[1:]],
        "KL(input, reconstruction)": float(PAPER.kl_divergence(x, y)),
        "KL(input, reconstruction), 100 bins": float(HUNDRED.kl_divergence(x, y)),
    }


def probed_layers(trained: Trained) -> list[str]:
    """Returns the layers of the published points, each once."""
    names = dict.fromkeys(place.layer for place in PLACES[trained.dataset, trained.family])
    # The classical models have no layer for their input.
    return [name for name in names if trained.family == "invertible" or name != "input"]


def batches(x: Tensor, description: str) -> Iterator[Tensor]:
    """Yields batches of the images, with a progress bar."""
    yield from tqdm(torch.split(x, 100), desc=f"measuring {description}", unit="batch")


def figure(found: dict[str, Any], path: Path) -> None:
    """Draws the paper's figures 3 and 4."""
    figures.layers(found, path)


def page(found: dict[str, Any]) -> str:
    """Writes the section of the page, with all of its numbers from what was found."""
    parts = [
        "## The published numbers",
        f"The definition of the published figures is `{PAPER!r}` on the first 1,000 test images: "
        "1,000 bins over each tensor's own range, which are compared by their number, with one "
        "pseudo-count per bin.",
    ]
    if found["golden"] is not None:
        parts.append(_golden_table(found["golden"]))
    parts += [_schedules(found), _end_to_end(found)]
    return "\n\n".join(parts) + "\n"


def details(found: dict[str, Any]) -> str:
    """Writes every published point beside ours."""
    return f"## Every published point\n\n{_points(found)}\n"


def _golden_table(golden: dict[str, dict[str, float]]) -> str:
    rows = [
        [name, f"{g['published']:.6f}", f"{g['here']:.6f}", _agrees(g)]
        for name, g in golden.items()
    ]
    return "### To the digit: values that need no model\n\n" + table(
        ["", "published", "here", ""], rows
    )


def _agrees(golden: dict[str, float]) -> str:
    agrees = abs(golden["here"] - golden["published"]) <= golden["tolerance"]
    return f"{'within' if agrees else 'NOT within'} {golden['tolerance']:g}"


def _schedules(found: dict[str, Any]) -> str:
    dataset = found["dataset"]
    rows = []
    for family, models in found["models"].items():
        first = models[0]
        rows.append(
            [
                family,
                str(first["bottleneck"]),
                f"{first['epochs']} of {first['images']:,} images",
                f"{SCHEDULES[dataset, family].epochs} of {_TRAINING_IMAGES[dataset]:,}",
                str(len(models)),
                spread([model["test L1"] for model in models], 4),
                spread([published.test_l1(dataset, family, first["bottleneck"])], 3),
            ]
        )
    head = ["", "bottleneck", "epochs", "published", "seeds", "test L1", "published L1"]
    return (
        "### Not to the digit: models trained here\n\n"
        "The weights were not published, so we trained models again. The "
        "published L1 is that of Nguyen et al., interpolated between the sizes of their "
        "sweep:\n\n" + table(head, rows)
    )


def _points(found: dict[str, Any]) -> str:
    """Writes every published point beside ours."""
    dataset = found["dataset"]
    share = found["models"]["invertible"][0]["bottleneck"] / _VALUES[dataset]
    blocks = [
        "Every published point stands beside our mean over the seeds (in brackets: lowest to "
        "highest). The published bottleneck of the invertible model cannot be a padded code: only "
        f"{share:.1%} of the entries of such a code are not zero, so its entropy is at most about "
        f"{_entropy_of_padded_code(share):.2f} nats. The published point must be of some dense "
        "vector; ours is of the padded code. The input of `fc⁻¹` here is that code after the "
        "inverse of `haar_up`."
    ]
    for family, models in found["models"].items():
        rows = []
        at = zip(
            PLACES[dataset, family],
            published.entropies(dataset, family),
            published.relative_entropies(dataset, family),
            zip(*(model["entropy"] for model in models), strict=True),
            zip(*(model["relative entropy"] for model in models), strict=True),
            strict=True,
        )
        for place, entropy, divergence, entropies, divergences in at:
            row = [place.label, f"{entropy:.4f}", spread(entropies, 4)]
            known = divergence is not None
            row += [f"{divergence:.4f}", spread(divergences, 4)] if known else ["–", "–"]
            rows.append(row)
        head = [f"{family}", "H published", "H here", "KL published", "KL here"]
        blocks.append(table(head, rows))
    return "\n\n".join(blocks)


def _entropy_of_padded_code(share: float) -> float:
    """Returns the greatest entropy of codes that are a share of all values, the rest being zeros.

    The pseudo-counts are neglected.
    """
    which = -share * math.log(share) - (1 - share) * math.log1p(-share)
    return which + share * math.log(PAPER.bins)


def _end_to_end(found: dict[str, Any]) -> str:
    rows = [
        [
            family,
            f"{PUBLISHED[found['dataset']]['table'][family]:.2f}",
            *(
                spread([model[key] for model in models], 2)
                for key in (
                    "KL(input, reconstruction)",
                    "KL(input, reconstruction), 100 bins",
                )
            ),
        ]
        for family, models in found["models"].items()
    ]
    return (
        "**From end to end**: KL(input, reconstruction). The published table may have used 100 "
        "bins, the default of the published code:\n\n"
        + table(["", "published", "here, 1,000 bins", "here, 100 bins"], rows)
    )
