"""Whether samples are Gaussian: how much less entropy they have than Gaussian ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from infoprobe.estimators.covariance import at_unit_scale, rank_of
from infoprobe.estimators.features import feature_entropies
from infoprobe.estimators.hermite import moments
from infoprobe.findings import Finding

# From how many nats on it is worth a finding that samples are not Gaussian, beyond the noise of
# the entropy of a feature, which is about 1 over the root of n.
_EXCESS, _NOISE = 0.1, 4.0
# From which neighbours the entropy of a feature is found.
_NEAR = 3


def one_by_one(x: Tensor, name: str) -> Iterator[Finding]:
    """A finding if a feature of the samples (n, d) is not Gaussian."""
    alone = feature_entropies(x, _NEAR)
    missing = (x.double().var(0) * 2 * math.pi * math.e).log() / 2 - alone
    finite = missing.isfinite()
    excess = float(missing[finite].amax()) if finite.any() else 0.0
    if excess >= max(_EXCESS, _NOISE / math.sqrt(len(x))):
        yield Finding(
            "warning",
            f"a feature has {excess:.2f} nats less entropy than a Gaussian as wide",
            excess,
            "A Gaussian's entropy is then an upper bound, and information between features "
            "may be missed. Use ip.KNN(calibration='copula').",
            name,
            code="not-gaussian",
        )


def together(x: Tensor, name: str) -> Iterator[Finding]:
    """A finding if features are not Gaussian together, though each of them looks as if it were."""
    n, d = x.shape
    if n <= 2 * d or (x == x[0]).all(0).any() or rank_of(x) < d:
        return  # It is found by itself.
    # Whitened by their own covariance, even Gaussian samples have such moments if they are few.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu")
    by_moments = moments(x).beyond(moments(drawn.to(x.device)))
    # Uncorrelated features have together at least the negentropy that they have one by one.
    gaussian = d * math.log(2 * math.pi * math.e) / 2
    apart = gaussian - min(float(feature_entropies(z, _NEAR).sum()) for z in _uncorrelated(x))
    missing = max(by_moments, apart if apart >= _NOISE * math.sqrt(d / n) else 0.0)
    if _EXCESS <= missing < math.inf:
        yield Finding(
            "warning",
            f"the data have about {missing:.2f} nats less entropy than a Gaussian with their "
            "covariance, which may be information that a Gaussian does not see",
            missing,
            "Use ip.KNN(calibration='copula').",
            name,
            code="not-gaussian",
        )


def _uncorrelated(x: Tensor) -> tuple[Tensor, Tensor]:
    """The principal components of the samples (n, d), and the same turned towards the features.

    Both have unit covariance.
    """
    scaled = at_unit_scale(x, dim=None)
    centred = scaled - scaled.mean(0)
    components, _, axes = torch.linalg.svd(centred, full_matrices=False)
    components = components * math.sqrt(len(x) - 1)
    return components, components @ axes
