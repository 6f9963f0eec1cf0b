"""Training the reference models."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.models.checkpoints import Checkpoint, Position, fingerprint
from infoprobe.models.invertible import InvertibleAutoencoder, InvertibleAutoencoderLoss
from infoprobe.models.schedules import Schedule, published
from infoprobe.progress import progress_bar

Loss = Callable[[Any, Tensor], Tensor]


class Images(Protocol):
    """Images that are read when they are needed, such as those of a folder."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Those with the indices (m,): a tensor (m, C, H, W)."""


def reconstruction_loss(model: nn.Module, x: Tensor) -> Tensor:
    """The mean absolute error of a model's reconstruction of images."""
    return nn.functional.l1_loss(model(x), x)


def fit(
    model: nn.Module,
    data: Tensor | Images,
    schedule: Schedule | None = None,
    *,
    loss: Loss | None = None,
    seed: int = 0,
    autocast: torch.dtype | Literal["auto"] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **settings: Any,
) -> list[float]:
    """Trains an autoencoder, where its parameters are.

    Arguments:
        model: Left in training mode. A convolutional one may train faster after
            ``model.to(memory_format=torch.channels_last)``.
        data: Images of shape (n, C, H, W), or an object with a length that gives those of a
            tensor of indices; uint8 ones are scaled to [0, 1] batch by batch.
        schedule: ``None`` for the one in :data:`SCHEDULES` that was published for the model's
            family (an :class:`InvertibleAutoencoder`, or any other model) and the shape of the
            images.
        loss: ``f(model, images)``; ``None`` for :class:`InvertibleAutoencoderLoss` with an
            :class:`InvertibleAutoencoder` and :func:`reconstruction_loss` otherwise.
        seed: Of the order of the images. Torch's global generator is left to the model, which may
            draw from it, as a :class:`GaussianBottleneck` does.
        autocast: A lower precision for the forward pass, such as ``torch.bfloat16``; ``"auto"``
            for that one where the processor is made for it (AVX-512 BF16, CUDA since Ampere), and
            ``None`` elsewhere, where it would be slower.
        checkpoint: A file to go on from if it exists, and to write after every epoch and every
            minute. A killed training that is started again ends in the very same weights, on the
            same machine with as many threads; a complete one is only loaded. With the weights,
            torch's global random state is restored. Needs the extra ``infoprobe[train]``.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.
        settings: Changes of the schedule, such as ``epochs=2, batch_size=64``.

    Returns:
        The mean loss of every epoch.

    Raises:
        TypeError: A schedule has no such setting.
        ValueError: The images are fewer than a batch or of the wrong shape, none was published
            for them, or the checkpoint is damaged or of another training.
        FloatingPointError: The loss became NaN or infinite; the message says when. The
            checkpoint then holds an earlier, finite state.
    """
    images = _as_images(data)
    sample = _sample(images)
    invertible = isinstance(model, InvertibleAutoencoder)
    if schedule is None:
        schedule = published("inn" if invertible else "classical", tuple(sample.shape[1:]))
    schedule = replace(schedule, **settings)
    loss = loss or (InvertibleAutoencoderLoss() if invertible else reconstruction_loss)
    batches = len(images) // schedule.batch_size
    if batches == 0:
        raise ValueError(
            f"data: expected at least one batch of {schedule.batch_size}, got {len(images)}. "
            "Pass more images, or a schedule with a smaller batch_size."
        )
    device = next(model.parameters()).device
    if isinstance(autocast, str):
        if autocast != "auto":
            raise ValueError(
                "autocast: expected 'auto', None or a dtype such as torch.bfloat16, got "
                f"{autocast!r}."
            )
        autocast = torch.bfloat16 if _has_bfloat16(device) else None
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=schedule.learning_rate,
        betas=schedule.betas,
        eps=schedule.eps,
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    model.train()
    position, file = Position(), None
    if checkpoint is not None:
        training = {
            "schedule": asdict(schedule),
            "loss": repr(loss) if isinstance(loss, nn.Module) else _name(loss),
            "seed": int(seed),
            "autocast": str(autocast),
            "data": f"{len(images):,} images, checksum {fingerprint(sample):08x}",
        }
        file = Checkpoint(checkpoint, model, optimizer, training)
        position = file.start()
    generator = torch.Generator().manual_seed(seed)
    steps, done = schedule.epochs * batches, position.epoch * batches + position.step
    with progress_bar(steps, type(model).__name__, shown=progress, done=done) as bar:
        for epoch in range(schedule.epochs):
            # Drawn for epochs that are complete as well: the later ones follow from them.
            order = torch.randperm(len(images), generator=generator)
            if epoch < position.epoch:
                continue
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate_in(epoch)
            for step in range(position.step, batches):
                start = step * schedule.batch_size
                x = as_floats(images[order[start : start + schedule.batch_size]].to(device))
                with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                    value = loss(model, x)
                current = value.item()
                if not math.isfinite(current):
                    raise FloatingPointError(
                        f"the loss became {current} in epoch {epoch + 1}, step {step + 1}. "
                        "Check that the images are finite, lower the learning rate, or train "
                        "without autocast."
                    )
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                position.step += 1
                position.total += current
                bar.set_postfix(
                    epoch=epoch + 1, loss=f"{position.total / position.step:.4f}", refresh=False
                )
                bar.update()
                if file is not None:
                    file.save_if_due(position)
            position.history.append(position.total / batches)
            position = Position(epoch + 1, history=position.history)
            if file is not None:
                file.save(position)
    return position.history


def as_floats(images: Tensor) -> Tensor:
    """Images as the models take them: uint8 scaled to [0, 1], anything else as it is."""
    return images / 255 if images.dtype == torch.uint8 else images


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 rather than imitates it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return False
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _as_images(data: Any) -> Tensor | Images:
    array = isinstance(data, (Tensor, np.ndarray, Sequence))
    if not array and hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        if len(data) == 0:
            raise ValueError(f"data: expected at least one image, got an empty {type(data)}.")
        images: Images = data
        return images
    return checks.as_tensor(data, "data")


def _sample(images: Tensor | Images) -> Tensor:
    """Sixteen images from first to last, which hardly any other data share."""
    sample: Any = images[torch.arange(16) * (len(images) - 1) // 15]
    if not isinstance(sample, Tensor) or len(sample) != 16:
        got = (
            f"shape {tuple(sample.shape)}" if isinstance(sample, Tensor) else type(sample).__name__
        )
        raise TypeError(
            f"data: expected images (16, C, H, W) for a tensor of 16 indices, got {got}. Give "
            "data a __getitem__ that stacks the images of many indices, without their labels."
        )
    return sample


def _name(loss: Loss) -> str:
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))
