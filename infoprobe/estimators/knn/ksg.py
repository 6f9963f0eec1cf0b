r"""Mutual information by counting neighbours, in the family of Kraskov, Stögbauer & Grassberger.

The distance to the k-th neighbour in the joint space sets a radius, and the neighbours within it
are counted in the spaces of the variables: the errors of three entropies largely cancel. In the
joint space, the distance is the largest of those in the variables' spaces.

All arguments are samples (n, d), all results 0-dim float64 tensors. Counts do not change with the
data by a little, so there is no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infoprobe.estimators.special import digamma
from infoprobe.neighbors import Metric, count_within, distances_to, search


def multi_information(
    factors: Sequence[Tensor], k: int, metric: Metric, variant: int = 1
) -> Tensor:
    r"""KSG 1 and 2, for two or more variables (Kraskov et al. 2004, equations 8, 9, 23, 24).

    .. math::
        I^{(1)} &= \psi(k) + (m - 1)\,\psi(n) - \Big\langle \sum_{v=1}^m \psi(n_v + 1) \Big\rangle
        \\
        I^{(2)} &= \psi(k) - \frac{m-1}{k} + (m - 1)\,\psi(n)
                   - \Big\langle \sum_{v=1}^m \psi(n_v) \Big\rangle

    where :math:`n_v` counts the others nearer in variable v than the k-th neighbour in the joint
    space (1), or at most as far as the farthest of the k neighbours is in that variable (2).
    """
    factors = [factor.detach() for factor in factors]
    n, m = len(factors[0]), len(factors)
    found = search(factors, k, None, metric)
    value = digamma(k) + (m - 1) * digamma(n)
    if variant == 1:
        radii = found.distances[:, -1]
        counts = [count_within([factor], radii, metric) + 1 for factor in factors]
    else:
        value -= (m - 1) / k
        counts = [
            count_within([factor], _farthest(factor, found.indices, metric), metric, closed=True)
            for factor in factors
        ]
    return value - torch.stack([_mean_digamma(count) for count in counts]).sum()


def conditional(x: Tensor, y: Tensor, z: Tensor, k: int, metric: Metric) -> Tensor:
    r"""Information of x and y given z (Frenzel & Pompe 2007, equation 12).

    Neighbours are counted that are strictly nearer, and one is added.

    .. math::
        \psi(k) - \langle \psi(n_{xz} + 1) + \psi(n_{yz} + 1) - \psi(n_z + 1) \rangle
    """
    x, y, z = x.detach(), y.detach(), z.detach()
    radii = search([x, y, z], k, None, metric).distances[:, -1]
    of_xz, of_yz, of_z = (
        _mean_digamma(count_within(space, radii, metric) + 1) for space in ([x, z], [y, z], [z])
    )
    return digamma(k) - of_xz - of_yz + of_z


def with_labels(x: Tensor, labels: Tensor, k: int, metric: Metric) -> Tensor:
    r"""Information of continuous x and discrete labels (Ross 2014, equation 5).

    .. math::
        \psi(n) + \psi(k) - \langle \psi(n_{label}) \rangle - \langle \psi(m) \rangle

    where the k-th neighbour of the same label sets the radius, and m counts all points within it.
    Every label needs more than k samples.
    """
    x = x.detach()
    radii = torch.empty(len(x), dtype=torch.float64, device=x.device)
    classes, index, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    for label in range(len(classes)):
        members = (index == label).nonzero().squeeze(1)
        radii[members] = search([x[members]], k, None, metric).distances[:, -1]
    within = count_within([x], radii, metric) + 1
    constant = digamma(len(x)) + digamma(k)
    return constant - _mean_digamma(sizes[index]) - _mean_digamma(within)


def _farthest(factor: Tensor, neighbors: Tensor, metric: Metric) -> Tensor:
    return distances_to(factor, neighbors, metric).amax(1)


def _mean_digamma(counts: Tensor) -> Tensor:
    mean: Tensor = torch.special.digamma(counts.double()).mean()
    return mean
