"""Asks the paper's questions again, with measures that mean what they say."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import infoprobe as ip
from paper import digit, honest_figure, honest_page
from paper.controls import FINE, PAIRS, RENYI, compared, controls, interval
from paper.digit import MEMORY, PAPER, batches, probed_layers
from paper.plan import Plan
from paper.published import PLACES
from paper.training import FAMILIES, Trained, labelled

figure, page = honest_figure.figure, honest_page.page
details = honest_page.details

#: Each binned vector of a layer is one symbol: their entropy shows whether images are confused.
SYMBOLS = replace(FINE, over="samples", pseudocount=0.0)
#: The decoder's Jacobian is taken at this number of codes divided by the square of their size,
#: since the time that one Jacobian takes grows with that square.
JACOBIANS = 10_000
KNN = ip.KNN()
CODES = {name: ip.KNN(calibration=name) for name in ("gaussian", "copula")}


def run(plan: Plan) -> dict[str, Any]:
    """Measures the controls, and every model by every measure."""
    images, labels = labelled(plan.dataset, plan.data_root, "test")
    images, labels = images[: plan.measured], labels[: plan.measured]
    x = images / 255
    source = "" if plan.data_root else "-embedded"
    return {
        "dataset": plan.dataset,
        "measured": len(x),
        "d": x[0].numel(),
        "bottleneck": plan.bottleneck,
        "mechanism": _mechanism(x),
        "paper": digit.run(plan)["models"],
        "controls": plan.kept(f"{plan.dataset}{source}-controls-{len(x)}", lambda: controls(x)),
        "models": {
            family: [_kept(plan, trained, images, labels) for trained in plan.models(family)]
            for family in FAMILIES
        },
    }


def _mechanism(x: Tensor) -> dict[str, float]:
    """Returns what the paper's divergence of images from anything smooth is made of."""
    zeros, n = float((x == 0).double().mean()), x.numel()
    return {
        "values": n,
        "zeros": zeros,
        "levels": len(torch.unique(x)),
        # The first bin of a reconstruction holds its most negative value and one pseudo-count.
        "atom": zeros * math.log(zeros * n / 2),
        "ceiling": math.log(n + PAPER.bins) - float(PAPER.entropy(x)),
    }


def _kept(plan: Plan, trained: Trained, images: Tensor, labels: Tensor) -> dict[str, Any]:
    name = f"{trained.name}-honest-{len(images)}"
    return {"seed": trained.seed} | plan.kept(name, lambda: _measured(trained, images, labels))


def _measured(trained: Trained, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Measures all that is asked about one model."""
    x = images / 255
    found = _layers(trained, x)
    with torch.no_grad():
        code = torch.cat([trained.model.encode(batch) for batch in torch.split(x, 100)])
    found |= {"code": _code(code, labels), "decoder": _decoder(trained.model, code)}
    if trained.family == "invertible":
        found |= _ledger(trained.model, images)
    return found


def _layers(trained: Trained, x: Tensor) -> dict[str, Any]:
    """Measures shared bins, symbols and matrices along the layers, and from end to end."""
    measures: list[ip.Entropy | ip.Divergence | ip.MutualInformation] = [
        ip.Entropy(FINE),
        ip.Divergence(FINE, reference="previous"),
        ip.Entropy(SYMBOLS, samples=len(x)),
        ip.MutualInformation(RENYI, samples=PAIRS),
    ]
    layers = probed_layers(trained)
    with ip.probe(trained.model, layers, measures, memory=MEMORY) as probe, torch.no_grad():
        y = torch.cat([trained.model(batch) for batch in batches(x, trained.name)])
    values = {
        (row["layer"], row["direction"], row["measure"], row["estimator"]): row["value"]
        for row in probe.report().rows
    }

    def along(measure: str, estimator: Any) -> list[float | None]:
        places = PLACES[trained.dataset, trained.family]
        return [values.get((p.layer, p.direction, measure, repr(estimator))) for p in places]

    return {
        "entropy, shared bins": along("entropy", FINE),
        "relative entropy, shared bins": along("divergence", FINE),
        "symbols": along("entropy", SYMBOLS),
        "I, matrix Rényi": along("mutual_information", RENYI),
        "reconstruction": compared(x, y),
    }


def _code(code: Tensor, labels: Tensor) -> dict[str, Any]:
    """Measures what nearest neighbours can and cannot tell about the code."""
    gaussian = ip.Gaussian() if len(code) > code.shape[1] else ip.Gaussian("ledoit-wolf")
    return {
        "d": code.shape[1],
        "findings": [
            f"{finding.severity}: {finding.argument}: {finding.what}"
            for finding in ip.diagnose(code, KNN)
        ],
        "h, k-NN": _unless_refused(KNN, code),
        "h, calibrated": {
            name: _unless_refused(estimator, code) for name, estimator in CODES.items()
        },
        "h, Gaussian": float(gaussian.entropy(code)),
        "I(code; class)": interval(KNN.mutual_information, code, labels),
    }


def _unless_refused(estimator: ip.KNN, code: Tensor) -> float | None:
    """Returns the entropy, or ``None`` if the estimator refuses the data."""
    try:
        return float(estimator.entropy(code))
    except ValueError:  # ties, or too few samples
        return None


def _decoder(model: Any, code: Tensor) -> dict[str, Any]:
    """Measures what the decoder adds to the code's entropy: 1/2 E ln det J^T J, in float64."""
    few = max(4, min(100, JACOBIANS // code.shape[1] ** 2, len(code)))
    decode = copy.deepcopy(model).double().decode
    spectrum = ip.jacobian_spectrum(decode, code[:few].double(), batch_size=64)
    volumes = spectrum.log_volume[spectrum.log_volume.isfinite()]
    return {
        "codes": few,
        "singular": few - len(volumes),
        "value": float(volumes.mean()) if len(volumes) else None,
        "stderr": float(volumes.std() / math.sqrt(len(volumes))) if len(volumes) > 1 else None,
        "rank": float(spectrum.rank.double().mean()),
    }


def _ledger(model: Any, images: Tensor) -> dict[str, Any]:
    """Measures the exact change of entropy of each layer, and what zero-padding drops."""
    x = ip.dequantize(images, generator=torch.Generator().manual_seed(0))
    with ip.probe(model.inn, measures=ip.EntropyChange()) as probe, torch.no_grad():
        for batch in tqdm(torch.split(x, 100), desc="exact ledger", unit="batch"):
            model.inn(batch)
    ledger = probe.report().ledger()
    whole = ip.entropy_change(model.inn, x)
    account = ip.bottleneck_account(model, x)
    return {
        "ledger": {row["layer"]: [row["exact"], row["stderr"]] for row in ledger.rows},
        "whole network": [float(whole.value), float(whole.stderr)],
        "bottleneck": {
            "dropped": account.dropped,
            "energy share": account.energy_share,
            "entropy bound": account.entropy_bound,
            "bound from": account.bound_from,
            "L1": account.l1,
            "L1 without padding": account.inversion_l1,
        },
    }
