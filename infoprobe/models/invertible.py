"""Invertible autoencoders: an invertible network, zero-padding, and the network's inverse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from infoprobe import checks

if TYPE_CHECKING:
    from FrEIA.framework import GraphINN


def mnist_inn() -> GraphINN:
    """The invertible network for MNIST of Nguyen, Ardizzone & Köthe (2019).

    A bijection of (n, 1, 28, 28) images with the nodes ``haar_down``, ``conv1``, ``conv2``,
    ``conv3`` (coupling blocks with convolutional subnets), ``flatten``, ``fc`` (a coupling block
    with fully connected subnets), ``unflatten`` and ``haar_up``; 1,121,192 trainable parameters.
    Weights are drawn from torch's global generator as in the published code, whose last layer
    of each subnet is zero, so that the network starts as the identity.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """
    import FrEIA.framework as ff  # here, since importing it takes as long as importing torch
    import FrEIA.modules as fm

    nodes = [ff.InputNode(1, 28, 28, name="input")]

    def add(name: str, module: type[nn.Module], **settings: Any) -> None:
        nodes.append(ff.Node(nodes[-1], module, settings, name=name))

    add("haar_down", fm.HaarDownsampling)
    for i in (1, 2, 3):
        add(f"conv{i}", fm.GLOWCouplingBlock, subnet_constructor=_conv_subnet(100), **_SOFT_CLAMP)
    add("flatten", fm.Reshape, output_dims=(784,))
    add("fc", fm.RNVPCouplingBlock, subnet_constructor=_fc_subnet(180), **_SOFT_CLAMP)
    add("unflatten", fm.Reshape, output_dims=(4, 14, 14))
    add("haar_up", fm.HaarUpsampling)
    nodes.append(ff.OutputNode(nodes[-1], name="output"))
    return ff.GraphINN(nodes)


_SOFT_CLAMP = {"clamp": 1.0, "clamp_activation": "ATAN"}


def _conv_subnet(hidden: int) -> Callable[[int, int], nn.Sequential]:
    def build(channels_in: int, channels_out: int) -> nn.Sequential:
        return _identity_start(
            nn.Sequential(
                nn.Conv2d(channels_in, hidden, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(hidden, channels_out, 1),
            )
        )

    return build


def _fc_subnet(hidden: int) -> Callable[[int, int], nn.Sequential]:
    def build(features_in: int, features_out: int) -> nn.Sequential:
        return _identity_start(
            nn.Sequential(
                nn.Linear(features_in, hidden), nn.ReLU(), nn.Linear(hidden, features_out)
            )
        )

    return build


def _identity_start(subnet: nn.Sequential) -> nn.Sequential:
    """Small random weights, and a last layer of zeros: the coupling starts as the identity."""
    for parameter in subnet.parameters():
        nn.init.normal_(parameter, std=0.1)
    for parameter in subnet[-1].parameters():
        nn.init.zeros_(parameter)
    return subnet


class ZeroPadding(nn.Module):
    """The bottleneck of an invertible autoencoder: all but the first entries become zero.

    The one lossy step. A latent image is flattened, its first ``size`` entries are the code.

    Arguments:
        size: How many entries to keep, at least 1.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        checks.integer(size, 1, None, "size")
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        """Latents (n, ...) with all but the code set to zero."""
        return self.pad(self.code(z), z.shape[1:])

    def code(self, z: Tensor) -> Tensor:
        """What is kept of latents (n, ...): (n, size)."""
        return z.flatten(1)[:, : self.size]

    def rest(self, z: Tensor) -> Tensor:
        """What is thrown away of latents (n, ...): (n, d - size)."""
        return z.flatten(1)[:, self.size :]

    def pad(self, code: Tensor, shape: torch.Size) -> Tensor:
        """Codes (n, size) as latents (n, *shape)."""
        padding = math.prod(shape) - self.size
        return nn.functional.pad(code, (0, padding)).reshape(-1, *shape)

    def extra_repr(self) -> str:
        """The size, for the representation of the module."""
        return f"size={self.size}"


class InvertibleAutoencoder(nn.Module):
    r"""An autoencoder :math:`\hat x = f^{-1}(\text{pad}(f(x)_{1 \ldots b}))` with invertible f.

    Encoder and decoder share all parameters; their number does not depend on the bottleneck.

    Arguments:
        inn: The invertible network :math:`f`: a FrEIA graph with one input and one output.
        bottleneck: The size of the code, :math:`b`.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """

    def __init__(self, inn: GraphINN, bottleneck: int) -> None:
        super().__init__()
        self.inn = inn
        self.bottleneck = ZeroPadding(bottleneck)
        (self._image_shape,) = (tuple(shape) for shape in inn.dims_in)
        (self._latent_shape,) = (torch.Size(shape) for shape in inn.global_out_shapes)
        checks.integer(bottleneck, 1, math.prod(self._latent_shape), "bottleneck")

    def forward(self, x: Tensor, *, return_latent: bool = False) -> Any:
        """Reconstructions of images (n, C, H, W).

        Arguments:
            x: Images.
            return_latent: Whether to return ``(reconstruction, latent)``, the latent being f(x)
                before it is padded.
        """
        checks.sample_shape(x, self._image_shape, "x")
        latent, _ = self.inn(x, jac=False)
        reconstruction, _ = self.inn(self.bottleneck(latent), rev=True, jac=False)
        return (reconstruction, latent) if return_latent else reconstruction

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, b) of images (n, C, H, W)."""
        checks.sample_shape(x, self._image_shape, "x")
        return self.bottleneck.code(self.inn(x, jac=False)[0])

    def decode(self, code: Tensor) -> Tensor:
        """Images (n, C, H, W) of codes (n, b)."""
        checks.sample_shape(code, (self.bottleneck.size,), "code")
        images: Tensor = self.inn(
            self.bottleneck.pad(code, self._latent_shape), rev=True, jac=False
        )[0]
        return images


class InvertibleAutoencoderLoss(nn.Module):
    r"""The training loss of an invertible autoencoder.

    .. math:: \text{mean} |x - \hat x| + \text{mean}\, z_{> b}^2

    The second term makes the thrown away part of the latent small, so that padding with zeros
    loses little.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019), with the published weights of 1 for both
        terms and 0 for the terms on the distribution of the code.
    """

    def forward(self, model: InvertibleAutoencoder, x: Tensor) -> Tensor:
        """The loss of a model on images (n, C, H, W): a scalar."""
        reconstruction, latent = model(x, return_latent=True)
        rest = model.bottleneck.rest(latent)
        # With nothing thrown away the mean over nothing would be NaN.
        sparsity = rest.square().mean() if rest.numel() else rest.new_zeros(())
        return nn.functional.l1_loss(reconstruction, x) + sparsity
