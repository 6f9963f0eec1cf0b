"""Variational autoencoders: a Gaussian code, the rate that it costs, and the training loss."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.wrappers import unwrapped


class GaussianBottleneck(nn.Module):
    r"""Draws each code from a Gaussian whose mean and variance are the layer's input.

    .. math:: z = \mu(x) + \sigma(x) \odot \varepsilon, \quad \varepsilon \sim N(0, 1)

    The input of a sample is flattened: its first b numbers are the mean :math:`\mu`, the next b
    are the log-variance :math:`\ln \sigma^2`, and any others are ignored. The layer has no
    parameters of its own. A classical encoder outputs the 2 b numbers; an invertible network has
    them among the entries of its latent, so that it needs no further weights.

    In training mode the codes are drawn from torch's global generator, and gradients flow to mean
    and variance; in evaluation mode the code is the mean. The :meth:`rate` is the same in both
    modes. :class:`infoprobe.Rate` measures it in any model that contains such a layer.

    Arguments:
        size: The number of entries of a code, b, at least 1.

    References:
        D. Kingma & M. Welling (2014). Auto-encoding variational Bayes. ICLR. arXiv:1312.6114.

    Example:
        >>> model = ip.models.MNISTAutoencoder(ip.models.GaussianBottleneck(20))
        >>> with ip.probe(model, "gaussian", ip.Rate()) as probe:
        ...     reconstruction = model(torch.rand(50, 1, 28, 28))
        >>> [(row["layer"], row["n"], row["d"]) for row in probe.report().rows]
        [('gaussian', 50, 20)]
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        size = checks.require_integer(size, 1, None, "size")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Returns the codes (n, b) of samples (n, ...) that have at least 2 b numbers each."""
        mean, log_variance = self.posterior(x)
        if not self.training:
            return mean
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean and the log-variance, both (n, b), of the codes of samples (n, ...).

        Raises:
            ValueError: A sample has fewer than 2 b numbers.
        """
        flat = x.flatten(1)
        if flat.shape[1] < 2 * self.size:
            raise ArgumentValueError(
                "x",
                f"expected at least {2 * self.size:,} numbers per sample, a mean and a "
                f"log-variance for each of the {self.size:,} entries of a code, got shape "
                f"{tuple(x.shape)}. Widen the layer before this one, or make the code smaller.",
            )
        return flat[:, : self.size], flat[:, self.size : 2 * self.size]

    def rate(self, x: Tensor) -> Tensor:
        r"""Returns the rate (n,) of samples (n, ...): what the code of each costs, in nats.

        .. math:: KL(q(z|x) \| p(z)) = \tfrac12 \sum_i \mu_i^2 + \sigma_i^2 - 1 - \ln \sigma_i^2

        with the standard normal prior p. Half-precision inputs are computed in float32.
        """
        mean, log_variance = self.posterior(checks.exact_float(x, "x"))
        return 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum(1)

    def extra_repr(self) -> str:
        """Returns the size, for the representation of the module."""
        return f"size={self.size}"


class VariationalAutoencoder(Protocol):
    """An autoencoder whose code can be Gaussian: what :class:`VariationalLoss` takes.

    Calling it with ``return_latent=True`` gives the reconstructions of images (n, C, H, W) and
    the latent from which ``gaussian`` draws the codes.
    """

    @property
    def gaussian(self) -> GaussianBottleneck | None:
        """The layer that draws the codes, or ``None`` where the code is not Gaussian."""

    def __call__(self, x: Tensor, *, return_latent: Literal[True]) -> tuple[Tensor, Tensor]:
        """Returns the reconstructions and the latent of images (n, C, H, W)."""


def gaussian_of(model: object) -> GaussianBottleneck | None:
    """Returns the layer that draws a model's codes, or ``None`` where its code is not Gaussian."""
    gaussian = getattr(unwrapped(model), "gaussian", None)
    return gaussian if isinstance(gaussian, GaussianBottleneck) else None


class VariationalLoss(nn.Module):
    r"""The negative evidence lower bound of a variational autoencoder, in nats per image.

    .. math:: \frac1n \sum_x \Big( \frac{\|x - \hat x\|_1}s + d \ln 2 s
        + \beta\, KL(q(z|x) \| p(z)) \Big)

    for n images x of d numbers each and their reconstructions :math:`\hat x`. The first two terms
    are :math:`-\ln p(x|z)` under a Laplace likelihood of scale s around the reconstruction, so
    that the loss contains the absolute error with which the plain models are trained. The last
    term is the rate of the code. With :math:`\beta = 1` and codes that are drawn, as in training
    mode, the mean of the loss is an upper bound of the mean of :math:`-\ln p(x)`, which is
    negative where the density exceeds 1. In evaluation mode the reconstruction is that of the
    mean code, and the loss bounds nothing.

    Arguments:
        beta: The weight of the rate, at least 0. A greater weight gives codes that carry less
            information (Higgins et al. 2017).
        scale: The scale s of the likelihood, in units of the images, greater than 0. The best one
            is the mean absolute error.

    References:
        | D. Kingma & M. Welling (2014). Auto-encoding variational Bayes. ICLR. arXiv:1312.6114.
        | I. Higgins et al. (2017). beta-VAE: learning basic visual concepts with a constrained
          variational framework. ICLR.

    Example:
        >>> bottleneck = ip.models.GaussianBottleneck(20)
        >>> model = ip.models.InvertibleAutoencoder(ip.models.mnist_inn(), bottleneck)
        >>> loss = ip.models.VariationalLoss(beta=0.5)
        >>> loss(model, torch.rand(8, 1, 28, 28)).backward()
    """

    def __init__(self, beta: float = 1.0, scale: float = 0.1) -> None:
        super().__init__()
        beta = checks.require_real(beta, 0, "beta")
        scale = checks.require_real(scale, 0, "scale")
        if not scale > 0:
            raise ArgumentValueError(
                "scale",
                "expected a positive number, got 0, with which any error would cost infinitely "
                "much. Pass about the mean absolute error that you expect, such as 0.1.",
            )
        self.beta = beta
        self.scale = scale

    def forward(self, model: VariationalAutoencoder, x: Tensor) -> Tensor:
        """Returns the loss of a model on images (n, C, H, W), a scalar in nats per image.

        Arguments:
            model: An autoencoder with a :class:`GaussianBottleneck` as its ``gaussian``, possibly
                wrapped by ``torch.compile`` or data parallelism.
            x: The images, (n, C, H, W).

        Raises:
            TypeError: The model's code is not Gaussian.
        """
        gaussian = gaussian_of(model)
        if gaussian is None:
            raise ArgumentTypeError(
                "model",
                "expected one with a Gaussian code, got "
                f"{type(model).__name__} without. "
                "Build it with bottleneck=ip.models.GaussianBottleneck(size).",
            )
        reconstruction, latent = model(x, return_latent=True)
        error = nn.functional.l1_loss(reconstruction, x, reduction="sum") / len(x)
        constant = x[0].numel() * math.log(2 * self.scale)
        return error / self.scale + constant + self.beta * gaussian.rate(latent).mean()

    def extra_repr(self) -> str:
        """Returns the settings, for the representation of the module."""
        return f"beta={self.beta}, scale={self.scale}"
