"""Reference models: the autoencoders of Nguyen, Ardizzone & Köthe (2019), and their training."""

from infoprobe.models.classical import CelebAAutoencoder, CIFAR10Autoencoder, MNISTAutoencoder
from infoprobe.models.invertible import (
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    ZeroPadding,
    celeba_inn,
    cifar10_inn,
    mnist_inn,
)
from infoprobe.models.schedules import SCHEDULES, Schedule
from infoprobe.models.training import fit, reconstruction_loss
from infoprobe.models.variational import GaussianBottleneck, VariationalLoss

__all__ = [
    "SCHEDULES",
    "CIFAR10Autoencoder",
    "CelebAAutoencoder",
    "GaussianBottleneck",
    "InvertibleAutoencoder",
    "InvertibleAutoencoderLoss",
    "MNISTAutoencoder",
    "Schedule",
    "VariationalLoss",
    "ZeroPadding",
    "celeba_inn",
    "cifar10_inn",
    "fit",
    "mnist_inn",
    "reconstruction_loss",
]


def __dir__() -> list[str]:
    """Returns the public names, which are those that completion shows."""
    return __all__
