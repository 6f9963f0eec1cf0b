"""Variational autoencoders: a Gaussian code, the rate that it costs, and the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.wrappers import unwrapped

if TYPE_CHECKING:
    from infoprobe.models.classical import ClassicalAutoencoder
    from infoprobe.models.invertible import InvertibleAutoencoder


class GaussianBottleneck(nn.Module):
    r"""A code that is drawn from a Gaussian, which its input describes.

    .. math:: z = \mu(x) + \sigma(x) \odot \varepsilon, \quad \varepsilon \sim N(0, 1)

    Of the numbers that a sample comes with, flattened, the first b are the mean :math:`\mu` and
    the next b the log-variance :math:`\ln \sigma^2`; there are no parameters. An encoder gives
    both; an invertible network has them among the entries of its latent, so it needs no head and
    no further weights.

    In training mode codes are drawn, from torch's global generator and with gradients to mean and
    variance; in evaluation mode the code is the mean. The :meth:`rate` is the same in both.
    :class:`infoprobe.Rate` measures it in any model that has such a layer.

    Arguments:
        size: How many numbers a code has, b, at least 1.

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
        checks.require_integer(size, 1, None, "size")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Codes (n, b) of samples (n, ...) with at least 2 b numbers each."""
        mean, log_variance = self.posterior(x)
        if not self.training:
            return mean
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (n, b) of the codes of samples (n, ...).

        Raises:
            ValueError: The samples have fewer than 2 b numbers.
        """
        flat = x.flatten(1)
        if flat.shape[1] < 2 * self.size:
            raise ArgumentValueError(
                "x",
                f"expected at least {2 * self.size:,} numbers a sample, a mean and a "
                f"log-variance for each of {self.size:,}, got shape {tuple(x.shape)}. Widen the "
                "layer before, or make the code smaller.",
            )
        return flat[:, : self.size], flat[:, self.size : 2 * self.size]

    def rate(self, x: Tensor) -> Tensor:
        r"""What the code of each sample (n, ...) costs: (n,), in nats.

        .. math:: KL(q(z|x) \| p(z)) = \tfrac12 \sum_i \mu_i^2 + \sigma_i^2 - 1 - \ln \sigma_i^2

        with the standard-normal prior p. Half precision is computed in float32.
        """
        mean, log_variance = self.posterior(checks.exact_float(x, "x"))
        return 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum(1)

    def extra_repr(self) -> str:
        """The size, for the representation of the module."""
        return f"size={self.size}"


class VariationalLoss(nn.Module):
    r"""The negative evidence lower bound of a variational autoencoder, in nats an image.

    .. math:: \frac1n \sum_x \Big( \frac{\|x - \hat x\|_1}s + d \ln 2 s
        + \beta\, KL(q(z|x) \| p(z)) \Big)

    for n images of d numbers. The first two terms are :math:`-\ln p(x|z)` under a Laplace
    likelihood of scale s around the reconstruction, which makes it the absolute error that the
    plain models are trained with; the last one is the rate. With :math:`\beta = 1` and codes that
    are drawn, as in training mode, its mean is at least :math:`-\ln p(x)`, which is negative where
    the density exceeds 1; in evaluation mode the reconstruction is that of the mean code, and it
    bounds nothing.

    Arguments:
        beta: The weight of the rate. More gives codes that tell less (Higgins et al. 2017).
        scale: Of the likelihood, s, in units of the images; the best is the mean absolute error.

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
        checks.require_real(beta, 0, "beta")
        checks.require_real(scale, 0, "scale")
        if not scale > 0:
            raise ArgumentValueError(
                "scale",
                "expected a positive number, got 0, at which any error costs infinitely "
                "much. Pass about the mean absolute error that can be reached, such as 0.1.",
            )
        self.beta = beta
        self.scale = scale

    def forward(self, model: ClassicalAutoencoder | InvertibleAutoencoder, x: Tensor) -> Tensor:
        """The loss of a model on images (n, C, H, W): a scalar.

        Raises:
            TypeError: The model's code is not Gaussian.
        """
        autoencoder = unwrapped(model)
        gaussian = getattr(autoencoder, "gaussian", None)
        if not isinstance(gaussian, GaussianBottleneck):
            raise ArgumentTypeError(
                "model",
                "expected one with a Gaussian code, got "
                f"{type(autoencoder).__name__} without. "
                "Build it with bottleneck=ip.models.GaussianBottleneck(size).",
            )
        reconstruction, latent = model(x, return_latent=True)
        error = nn.functional.l1_loss(reconstruction, x, reduction="sum") / len(x)
        constant = x[0].numel() * math.log(2 * self.scale)
        return error / self.scale + constant + self.beta * gaussian.rate(latent).mean()

    def extra_repr(self) -> str:
        """The weights, for the representation of the module."""
        return f"beta={self.beta}, scale={self.scale}"
