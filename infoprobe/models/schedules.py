"""Training schedules, and the published ones of the reference models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train, with Adam.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images a step; an incomplete last batch is dropped.
        learning_rate: Before the first milestone.
        betas: Adam's.
        eps: Adam's.
        weight_decay: Adam's.
        milestones: Epochs after which the learning rate falls to a tenth.

    Raises:
        TypeError: A setting is of another type.
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
        checks.require_integer(self.epochs, 1, None, "epochs")
        checks.require_integer(self.batch_size, 1, None, "batch_size")
        for name in ("learning_rate", "eps", "weight_decay"):
            checks.require_real(getattr(self, name), 0, name)
        for name in ("betas", "milestones"):
            value = getattr(self, name)
            if not isinstance(value, tuple):
                raise ArgumentTypeError(
                    name, f"expected a tuple, got {value!r} of type {type(value).__name__}."
                )

    def scaled(self, epochs: int) -> Schedule:
        """The schedule in so many epochs, its milestones at the same fractions, rounded up.

        Example:
            >>> ip.models.SCHEDULES["mnist_classical"].scaled(epochs=5).milestones
            (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
        """
        milestones = tuple(-(-milestone * epochs // self.epochs) for milestone in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones)

    def learning_rate_in(self, epoch: int) -> float:
        """The learning rate in an epoch, of which the first is 0."""
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * 0.1**passed


_INN = Schedule(epochs=10, betas=(0.8, 0.8), eps=1e-4, weight_decay=1e-6, milestones=(8, 10))
_CLASSICAL = Schedule(epochs=100, weight_decay=1e-5, milestones=tuple(range(10, 101, 10)))

#: The schedules of Nguyen, Ardizzone & Köthe (2019), as in their code: of the invertible and the
#: classical autoencoder for each data set. That of ``"celeba_classical"`` ends after 2 epochs,
#: before its first milestone. Milestones mean what they did in the torch of 2019, in which the
#: published code counts epochs: since torch 1.1 the same code lowers the rate an epoch earlier.
SCHEDULES = {
    "mnist_inn": _INN,
    "cifar10_inn": replace(_INN, epochs=15, milestones=(10, 15)),
    "celeba_inn": replace(_INN, epochs=8, batch_size=32, milestones=(6, 7, 8)),
    "mnist_classical": _CLASSICAL,
    "cifar10_classical": replace(_CLASSICAL, milestones=(60, 85, 100)),
    "celeba_classical": replace(_CLASSICAL, epochs=2, batch_size=32, milestones=(8, 9, 10)),
}

_PUBLISHED: dict[tuple[str, tuple[int, ...]], str] = {
    ("inn", (1, 28, 28)): "mnist_inn",
    ("inn", (3, 32, 32)): "cifar10_inn",
    ("inn", (3, 156, 128)): "celeba_inn",
    ("classical", (1, 28, 28)): "mnist_classical",
    ("classical", (3, 32, 32)): "cifar10_classical",
    ("classical", (3, 218, 178)): "celeba_classical",
}


def published(family: str, shape: tuple[int, ...]) -> Schedule:
    """The published schedule of the models of a family for images of a shape.

    Arguments:
        family: ``"inn"`` or ``"classical"``.
        shape: Of an image: (C, H, W).

    Raises:
        ValueError: None was published.
    """
    if (family, shape) not in _PUBLISHED:
        shapes = ", ".join(str(known) for kind, known in _PUBLISHED if kind == family)
        raise ArgumentValueError(
            "schedule",
            f"expected one, since none was published for images of shape {shape}, only "
            f"for {shapes}. Pass ip.models.Schedule(epochs=...), or another's: "
            f"ip.models.SCHEDULES[...], one of {', '.join(SCHEDULES)}.",
        )
    return SCHEDULES[_PUBLISHED[family, shape]]
