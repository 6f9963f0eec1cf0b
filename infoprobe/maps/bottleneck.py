"""What an invertible autoencoder discards at its bottleneck, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators import Gaussian


class Compressing(Protocol):
    """An autoencoder with an invertible network, of whose latents it keeps a part."""

    @property
    def inn(self) -> Any:
        """The invertible network."""

    @property
    def bottleneck(self) -> Any:
        """What keeps a part of a latent."""


@dataclass(frozen=True, repr=False)
class BottleneckAccount:
    r"""What zero-padding discards of the latent :math:`z = (k, r)`, kept and dropped.

    Attributes:
        n: The number of samples.
        kept: The number of coordinates of the latent that are kept.
        dropped: The number of coordinates that are replaced by zeros, m.
        energy: :math:`E \|r\|^2`, the mean squared distance from the latent to what replaces it.
        energy_share: The share of the energy that is dropped, :math:`E \|r\|^2 / E \|z\|^2`.
        entropy_bound: An upper bound of :math:`h(r|k)` in nats, from second moments.
        bound_from: Which second moments the bound comes from: the ``"covariance"`` of kept and
            dropped coordinates, or, where it cannot be estimated, the ``"energy"`` alone.
        note: The reason why the bound does not come from the covariance; empty if it does.
        l1: The mean absolute error of the reconstruction, in units of x.
        mse: The mean squared error of the reconstruction, in squared units of x.
        inversion_l1: The mean absolute error of the inverse of the latent without padding, which
            is what rounding adds to ``l1``.
        inversion_mse: The mean squared error of the inverse of the latent without padding.
    """

    n: int
    kept: int
    dropped: int
    energy: float
    energy_share: float
    entropy_bound: float
    bound_from: Literal["covariance", "energy"]
    note: str
    l1: float
    mse: float
    inversion_l1: float
    inversion_mse: float

    def lost_at(self, resolution: float) -> float:
        r"""Bounds the nats that zero-padding loses of a latent that is known to a resolution.

        .. math:: H(\lfloor r / \delta \rfloor \,|\, k) \approx h(r|k) - m \ln \delta

        for a resolution :math:`\delta` that is small against the spread of each dropped
        coordinate; with a coarser one the number is too low.

        Arguments:
            resolution: The width of the cells that can be told apart, in units of the latent.

        Returns:
            The approximate upper bound in nats.
        """
        resolution = checks.require_real(resolution, 0, "resolution")
        if not resolution > 0:
            raise ArgumentValueError(
                "resolution",
                "expected a positive number, got 0, for which the loss of a continuous latent is "
                "infinite. Pass the width of the cells that can be told apart.",
            )
        return self.entropy_bound - self.dropped * math.log(resolution)

    def __repr__(self) -> str:
        source = {
            "covariance": "Gaussian with the covariance of kept and dropped",
            "energy": "Gaussian of independent coordinates with this energy",
        }[self.bound_from]
        lines = [
            f"BottleneckAccount: n={self.n:,}, keeps {self.kept:,} of "
            f"{self.kept + self.dropped:,} coordinates",
            f"  energy dropped     {self.energy:.4g}, {self.energy_share:.2%} of the latent's",
            f"  h(dropped | kept)  at most {self.entropy_bound:,.1f} nats ({source})",
            f"  reconstruction     L1 {self.l1:.4g}, MSE {self.mse:.4g}",
            f"  without padding    L1 {self.inversion_l1:.2g}, MSE {self.inversion_mse:.2g}",
        ]
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])


def bottleneck_account(
    model: Compressing, x: ArrayLike, *, batch_size: int = 256
) -> BottleneckAccount:
    r"""Computes what the bottleneck of an invertible autoencoder discards, and what that costs.

    Zero-padding is the one lossy step. From the latent :math:`z = f(x) = (k, r)` it keeps k, and
    drops r with the energy :math:`E \|r\|^2` and the entropy

    .. math:: h(r|k) \le \tfrac m2 \ln 2 \pi e + \tfrac12 \ln |\Sigma_{r|k}|,
        \quad \Sigma_{r|k} = \Sigma_r - \Sigma_{rk} \Sigma_k^{-1} \Sigma_{kr},

    an upper bound, which only Gaussian latents reach: among all distributions with a given
    covariance, the Gaussian has the largest conditional entropy. The covariance needs more
    samples than the latent has coordinates. With fewer samples the bound is the weaker
    :math:`\tfrac m2 \ln (2 \pi e\, E \|r\|^2 / m)`, which depends on the energy alone; a shrunk
    covariance would give a number that bounds nothing.

    The entropy is not the information that is lost, which is infinite: a continuous r can be known
    to any number of digits, and k tells only some of them. The entropy says how the loss depends
    on the resolution :math:`\delta` to which a latent is known, as :math:`h(r|k) - m \ln \delta`
    (:meth:`BottleneckAccount.lost_at`). It can be negative, and it changes with the units of the
    latent. To compare models of the same x at equal m, subtract :math:`E \ln |\det J_f|`, by
    which f stretches its latent.

    Arguments:
        model: With ``inn(x, jac=False)`` and ``inn(z, rev=True, jac=False)`` that return tuples
            whose first entry is the latent or the image, and a ``bottleneck`` that is called with
            latents and has ``code(z)`` and ``rest(z)``, such as
            :class:`infoprobe.models.InvertibleAutoencoder`.
        x: At least 2 images (n, ...), floating-point, in the precision and on the device of the
            model. Dequantize images of whole numbers with :func:`infoprobe.dequantize`: otherwise
            no entropy is finite.
        batch_size: The number of images that pass through the model at a time.

    Returns:
        The account; print it.

    Bias and limits:
        All figures are means over the samples, without bias, except for the entropy bound: from
        the covariance it is unbiased for Gaussian latents (see :class:`~infoprobe.Gaussian`), from
        the energy it is too low by about :math:`m / 4n` times the relative variance of
        :math:`\|r\|^2`. The memory grows with all latents, and with the square of the number of
        coordinates.

    Raises:
        TypeError: The model does not have these parts, or x does not hold floating-point numbers.
        ValueError: x has fewer than 2 samples or is not finite, or the latents are not.

    References:
        | T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
          autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
        | T. Cover & J. Thomas (2006). Elements of Information Theory. Theorems 8.3.1 and 8.6.5.
    """
    _check_model(model)
    batch_size = checks.require_integer(batch_size, 1, None, "batch_size")
    checks.continuous(x, "x")
    x = checks.as_tensor(x, "x")
    latents, errors = [], torch.zeros(4, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        for batch in torch.split(x, batch_size):
            z = model.inn(batch, jac=False)[0]
            latents.append(z)
            padded = model.bottleneck(z)
            # Some layers work in place on what they are given.
            images = (model.inn(start, rev=True, jac=False)[0] for start in (padded, z.clone()))
            errors += torch.stack([error for image in images for error in _errors(image, batch)])
        z = torch.cat(latents)
        kept, rest = model.bottleneck.code(z).flatten(1), model.bottleneck.rest(z).flatten(1)
        both = checks.samples(torch.cat([kept, rest], 1), "latents").double()
        energy = float(rest.double().square().sum(1).mean())
        total = float(both.square().sum(1).mean())
        bound, source, note = _entropy_bound(kept, rest, energy)
    l1, mse, inversion_l1, inversion_mse = (errors / x.numel()).tolist()
    return BottleneckAccount(
        n=len(x),
        kept=kept.shape[1],
        dropped=rest.shape[1],
        energy=energy,
        energy_share=energy / total if total else 0.0,
        entropy_bound=bound,
        bound_from=source,
        note=note,
        l1=l1,
        mse=mse,
        inversion_l1=inversion_l1,
        inversion_mse=inversion_mse,
    )


def _check_model(model: Any) -> None:
    bottleneck = getattr(model, "bottleneck", None)
    parts = (model, "inn"), (bottleneck, "code"), (bottleneck, "rest")
    if not all(callable(getattr(of, name, None)) for of, name in parts):
        raise ArgumentTypeError(
            "model",
            "expected an invertible network as model.inn, and model.bottleneck with "
            f"code(z) and rest(z), got {type(model).__name__}. See "
            "ip.models.InvertibleAutoencoder.",
        )


def _errors(image: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of the absolute and of the squared errors."""
    difference = (image - batch).double()
    return difference.abs().sum(), difference.square().sum()


def _entropy_bound(
    kept: Tensor, rest: Tensor, energy: float
) -> tuple[float, Literal["covariance", "energy"], str]:
    """The bound of h(rest | kept) in nats, what it comes from, and a note."""
    n, m = rest.shape
    d = kept.shape[1] + m
    if m == 0:
        return 0.0, "covariance", ""
    if n > d:
        try:
            return float(Gaussian().conditional_entropy(rest, kept)), "covariance", ""
        except ArgumentValueError as error:
            note = f"No bound from the covariance: {error.problem}"
    else:
        note = (
            f"A tighter bound, from the covariance, needs more samples than the {d:,} coordinates "
            f"of the latent, got {n:,}."
        )
    bound = m / 2 * math.log(2 * math.pi * math.e * energy / m) if energy else -math.inf
    return bound, "energy", note
