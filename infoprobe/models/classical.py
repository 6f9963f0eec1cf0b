"""Classical autoencoders, with which the invertible ones are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import ClassVar, Literal, overload

from torch import Tensor, nn

from infoprobe import checks
from infoprobe.models.variational import GaussianBottleneck


class ClassicalAutoencoder(nn.Module, ABC):
    """An encoder that ends in a linear code, and a decoder with weights of its own.

    Attributes:
        image_shape: The shape (C, H, W) of one image.
        size: The number of entries of a code, b.
        encoder: The layers from images (n, C, H, W) to codes (n, b), or to the mean and the
            log-variance (n, 2 b) of Gaussian codes.
        gaussian: The layer that draws the codes from mean and log-variance, or ``None`` where the
            code is not Gaussian.
        decoder: The layers from codes (n, b) to images (n, C, H, W).
    """

    image_shape: ClassVar[tuple[int, int, int]]

    def __init__(self, bottleneck: int | GaussianBottleneck) -> None:
        super().__init__()
        self.gaussian: GaussianBottleneck | None
        self.size: int
        if isinstance(bottleneck, GaussianBottleneck):
            self.size, self.gaussian, width = bottleneck.size, bottleneck, 2 * bottleneck.size
        else:
            bottleneck = checks.require_integer(bottleneck, 1, None, "bottleneck")
            self.size, self.gaussian, width = bottleneck, None, bottleneck
        self.encoder: nn.Sequential = nn.Sequential(OrderedDict(self._encoder_layers(width)))
        self.decoder: nn.Sequential = nn.Sequential(OrderedDict(self._decoder_layers(self.size)))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.01)

    @staticmethod
    @abstractmethod
    def _encoder_layers(width: int) -> dict[str, nn.Module]:
        """Returns the layers, by name, from an image to ``width`` numbers."""

    @staticmethod
    @abstractmethod
    def _decoder_layers(size: int) -> dict[str, nn.Module]:
        """Returns the layers, by name, from a code of ``size`` numbers to an image."""

    @overload
    def forward(self, x: Tensor, *, return_latent: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, x: Tensor, *, return_latent: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, x: Tensor, *, return_latent: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the reconstructions (n, C, H, W) of images.

        Arguments:
            x: The images, (n, C, H, W).
            return_latent: Whether to return ``(reconstruction, latent)`` instead. The latent is
                the output of the encoder: the codes (n, b), or the mean and the log-variance
                (n, 2 b) of Gaussian codes.
        """
        if not return_latent:
            return self.decode(self.encode(x))
        latent = self._latent(x)
        return self.decode(self._code(latent)), latent

    def encode(self, x: Tensor) -> Tensor:
        """Returns the codes (n, b) of images (n, C, H, W)."""
        return self._code(self._latent(x))

    def decode(self, code: Tensor) -> Tensor:
        """Returns the images (n, C, H, W) that codes (n, b) stand for."""
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

    It reconstructs (n, 1, 28, 28) images with fully connected layers, 784-512-256-128-b and back.
    A ReLU follows each hidden layer, the code is linear, and the output passes a Tanh. The model
    has 1,133,072 + 257 b trainable parameters. Its layers are named ``encoder.fc1`` (with
    ``.linear`` and ``.relu``) to ``encoder.fc3``, ``encoder.code``, ``decoder.fc1`` to
    ``decoder.fc3`` and ``decoder.output``.

    Arguments:
        bottleneck: The number of entries of a code, b. A :class:`GaussianBottleneck` of size b
            makes the autoencoder variational instead: ``encoder.code`` then has 2 b outputs, the
            mean and the log-variance, and the layer ``gaussian`` draws the codes from them.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """

    image_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    @staticmethod
    def _encoder_layers(width: int) -> dict[str, nn.Module]:
        return {
            "flatten": nn.Flatten(),
            "fc1": _fc(784, 512),
            "fc2": _fc(512, 256),
            "fc3": _fc(256, 128),
            "code": nn.Linear(128, width),
        }

    @staticmethod
    def _decoder_layers(size: int) -> dict[str, nn.Module]:
        return {
            "fc1": _fc(size, 128),
            "fc2": _fc(128, 256),
            "fc3": _fc(256, 512),
            "output": _block(linear=nn.Linear(512, 784), tanh=nn.Tanh()),
            "unflatten": nn.Unflatten(1, (1, 28, 28)),
        }


class CIFAR10Autoencoder(ClassicalAutoencoder):
    """The classical autoencoder for CIFAR-10 of Nguyen, Ardizzone & Köthe (2019).

    It reconstructs (n, 3, 32, 32) images. The encoder has 3x3 convolutions without padding and
    max-pooling, 3-64-128-pool-256-512-pool-1024, and a linear layer from these 9,216 numbers to
    the code. The decoder goes the same way back with transposed convolutions and nearest-neighbour
    upsampling. A ReLU follows each hidden layer, and the output passes a Tanh. The model has
    12,549,379 + 18,433 b trainable parameters. Its layers are named ``encoder.conv1`` (with
    ``.conv`` and ``.relu``) to ``encoder.conv5``, with ``encoder.pool1`` and ``encoder.pool2``
    between them, ``encoder.code``, ``decoder.fc`` (with ``.linear`` and ``.relu``),
    ``decoder.conv1`` to ``decoder.conv4``, with ``decoder.upsample1`` and ``decoder.upsample2``
    between them, and ``decoder.output``.

    Arguments:
        bottleneck: The number of entries of a code, b, or a :class:`GaussianBottleneck` of that
            size, as for :class:`MNISTAutoencoder`.

    References:
        See :class:`MNISTAutoencoder`.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    @staticmethod
    def _encoder_layers(width: int) -> dict[str, nn.Module]:
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
    def _decoder_layers(size: int) -> dict[str, nn.Module]:
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

    It reconstructs (n, 3, 218, 178) images. The encoder has 4x4 convolutions of stride 2,
    3-128-256-512-1024-1024, and a linear layer from these 20,480 numbers to the code. The decoder
    goes the same way back with transposed convolutions. A ReLU follows each hidden layer, and the
    output passes a Tanh. The model has 55,612,163 + 40,961 b trainable parameters. Its layers are
    named ``encoder.conv1`` (with ``.conv`` and ``.relu``) to ``encoder.conv5``, ``encoder.code``,
    ``decoder.fc`` (with ``.linear`` and ``.relu``), ``decoder.conv1`` to ``decoder.conv4`` and
    ``decoder.output``.

    Arguments:
        bottleneck: The number of entries of a code, b, or a :class:`GaussianBottleneck` of that
            size, as for :class:`MNISTAutoencoder`.

    References:
        See :class:`MNISTAutoencoder`.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (3, 218, 178)

    @staticmethod
    def _encoder_layers(width: int) -> dict[str, nn.Module]:
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
    def _decoder_layers(size: int) -> dict[str, nn.Module]:
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


def _conv(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding)
    return _block(conv=conv, relu=nn.ReLU())


def _transposed(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
) -> nn.Sequential:
    conv = nn.ConvTranspose2d(channels_in, channels_out, kernel, stride, padding)
    return _block(conv=conv, relu=nn.ReLU())


def _block(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
