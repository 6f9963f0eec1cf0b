"""Classical autoencoders, to compare with the invertible ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, ClassVar

from torch import Tensor, nn

from infoprobe import checks
from infoprobe.models.variational import GaussianBottleneck


class ClassicalAutoencoder(nn.Module, ABC):
    """An encoder that ends in a linear code, and a decoder with weights of its own.

    Attributes:
        image_shape: (C, H, W) of the images.
        size: How many numbers a code has, b.
        encoder: Gives the code, or mean and log-variance of a Gaussian one.
        gaussian: What draws codes from these; ``None`` where the code is not Gaussian.
        decoder: Makes an image of a code.
    """

    image_shape: ClassVar[tuple[int, int, int]]

    def __init__(self, bottleneck: int | GaussianBottleneck) -> None:
        super().__init__()
        self.gaussian: GaussianBottleneck | None
        if isinstance(bottleneck, GaussianBottleneck):
            self.size, self.gaussian, width = bottleneck.size, bottleneck, 2 * bottleneck.size
        else:
            checks.require_integer(bottleneck, 1, None, "bottleneck")
            self.size, self.gaussian, width = bottleneck, None, bottleneck
        self.encoder = nn.Sequential(OrderedDict(self._encoder(width)))
        self.decoder = nn.Sequential(OrderedDict(self._decoder(self.size)))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.01)

    @staticmethod
    @abstractmethod
    def _encoder(width: int) -> dict[str, nn.Module]:
        """The layers from an image to ``width`` numbers."""

    @staticmethod
    @abstractmethod
    def _decoder(size: int) -> dict[str, nn.Module]:
        """The layers from a code of ``size`` numbers to an image."""

    def forward(self, x: Tensor, *, return_latent: bool = False) -> Any:
        """Reconstructions of images (n, C, H, W).

        Arguments:
            x: Images.
            return_latent: Whether to return ``(reconstruction, latent)``, the latent being what
                the encoder gives: the code, or mean and log-variance of a Gaussian one.
        """
        if not return_latent:
            return self.decode(self.encode(x))
        latent = self._latent(x)
        return self.decode(self._code(latent)), latent

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, b) of images (n, C, H, W)."""
        return self._code(self._latent(x))

    def decode(self, code: Tensor) -> Tensor:
        """Images (n, C, H, W) of codes (n, b)."""
        checks.require_sample_shape(code, (self.size,), "code")
        images: Tensor = self.decoder(code)
        return images

    def _latent(self, x: Tensor) -> Tensor:
        checks.require_sample_shape(x, self.image_shape, "x")
        latent: Tensor = self.encoder(x)
        return latent

    def _code(self, latent: Tensor) -> Tensor:
        return latent if self.gaussian is None else self.gaussian(latent)


class MNISTAutoencoder(ClassicalAutoencoder):
    """The classical autoencoder for MNIST of Nguyen, Ardizzone & Köthe (2019).

    Of (n, 1, 28, 28) images. Fully connected, 784-512-256-128-b and back, ReLU after each hidden
    layer, a linear code and Tanh at the end; 1,133,072 + 257 b trainable parameters. The layers
    are named ``encoder.fc1`` (``.linear``, ``.relu``) to ``encoder.fc3``, ``encoder.code``,
    ``decoder.fc1`` to ``decoder.fc3``, ``decoder.output``.

    Arguments:
        bottleneck: The size of the code, b. A :class:`GaussianBottleneck` of that size instead
            makes the autoencoder variational: ``encoder.code`` then has 2 b outputs, the mean and
            log-variance of which the layer ``gaussian`` draws codes.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """

    image_shape = (1, 28, 28)

    @staticmethod
    def _encoder(width: int) -> dict[str, nn.Module]:
        return {
            "flatten": nn.Flatten(),
            "fc1": _fc(784, 512),
            "fc2": _fc(512, 256),
            "fc3": _fc(256, 128),
            "code": nn.Linear(128, width),
        }

    @staticmethod
    def _decoder(size: int) -> dict[str, nn.Module]:
        return {
            "fc1": _fc(size, 128),
            "fc2": _fc(128, 256),
            "fc3": _fc(256, 512),
            "output": _block(linear=nn.Linear(512, 784), tanh=nn.Tanh()),
            "unflatten": nn.Unflatten(1, (1, 28, 28)),
        }


