"""Training schedules, and those that were published for the reference models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

# Adam divides by 1 - beta.
_LARGEST_BETA = 1 - 2**-53


@dataclass(frozen=True)
class Schedule:
    """The settings of a training with Adam: how long, in which batches and how fast.

    Attributes:
        epochs: The number of passes over the images, at least 1.
        batch_size: The number of images per step, at least 1. An incomplete last batch of an
            epoch is dropped.
        learning_rate: Adam's learning rate until the first milestone.
        betas: Adam's decay rates of the two moments.
        eps: Adam's constant for numerical stability.
        weight_decay: Adam's weight decay.
        milestones: The numbers of complete epochs at which the learning rate falls to a tenth.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: A number is too small.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks.require_integer_field(self, "epochs", 1)
        checks.require_integer_field(self, "batch_size", 1)
        checks.require_real_field(self, "learning_rate", 0)
        checks.require_real_field(self, "eps", 0)
        checks.require_real_field(self, "weight_decay", 0)
        settings: dict[str, object] = {"betas": self.betas, "milestones": self.milestones}
        for name, value in settings.items():
            if not isinstance(value, tuple):
                raise ArgumentTypeError(name, f"expected a tuple, got {checks.typed(value)}.")
        if len(self.betas) != 2:
            raise ArgumentValueError("betas", f"expected two numbers, got {self.betas!r}.")
        betas = (checks.require_real(beta, 0, "betas", _LARGEST_BETA) for beta in self.betas)
        milestones = (checks.require_integer(x, 0, None, "milestones") for x in self.milestones)
        object.__setattr__(self, "betas", tuple(betas))
        object.__setattr__(self, "milestones", tuple(milestones))

    def scaled(self, epochs: int) -> Schedule:
        """Returns this schedule stretched or shortened to another number of epochs.

        The milestones stay at the same fractions of the training, rounded up to whole epochs.

        Example:
            >>> ip.models.SCHEDULES["mnist_classical"].scaled(epochs=5).milestones
            (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
        """
        milestones = tuple(-(-milestone * epochs // self.epochs) for milestone in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones)

    def learning_rate_in(self, epoch: int) -> float:
        """Returns the learning rate in an epoch; the first epoch is number 0."""
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * 0.1**passed


class ScheduleSettings(TypedDict, total=False):
    """Changes of some of the attributes of a :class:`Schedule`."""

    epochs: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    milestones: tuple[int, ...]


_INN = Schedule(epochs=10, betas=(0.8, 0.8), eps=1e-4, weight_decay=1e-6, milestones=(8, 10))
_CLASSICAL = Schedule(epochs=100, weight_decay=1e-5, milestones=tuple(range(10, 101, 10)))

#: The schedules of Nguyen, Ardizzone & Köthe (2019), as in their code, one for the invertible
#: and one for the classical autoencoder of each data set. ``"celeba_classical"`` ends after 2
#: epochs, before its first milestone. The milestones mean what they meant in the torch of 2019,
#: in which the published code counts epochs: since torch 1.1, the same code lowers the learning
#: rate an epoch earlier.
SCHEDULES: dict[str, Schedule] = {
    "mnist_inn": _INN,
    "cifar10_inn": replace(_INN, epochs=15, milestones=(10, 15)),
    "celeba_inn": replace(_INN, epochs=8, batch_size=32, milestones=(6, 7, 8)),
    "mnist_classical": _CLASSICAL,
    "cifar10_classical": replace(_CLASSICAL, milestones=(60, 85, 100)),
    "celeba_classical": replace(_CLASSICAL, epochs=2, batch_size=32, milestones=(8, 9, 10)),
}

#: Which models a schedule was published for: invertible autoencoders, or any others.
Family = Literal["inn", "classical"]

_PUBLISHED: dict[tuple[Family, tuple[int, ...]], str] = {
    ("inn", (1, 28, 28)): "mnist_inn",
    ("inn", (3, 32, 32)): "cifar10_inn",
    ("inn", (3, 156, 128)): "celeba_inn",
    ("classical", (1, 28, 28)): "mnist_classical",
    ("classical", (3, 32, 32)): "cifar10_classical",
    ("classical", (3, 218, 178)): "celeba_classical",
}


def published(family: Family, shape: tuple[int, ...]) -> Schedule:
    """Returns the schedule that was published for a family of models and a shape of images.

    Arguments:
        family: ``"inn"`` for invertible autoencoders, ``"classical"`` for others.
        shape: The shape (C, H, W) of an image.

    Raises:
        ValueError: No schedule was published for them.
    """
    if (family, shape) not in _PUBLISHED:
        shapes = ", ".join(str(known) for kind, known in _PUBLISHED if kind == family)
        raise ArgumentValueError(
            "schedule",
            f"expected a schedule, since none was published for images of shape {shape}, only for "
            f"{shapes}. Pass ip.models.Schedule(epochs=...), or a published one: "
            f"ip.models.SCHEDULES[...], one of {', '.join(SCHEDULES)}.",
        )
    return SCHEDULES[_PUBLISHED[family, shape]]
