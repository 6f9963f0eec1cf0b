"""Measures the cost of the estimators, relative to peers and to the least work that is needed.

pip install -e ".[benchmarks]"
python benchmarks/estimators.py --out docs/benchmarks/estimators.json
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import ennemi
import infomeasure
import npeet_plus
import torch
from scipy.spatial import cKDTree
from sklearn.feature_selection import mutual_info_regression
from sklearn.neighbors import NearestNeighbors
from timing import about, ratios, table, write
from torch import Tensor

import infoprobe as ip

K = 3
Contenders = dict[str, Callable[[], object]]
KNN = ip.KNN(k=K)
CHEBYSHEV = ip.KNN(k=K, metric="chebyshev")
infomeasure_of = {
    name: functools.partial(getattr(infomeasure, name), approach=approach, k=K, noise_level=0)
    for name, approach in [("entropy", "kl"), ("kld", "kl"), ("mutual_information", "ksg")]
}


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def entropy(n: int, d: int) -> Contenders:
    x = gaussian(n, d)
    wide = x.double().numpy()
    tree = cKDTree(wide)
    brute = NearestNeighbors(n_neighbors=K, algorithm="brute")
    contenders: Contenders = {"ip.KNN().entropy": lambda: KNN.entropy(x)}
    if d <= 2:
        contenders["scipy cKDTree.query alone"] = lambda: tree.query(wide, K + 1)
    if d >= 20:
        contenders["one n x n matrix product"] = lambda: x @ x.T
        contenders["scikit-learn brute force"] = lambda: brute.fit(x.numpy()).kneighbors()
    if d < 784 or n <= 3000:
        contenders["infomeasure"] = lambda: infomeasure_of["entropy"](wide, minkowski_p=2)
        contenders["NPEET-plus (Chebyshev)"] = lambda: npeet_plus.entropy(wide, k=K)
    return contenders


def divergence(n: int, d: int) -> Contenders:
    p, q = gaussian(n, d), 1.5 * gaussian(n, d, seed=1)
    a, b = p.double().numpy(), q.double().numpy()
    return {
        "ip.KNN().kl_divergence": lambda: KNN.kl_divergence(p, q),
        "infomeasure": lambda: infomeasure_of["kld"](a, b, minkowski_p=2),
    }


def information(n: int, d: int) -> Contenders:
    x = gaussian(n, d)
    y = 0.6 * x + 0.8 * gaussian(n, d, seed=1)
    a, b = x.double().numpy(), y.double().numpy()
    contenders: Contenders = {
        "ip.KNN().mutual_information": lambda: KNN.mutual_information(x, y),
        "ip.KNN(Chebyshev).mutual_information": lambda: CHEBYSHEV.mutual_information(x, y),
        "NPEET-plus": lambda: npeet_plus.mi(a, b, k=K),
        "infomeasure": lambda: infomeasure_of["mutual_information"](a, b),
    }
    if d == 1:
        contenders["scikit-learn"] = lambda: mutual_info_regression(
            a, b[:, 0], n_neighbors=K, random_state=0
        )
        contenders["ennemi"] = lambda: ennemi.estimate_mi(b[:, 0], a[:, 0], k=K)
    return contenders


CASES: dict[str, tuple[Callable[[int, int], Contenders], int, int, int]] = {
    "entropy, n=10,000, d=784": (entropy, 10_000, 784, 7),
    "entropy, n=3,000, d=784": (entropy, 3_000, 784, 3),
    "entropy, n=10,000, d=20": (entropy, 10_000, 20, 5),
    "entropy, n=10,000, d=2": (entropy, 10_000, 2, 25),
    "divergence, n=m=10,000, d=20": (divergence, 10_000, 20, 3),
    "mutual information, n=10,000, d=1+1": (information, 10_000, 1, 15),
    "mutual information, n=10,000, d=10+10": (information, 10_000, 10, 3),
}


def main() -> None:
    """Prints the ratios, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for case, (make, n, d, rounds) in CASES.items():
        if arguments.only in case:
            results[case] = ratios(make(n, d), rounds)
            print(table("float32, k=3, 1 thread", {case: results[case]}), end="\n\n", flush=True)
    write(arguments.out, {"about": about(1), "ratios": results})


if __name__ == "__main__":
    main()
