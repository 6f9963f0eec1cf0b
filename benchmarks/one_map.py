"""Measures the errors of KL divergences through one map for both distributions, or one for each.

pip install -e .
python benchmarks/one_map.py --out docs/transport/one_map.json

A bijection does not change KL divergence, so one map for both distributions would suffice. But
then this one map has to suit both, whatever it is fitted to. Errors are in nats.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accuracy import autoregressive, banana, gaussian, laplace, scaled
from timing import about, write
from torch import Tensor

import infoprobe as ip
from infoprobe.estimators.transport.folds import split
from infoprobe.estimators.transport.transport import Transport

D = 20
RESIDUAL = ip.KNN(calibration="gaussian")
GAUSSIANIZATION, FLOW = ip.Gaussianization(residual=RESIDUAL), ip.Flow(residual=RESIDUAL)
#: What a single map is fitted to.
ONE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one map, pooled data": lambda p, q: torch.cat([p, q]),
    "one, of P": lambda p, _: p,
    "one, of Q": lambda _, q: q,
}

Pair = tuple[Tensor, Tensor, float]


def gaussians(generator: torch.Generator) -> Pair:
    (p, q), truth = scaled(D, generator)
    return p, q, truth


def wider_laplace(generator: torch.Generator) -> Pair:
    ((p,), _), ((q,), _) = laplace(D, generator), laplace(D, generator)
    return p, 1.5 * q, D * (math.log(1.5) + 1 / 1.5 - 1)


def shifted_laplace(generator: torch.Generator) -> Pair:
    ((p,), _), ((q,), _) = laplace(D, generator), laplace(D, generator)
    return p, q + 0.5, D * (0.5 + math.exp(-0.5) - 1)


def correlated_gaussian(generator: torch.Generator) -> Pair:
    ((p,), entropy), ((q,), most) = autoregressive(D, generator), gaussian(D, generator)
    return p, q, most - entropy


def wider_bananas(generator: torch.Generator) -> Pair:
    ((p,), _), ((q,), _) = banana(D, generator), banana(D, generator)
    s = 1.2
    # The map that makes q Gaussian takes p to u / s and v / s + (1 / s - 1 / s ** 2) u ** 2.
    squares = 2 / s**2 + 3 * (1 / s - 1 / s**2) ** 2
    return p, s * q, D / 2 * (squares / 2 - 1 + 2 * math.log(s))


#: The data, the estimator and the seeds: a flow takes ten times as long.
PAIRS: dict[str, tuple[Callable[[torch.Generator], Pair], Transport, int]] = {
    "Gaussians, 1 and 1.5 wide": (gaussians, GAUSSIANIZATION, 3),
    "Laplace, 1 and 1.5 wide": (wider_laplace, GAUSSIANIZATION, 3),
    "Laplace, shifted by 0.5": (shifted_laplace, GAUSSIANIZATION, 3),
    "correlated 0.9, independent": (correlated_gaussian, GAUSSIANIZATION, 3),
    "bananas, 1 and 1.2 wide": (wider_bananas, FLOW, 2),
}


def through_one(
    estimator: Transport, p: Tensor, q: Tensor, data: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Estimates the divergence of each fold carried by a map that is fitted to the other folds."""
    values = []
    for i, fold in enumerate(split([p], estimator.folds, estimator.seed)):
        with torch.no_grad():
            fitted = estimator.fit_map(
                data(p[fold.fit], q[fold.fit]), data(p[fold.stop], q[fold.stop]), i
            )
            carried = [fitted(x[fold.measure].double())[0] for x in (p, q)]
        values.append(float(RESIDUAL.kl_divergence(*carried)))
    return statistics.mean(values)


def values(estimator: Transport, p: Tensor, q: Tensor) -> dict[str, float]:
    """Estimates the divergence by each choice of maps."""
    return {
        "no map": float(RESIDUAL.kl_divergence(p, q)),
        **{name: through_one(estimator, p, q, data) for name, data in ONE.items()},
        "two": float(estimator.kl_divergence(p, q)),
    }


def main() -> None:
    """Prints the mean errors, and writes all values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    for name, (make, estimator, seeds) in PAIRS.items():
        for seed in range(seeds):
            p, q, truth = make(torch.Generator().manual_seed(seed))
            found = values(estimator, p, q)
            rows.append({"data": name, "seed": seed, "truth": truth, "n": len(p), **found})
        own = [row for row in rows if row["data"] == name]
        errors = {
            choice: statistics.mean(row[choice] - row["truth"] for row in own) for choice in found
        }
        told = ", ".join(f"{choice} {error:+.2f}" for choice, error in errors.items())
        print(f"{name}: truth {truth:.2f}; {told}", flush=True)
    write(arguments.out, {"about": about(arguments.threads), "d": D, "values": rows})


if __name__ == "__main__":
    main()
