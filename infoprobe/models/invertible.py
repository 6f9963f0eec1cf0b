"""Invertible autoencoders: an invertible network, zero-padding, and the network's inverse."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.models.variational import GaussianBottleneck

if TYPE_CHECKING:
    from FrEIA.framework import GraphINN


def mnist_inn() -> GraphINN:
    """The invertible network for MNIST of Nguyen, Ardizzone & Köthe (2019).

    It is a bijection of (n, 1, 28, 28) images with 1,121,192 trainable parameters. Its nodes are
    ``haar_down``; ``conv1``, ``conv2`` and ``conv3``, coupling blocks with convolutional subnets;
    ``flatten``; ``fc``, a coupling block with fully connected subnets; ``unflatten`` and
    ``haar_up``. Weights are drawn from torch's global generator as in the published code. The last
    layer of each subnet is zero at first, so that the network starts as the identity.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """
    return _inn((1, 28, 28), scales=1, channels=100, features=180)


def cifar10_inn() -> GraphINN:
    """The invertible network for CIFAR-10 of Nguyen, Ardizzone & Köthe (2019).

    It is a bijection of (n, 3, 32, 32) images with 13,235,176 trainable parameters. It has the
    nodes of :func:`mnist_inn` with wider subnets, and starts as the identity too.

    References:
        See :func:`mnist_inn`.
    """
    return _inn((3, 32, 32), scales=1, channels=128, features=1000)


def celeba_inn() -> GraphINN:
    """The invertible network for CelebA of Nguyen, Ardizzone & Köthe (2019).

    It is a bijection of (n, 3, 156, 128) images with 50,070,152 trainable parameters. It works at
    two scales: its nodes, numbered in the order in which an image passes them, are
    ``haar_down1``, ``conv1`` to ``conv3``, ``haar_down2``, ``conv4`` to ``conv6``, ``flatten``,
    ``fc``, ``unflatten``, ``haar_up1`` and ``haar_up2``. It starts as the identity, as
    :func:`mnist_inn` does.

    References:
        See :func:`mnist_inn`.
    """
    return _inn((3, 156, 128), scales=2, channels=128, features=200)


_COUPLINGS_PER_SCALE = 3


def _arctangent(x: Tensor) -> Tensor:
    return 0.636 * torch.atan(x)  # FrEIA's "ATAN", which is a lambda and cannot be pickled


_SOFT_CLAMP = {"clamp": 1.0, "clamp_activation": _arctangent}


def _inn(shape: tuple[int, int, int], scales: int, channels: int, features: int) -> GraphINN:
    """Returns the network for images of a shape.

    Arguments:
        shape: The shape (C, H, W) of an image.
        scales: How often height and width are halved before the whole image is coupled.
        channels: The number of hidden channels of the convolutional subnets.
        features: The number of hidden features of the fully connected subnets.
    """
    # Imported here, since importing FrEIA takes as long as importing torch.
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    nodes = [ff.InputNode(*shape, name="input")]

    def add(name: str, module: type[nn.Module], **settings: Any) -> None:
        nodes.append(ff.Node(nodes[-1], module, settings, name=name))

    conv, fc = partial(_conv_subnet, channels), partial(_fc_subnet, features)
    numbers = [""] if scales == 1 else [str(scale + 1) for scale in range(scales)]
    for scale, number in enumerate(numbers):
        add(f"haar_down{number}", fm.HaarDownsampling)
        for i in range(scale * _COUPLINGS_PER_SCALE, (scale + 1) * _COUPLINGS_PER_SCALE):
            add(f"conv{i + 1}", fm.GLOWCouplingBlock, subnet_constructor=conv, **_SOFT_CLAMP)
    c, h, w = shape
    coarse = (c * 4**scales, h // 2**scales, w // 2**scales)
    add("flatten", fm.Reshape, output_dims=(math.prod(shape),))
    add("fc", fm.RNVPCouplingBlock, subnet_constructor=fc, **_SOFT_CLAMP)
    add("unflatten", fm.Reshape, output_dims=coarse)
    for number in numbers:
        add(f"haar_up{number}", fm.HaarUpsampling)
    nodes.append(ff.OutputNode(nodes[-1], name="output"))
    return ff.GraphINN(nodes)


def _conv_subnet(hidden: int, channels_in: int, channels_out: int) -> nn.Sequential:
    return _identity_start(
        nn.Sequential(
            nn.Conv2d(channels_in, hidden, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, channels_out, 1),
        )
    )


def _fc_subnet(hidden: int, features_in: int, features_out: int) -> nn.Sequential:
    return _identity_start(
        nn.Sequential(nn.Linear(features_in, hidden), nn.ReLU(), nn.Linear(hidden, features_out))
    )


def _identity_start(subnet: nn.Sequential) -> nn.Sequential:
    """Draws small weights and sets the last layer to zero: the coupling starts as the identity."""
    for parameter in subnet.parameters():
        nn.init.normal_(parameter, std=0.1)
    for parameter in subnet[-1].parameters():
        nn.init.zeros_(parameter)
    return subnet


class ZeroPadding(nn.Module):
    """The bottleneck of an invertible autoencoder: sets all but the first entries to zero.

    This is the one lossy step of such a model. The latent of a sample is flattened, and its first
    ``size`` entries are the code.

    Arguments:
        size: The number of entries to keep, at least 1.
        shape: The shape of the latent of one sample, without the first axis.
    """

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        size = checks.require_integer(size, 1, math.prod(shape), "size")
        self.size = size
        self.shape = shape

    def forward(self, z: Tensor) -> Tensor:
        """Returns latents or codes (n, ...) as latents ``(n, *shape)``, zero after the code."""
        padding = math.prod(self.shape) - self.size
        return nn.functional.pad(self.code(z), (0, padding)).reshape(len(z), *self.shape)

    def code(self, z: Tensor) -> Tensor:
        """Returns the codes (n, size) that are kept of latents (n, ...).

        Raises:
            ValueError: A latent has fewer than ``size`` entries.
        """
        flat = z.flatten(1)
        if flat.shape[1] < self.size:
            raise ArgumentValueError(
                "z",
                f"expected at least {self.size:,} entries per sample, got shape "
                f"{tuple(z.shape)}. Pass latents, or codes of size {self.size:,}.",
            )
        return flat[:, : self.size]

    def rest(self, z: Tensor) -> Tensor:
        """Returns the entries (n, d - size) that are dropped from latents (n, ...)."""
        return z.flatten(1)[:, self.size :]

    def extra_repr(self) -> str:
        """Returns the size and the shape, for the representation of the module."""
        return f"size={self.size}, shape={self.shape}"


class InvertibleAutoencoder(nn.Module):
    r"""An autoencoder :math:`\hat x = f^{-1}(\text{pad}(f(x)_{1 \ldots b}))` with invertible f.

    The encoder is an invertible network f, of whose output only the first b entries are kept; the
    decoder pads them with zeros and runs the network's inverse. Both therefore share all
    parameters, whose number does not depend on the bottleneck. The layers of the model are those
    of the network, once forward and once inverse, with ``bottleneck`` in between.

    Arguments:
        inn: The invertible network :math:`f`: a FrEIA graph with one input and one output.
        bottleneck: The number of entries of a code, :math:`b`. A :class:`GaussianBottleneck` of
            size b makes the autoencoder variational instead: the first b entries of the latent
            are then the mean and the next b the log-variance, from which the layer ``gaussian``
            draws the codes.

    Raises:
        TypeError: The network is not such a graph.
        ValueError: The latent has too few entries for the bottleneck.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """

    def __init__(self, inn: GraphINN, bottleneck: int | GaussianBottleneck) -> None:
        super().__init__()
        self.inn = inn
        self._image_shape, shape = _input_and_output_shape(inn)
        d = math.prod(shape)
        self.gaussian: GaussianBottleneck | None
        if isinstance(bottleneck, GaussianBottleneck):
            if 2 * bottleneck.size > d:
                raise ArgumentValueError(
                    "bottleneck",
                    f"expected a size of at most {d // 2:,}, since the latent has "
                    f"{d:,} entries and each entry of a Gaussian code takes two of them, got "
                    f"{bottleneck.size:,}. Make it smaller.",
                )
            self.gaussian, size = bottleneck, bottleneck.size
        else:
            bottleneck = checks.require_integer(bottleneck, 1, d, "bottleneck")
            self.gaussian, size = None, bottleneck
        self.bottleneck: ZeroPadding = ZeroPadding(size, shape)

    @overload
    def forward(self, x: Tensor, *, return_latent: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, x: Tensor, *, return_latent: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, x: Tensor, *, return_latent: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the reconstructions (n, C, H, W) of images.

        Arguments:
            x: The images, (n, C, H, W).
            return_latent: Whether to return ``(reconstruction, latent)`` instead. The latent is
                f(x) before all but the code is set to zero.
        """
        latent = self._latent(x)
        # Without a Gaussian, the bottleneck is given the whole latent and cuts it itself.
        kept = latent if self.gaussian is None else self.gaussian(latent)
        reconstruction = self._image(kept)
        return (reconstruction, latent) if return_latent else reconstruction

    def encode(self, x: Tensor) -> Tensor:
        """Returns the codes (n, b) of images (n, C, H, W)."""
        latent = self._latent(x)
        return self.bottleneck.code(latent) if self.gaussian is None else self.gaussian(latent)

    def decode(self, code: Tensor) -> Tensor:
        """Returns the images (n, C, H, W) that codes (n, b) stand for."""
        checks.require_sample_shape(code, (self.bottleneck.size,), "code")
        return self._image(code)

    def _latent(self, x: Tensor) -> Tensor:
        checks.require_sample_shape(x, self._image_shape, "x")
        latent: Tensor = self.inn(x, jac=False)[0]
        return latent

    def _image(self, kept: Tensor) -> Tensor:
        image: Tensor = self.inn(self.bottleneck(kept), rev=True, jac=False)[0]
        return image