class CIFAR10Autoencoder(ClassicalAutoencoder):
    """The classical autoencoder for CIFAR-10 of Nguyen, Ardizzone & Köthe (2019).

    Of (n, 3, 32, 32) images. Convolutions 3x3 without padding, 3-64-128-pool-256-512-pool-1024,
    a linear code of the 9,216 numbers, and the same backwards with transposed convolutions and
    nearest-neighbour upsampling; max-pooling, ReLU after each hidden layer and Tanh at the end;
    12,549,379 + 18,433 b trainable parameters. The layers are named ``encoder.conv1`` (``.conv``,
    ``.relu``) to ``encoder.conv5`` with ``encoder.pool1`` and ``encoder.pool2`` between,
    ``encoder.code``, ``decoder.fc`` (``.linear``, ``.relu``), ``decoder.conv1`` to
    ``decoder.conv4`` with ``decoder.upsample1`` and ``decoder.upsample2`` between,
    ``decoder.output``.

    Arguments:
        bottleneck: As in :class:`MNISTAutoencoder`.

    References:
        As :class:`MNISTAutoencoder`.
    """

    image_shape = (3, 32, 32)

    @staticmethod
    def _encoder(width: int) -> dict[str, nn.Module]:
        return {
            "conv1": _conv(3, 64, 3),
            "conv2": _conv(64, 128, 3),
            "pool1": nn.MaxPool2d(2),
            "conv3": _conv(128, 256, 3),
            "conv4": _conv(256, 512, 3),
            "pool2": nn.MaxPool2d(2),
            "conv5": _conv(512, 1024, 3),
            "flatten": nn.Flatten(),
            "code": nn.Linear(9216, width),
        }

    @staticmethod
    def _decoder(size: int) -> dict[str, nn.Module]:
        return {
            "fc": _fc(size, 9216),
            "unflatten": nn.Unflatten(1, (1024, 3, 3)),
            "conv1": _transposed(1024, 512, 3),
            "upsample1": nn.Upsample(scale_factor=2),
            "conv2": _transposed(512, 256, 3),
            "conv3": _transposed(256, 128, 3),
            "upsample2": nn.Upsample(scale_factor=2),
            "conv4": _transposed(128, 64, 3),
            "output": _block(conv=nn.ConvTranspose2d(64, 3, 3), tanh=nn.Tanh()),
        }


class CelebAAutoencoder(ClassicalAutoencoder):
    """The classical autoencoder for CelebA of Nguyen, Ardizzone & Köthe (2019).

    Of (n, 3, 218, 178) images. Convolutions 4x4 of stride 2, 3-128-256-512-1024-1024, a linear
    code of the 20,480 numbers, and the same backwards with transposed convolutions; ReLU after
    each hidden layer and Tanh at the end; 55,612,163 + 40,961 b trainable parameters. The layers
    are named ``encoder.conv1`` (``.conv``, ``.relu``) to ``encoder.conv5``, ``encoder.code``,
    ``decoder.fc`` (``.linear``, ``.relu``), ``decoder.conv1`` to ``decoder.conv4``,
    ``decoder.output``.

    Arguments:
        bottleneck: As in :class:`MNISTAutoencoder`.

    References:
        As :class:`MNISTAutoencoder`.
    """

    image_shape = (3, 218, 178)

    @staticmethod
    def _encoder(width: int) -> dict[str, nn.Module]:
        return {
            "conv1": _conv(3, 128, 4, stride=2),
            "conv2": _conv(128, 256, 4, stride=2, padding=1),
            "conv3": _conv(256, 512, 4, stride=2, padding=(0, 1)),
            "conv4": _conv(512, 1024, 4, stride=2),
            "conv5": _conv(1024, 1024, 4, stride=2),
            "flatten": nn.Flatten(),
            "code": nn.Linear(20480, width),
        }

    @staticmethod
    def _decoder(size: int) -> dict[str, nn.Module]:
        output = nn.ConvTranspose2d(128, 3, 4, stride=2)
        return {
            "fc": _fc(size, 20480),
            "unflatten": nn.Unflatten(1, (1024, 5, 4)),
            "conv1": _transposed(1024, 1024, 4, stride=2),
            "conv2": _transposed(1024, 512, 4, stride=2),
            "conv3": _transposed(512, 256, 4, stride=2, padding=(0, 1)),
            "conv4": _transposed(256, 128, 4, stride=2, padding=1),
            "output": _block(conv=output, tanh=nn.Tanh()),
        }


def _fc(features_in: int, features_out: int) -> nn.Sequential:
    return _block(linear=nn.Linear(features_in, features_out), relu=nn.ReLU())


def _conv(channels_in: int, channels_out: int, kernel: int, **settings: Any) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, **settings)
    return _block(conv=conv, relu=nn.ReLU())


def _transposed(
    channels_in: int, channels_out: int, kernel: int, **settings: Any
) -> nn.Sequential:
    conv = nn.ConvTranspose2d(channels_in, channels_out, kernel, **settings)
    return _block(conv=conv, relu=nn.ReLU())


def _block(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
