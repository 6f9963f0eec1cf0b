r"""A lower bound of mutual information from few features, by nearest neighbours.

No function of two variables has more information than these: :math:`I(X; Y) \ge I(f(X); g(Y))`.
Where f and g choose one or two features each, nearest neighbours see dependence of any shape with
little bias. An estimate that is lower has missed what these share, such as a trained critic, whose
bound may be loose by any amount, or one that looks at tens of features together.

The features are those that share most with a single one of the other variable
(:mod:`~infoprobe.estimators.feature_pairs`); so of a product of two, each of which tells a little
of it, both are taken. A variable whose samples all come again and again, such as integers or
one-hot vectors, is one feature: the number of the sample's kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe.estimators.feature_pairs import shared_by_pairs
from infoprobe.estimators.knn.atoms import copies, tied
from infoprobe.estimators.knn.doubts import of_near_copies
from infoprobe.estimators.knn.ksg import multi_information
from infoprobe.findings import Finding

# The most samples that are looked at, the fewest, and the most features of each variable.
_MOST, _LEAST, _FEATURES = 10_000, 100, 2
# How many neighbours tell, and how many standard errors are taken off. Terms of neighbours depend
# on each other, so that their mean varies up to twice as much; those of counted symbols do not.
_NEAR, _NOISE, _DEPENDENT = 3, 2.0, 2.0
# From which share of repeated samples on a variable is discrete.
_DISCRETE = 0.9
# From how many nats on what an estimate misses is worth a finding, and makes it meaningless; and
# which share of the bound does so.
_NATS, _MUCH, _SHARE = 0.1, 1.0, 0.5


class FewFeatures(NamedTuple):
    """What few features share.

    Attributes:
        nats: The information of these features, in nats.
        stderr: Its standard error.
        of_x: How many features of x they are; 0 for all as one symbol.
        of_y: How many features of y.
    """

    nats: float
    stderr: float
    of_x: int
    of_y: int


def few_features(x: Tensor, y: Tensor) -> FewFeatures | None:
    """What the one or two features of x and y (n, d) share that depend most on each other.

    It is ``None`` where there are too few samples, or no features that certainly depend on each
    other; or where rows are copies, which look like information.
    """
    step = math.ceil(len(x) / _MOST)
    x, y = x[::step].detach().double(), y[::step].detach().double().to(x.device)
    if len(x) < _LEAST:
        return None
    x, y = _as_symbols(x), _as_symbols(y)
    chosen = [x, y]
    if max(x.shape[1], y.shape[1]) > _FEATURES:
        shared = shared_by_pairs(x, y)
        if not shared.any():
            return None
        chosen = [x[:, _strongest(shared.amax(1))], y[:, _strongest(shared.amax(0))]]
    if bool((copies(chosen) > 0).any()) or any(of_near_copies(chosen, "x, y", "")):
        return None
    terms = multi_information(chosen, _NEAR, "euclidean", 1)
    nats, stderr = float(terms.mean()), float(terms.std()) / math.sqrt(len(terms))
    if all(map(_is_discrete, chosen)):
        # By as much, counting finds too much, and digammas make up for about half of it.
        kinds = [len(torch.unique(v, dim=0)) for v in (torch.cat(chosen, 1), *chosen)]
        nats -= max(0, kinds[0] - kinds[1] - kinds[2] + 1) / (2 * len(terms))
    else:
        stderr *= _DEPENDENT
    return FewFeatures(nats, stderr, chosen[0].shape[1], chosen[1].shape[1])


def beyond_few_features(value: float, x: Tensor, y: Tensor) -> Iterator[Finding]:
    """A finding if a mutual information, in nats, is below that of few features of x and y."""
    found = few_features(x, y)
    if found is None:
        return
    missed = found.nats - _NOISE * found.stderr - max(value, 0.0)
    if missed > _NATS:
        yield Finding(
            "error" if missed > min(_MUCH, _SHARE * found.nats) else "warning",
            f"by nearest neighbours, {_number(x, found.of_x)} of x and {_number(y, found.of_y)} "
            f"of y alone share {found.nats:.2f} nats, of which {missed:.2f} or more are not in "
            "the estimate",
            missed,
            "Pass more samples or these features alone, or use ip.KNN() on them.",
            "x, y",
            code="unseen-dependence",
        )


def _number(x: Tensor, of: int) -> str:
    return "all" if of >= x.shape[1] else "one feature" if of == 1 else f"{of} features"


def _as_symbols(x: Tensor) -> Tensor:
    """A number for each kind of sample (n, d), where nearly all samples repeat."""
    if x.shape[1] == 1 or not _is_discrete(x):
        return x
    numbers: Tensor = torch.unique(x, dim=0, return_inverse=True)[1].double().unsqueeze(1)
    return numbers


def _is_discrete(x: Tensor) -> bool:
    return float(tied(x, 1).double().mean()) >= _DISCRETE


def _strongest(shared: Tensor) -> Tensor:
    """The features that share most, (d,) nats, of those that share anything; or all if few."""
    if len(shared) > _FEATURES:
        return shared.topk(min(_FEATURES, int((shared > 0).sum()))).indices
    return torch.arange(len(shared), device=shared.device)
