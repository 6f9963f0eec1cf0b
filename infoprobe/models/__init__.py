"""Reference models: the autoencoders of Nguyen, Ardizzone & Köthe (2019), and their training."""

from infoprobe.models.classical import MNISTAutoencoder
from infoprobe.models.invertible import (
    InvertibleAutoencoder,
    InvertibleAutoencoderLoss,
    ZeroPadding,
    mnist_inn,
)
from infoprobe.models.training import (
    CLASSICAL_SCHEDULE,
    INVERTIBLE_SCHEDULE,
    Schedule,
    fit,
    reconstruction_loss,
)

__all__ = [
    "CLASSICAL_SCHEDULE",
    "INVERTIBLE_SCHEDULE",
    "InvertibleAutoencoder",
    "InvertibleAutoencoderLoss",
    "MNISTAutoencoder",
    "Schedule",
    "ZeroPadding",
    "fit",
    "mnist_inn",
    "reconstruction_loss",
]