def _input_and_output_shape(inn: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of the one input and the one output of a graph.

    It looks for FrEIA's attributes by name, since a compiled graph is of another type.
    """
    names = ("dims_in", "global_out_shapes", "condition_nodes")
    inputs, outputs, conditions = (list(getattr(inn, name, ())) for name in names)
    if len(inputs) != 1 or len(outputs) != 1 or conditions:
        raise ArgumentTypeError(
            "inn",
            "expected a FrEIA GraphINN with one input, one output and no condition, got "
            f"{type(inn).__name__}. Build one, or take ip.models.mnist_inn().",
        )
    (image,), (latent,) = inputs, outputs
    return tuple(image), tuple(latent)


class InvertibleAutoencoderLoss(nn.Module):
    r"""The training loss of an invertible autoencoder with a plain code.

    .. math:: \text{mean} |x - \hat x| + \text{mean}\, z_{> b}^2

    The first term is the mean absolute error of the reconstruction. The second is the mean square
    of the latent entries that the bottleneck drops: it makes them small, so that little is lost
    when they are set to zero. Gaussian codes are trained with :class:`VariationalLoss` instead.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019), whose published code weighs both terms
        with 1 and its terms on the distribution of the code with 0.
    """

    def forward(self, model: InvertibleAutoencoder, x: Tensor) -> Tensor:
        """Returns the loss of a model on images (n, C, H, W), a scalar.

        Arguments:
            model: The autoencoder, possibly wrapped by ``torch.compile`` or data parallelism.
            x: The images, (n, C, H, W).

        Raises:
            TypeError: The model is not an invertible autoencoder, or its code is Gaussian.
        """
        autoencoder = unwrapped(model)
        if not isinstance(autoencoder, InvertibleAutoencoder) or autoencoder.gaussian is not None:
            raise ArgumentTypeError(
                "model",
                "expected an InvertibleAutoencoder whose bottleneck is an integer, got "
                f"{type(autoencoder).__name__}. This loss would drive the variances of a Gaussian "
                "code to 1: use ip.models.VariationalLoss() for it, and "
                "ip.models.reconstruction_loss for other models.",
            )
        reconstruction, latent = model(x, return_latent=True)
        rest = autoencoder.bottleneck.rest(latent)
        # If nothing is dropped, the mean would be NaN.
        sparsity = rest.square().mean() if rest.numel() else rest.new_zeros(())
        return nn.functional.l1_loss(reconstruction, x) + sparsity
