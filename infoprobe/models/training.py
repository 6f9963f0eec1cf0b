"""Training the reference models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.models.invertible import InvertibleAutoencoder, InvertibleAutoencoderLoss
from infoprobe.progress import progress_bar

Loss = Callable[[Any, Tensor], Tensor]


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
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks.integer(self.epochs, 1, None, "epochs")
        checks.integer(self.batch_size, 1, None, "batch_size")


#: Of the invertible autoencoder for MNIST, as published by Nguyen, Ardizzone & Köthe (2019).
INVERTIBLE_SCHEDULE = Schedule(
    epochs=10, betas=(0.8, 0.8), eps=1e-4, weight_decay=1e-6, milestones=(8, 10)
)

#: Of the classical autoencoder for MNIST, as published by Nguyen, Ardizzone & Köthe (2019).
CLASSICAL_SCHEDULE = Schedule(epochs=100, weight_decay=1e-5, milestones=tuple(range(10, 101, 10)))


def reconstruction_loss(model: nn.Module, x: Tensor) -> Tensor:
    """The mean absolute error of a model's reconstruction of images."""
    return nn.functional.l1_loss(model(x), x)


def fit(
    model: nn.Module,
    data: Tensor,
    schedule: Schedule | None = None,
    *,
    loss: Loss | None = None,
    seed: int = 0,
    autocast: torch.dtype | None = None,
    progress: bool = True,
    **settings: Any,
) -> list[float]:
    """Trains an autoencoder, where its parameters are.

    Arguments:
        model: Left in training mode.
        data: Images of shape (n, C, H, W); uint8 ones are scaled to [0, 1] batch by batch.
        schedule: ``None`` for the published one of the model's family.
        loss: ``f(model, images)``; ``None`` for :class:`InvertibleAutoencoderLoss` with an
            :class:`InvertibleAutoencoder` and :func:`reconstruction_loss` otherwise.
        seed: Of the order of the images. Torch's global generator is not used.
        autocast: A lower precision for the forward pass, such as ``torch.bfloat16``.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.
        settings: Changes of the schedule, such as ``epochs=2, batch_size=64``.

    Returns:
        The mean loss of every epoch.

    Raises:
        TypeError: A schedule has no such setting.
        ValueError: The images are fewer than a batch or of the wrong shape.
        FloatingPointError: The loss became NaN or infinite; the message says when.
    """
    invertible = isinstance(model, InvertibleAutoencoder)
    published = INVERTIBLE_SCHEDULE if invertible else CLASSICAL_SCHEDULE
    schedule = replace(schedule or published, **settings)
    loss = loss or (InvertibleAutoencoderLoss() if invertible else reconstruction_loss)
    data = checks.as_tensor(data, "data")
    batches = len(data) // schedule.batch_size
    if batches == 0:
        raise ValueError(
            f"data: expected at least one batch of {schedule.batch_size}, got {len(data)}. "
            "Pass more images, or a schedule with a smaller batch_size."
        )
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=schedule.learning_rate,
        betas=schedule.betas,
        eps=schedule.eps,
        weight_decay=schedule.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, schedule.milestones)
    model.train()
    history: list[float] = []
    bar = progress_bar(schedule.epochs * batches, type(model).__name__) if progress else None
    try:
        for epoch in range(schedule.epochs):
            order = torch.randperm(len(data), generator=generator)
            total = 0.0
            for step in range(batches):
                start = step * schedule.batch_size
                x = as_floats(data[order[start : start + schedule.batch_size]].to(device))
                with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                    value = loss(model, x)
                current = value.item()
                if not torch.isfinite(value):
                    raise FloatingPointError(
                        f"the loss became {current} in epoch {epoch + 1}, step {step + 1}. "
                        "Check that the images are finite, lower the learning rate, or train "
                        "without autocast."
                    )
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                total += current
                if bar is not None:
                    bar.set_postfix(epoch=epoch + 1, loss=f"{total / (step + 1):.4f}")
                    bar.update()
            scheduler.step()
            history.append(total / batches)
    finally:
        if bar is not None:
            bar.close()
    return history


def as_floats(images: Tensor) -> Tensor:
    """Images as the models take them: uint8 scaled to [0, 1], anything else as it is."""
    return images / 255 if images.dtype == torch.uint8 else images
