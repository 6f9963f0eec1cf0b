"""Training the reference models."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.models.checkpoints import Checkpoint, Position, fingerprint
from infoprobe.models.invertible import InvertibleAutoencoder, InvertibleAutoencoderLoss
from infoprobe.models.schedules import Schedule, published
from infoprobe.models.variational import VariationalLoss
from infoprobe.progress import progress_bar

Loss = Callable[[Any, Tensor], Tensor]


class Images(Protocol):
    """Images that are read when they are needed, such as those of a folder.

    With a checkpoint, an index always gives the same image: draw augmentations in the loss.
    """

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
            tensor of indices; uint8 ones are scaled to [0, 1] batch by batch, and all are brought
            to the precision of the model's parameters.
        schedule: ``None`` for the one in :data:`SCHEDULES` that was published for the model's
            family (an :class:`InvertibleAutoencoder`, or any other model) and the shape of the
            images.
        loss: ``f(model, images)``; ``None`` for :class:`VariationalLoss` with a Gaussian code,
            else :class:`InvertibleAutoencoderLoss` with an :class:`InvertibleAutoencoder` and
            :func:`reconstruction_loss` otherwise. Only the model's parameters are trained.
        seed: Of the order of the images. Torch's global generator is left to the model, which may
            draw from it, as a :class:`GaussianBottleneck` does.
        autocast: ``torch.bfloat16`` for forward passes in that precision; ``"auto"`` for it where
            the processor is made for it (AVX-512 BF16, CUDA since Ampere), and ``None`` elsewhere,
            where it would be slower. (In float16, small gradients would vanish.)
        checkpoint: A file to go on from if it exists, and to write after every epoch and every
            minute. A killed training that is started again ends in the very same weights, on the
            same machine with as many threads, and on CUDA under
            :func:`torch.use_deterministic_algorithms`; a complete one is only loaded. With the
            weights, torch's global random state is restored. The file is of one training: another
            model, schedule, seed, precision, loss or data is an error, where a function that is
            the loss is known by its name. Its tensors ``model.NAME`` are the weights. Needs the
            extra ``infoprobe[train]``.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.
        settings: Changes of the schedule, such as ``epochs=2, batch_size=64``.

    Returns:
        The mean loss of every epoch.

    Raises:
        TypeError: A schedule has no such setting, or an argument is of another type.
        ValueError: The images are fewer than a batch or of the wrong shape, no schedule was
            published for them, nothing is to be trained, or the checkpoint is damaged or of
            another training.
        FloatingPointError: The loss, a weight or its gradient became NaN or infinite; the message
            says when. The checkpoint then holds an earlier, finite state.
    """
    images = _as_images(data)
    sample = _sample(images)
    autoencoder = unwrapped(model)
    if schedule is None:
        family = "inn" if isinstance(autoencoder, InvertibleAutoencoder) else "classical"
        schedule = published(family, tuple(sample.shape[1:]))
    if not isinstance(schedule, Schedule):
        raise ArgumentTypeError(
            "schedule",
            f"expected an ip.models.Schedule, got {schedule!r}. Pass one, such as "
            "ip.models.SCHEDULES['mnist_inn'], or None for the model's own.",
        )
    schedule = replace(schedule, **settings)
    loss = loss or _default_loss(autoencoder)
    checks.require_integer(seed, 0, None, "seed")
    checks.require_one_of(autocast, (None, "auto", torch.bfloat16), "autocast")
    batches = len(images) // schedule.batch_size
    if batches == 0:
        raise ArgumentValueError(
            "data",
            f"expected at least one batch of {schedule.batch_size}, got {len(images)}. "
            "Pass more images, or a schedule with a smaller batch_size.",
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ArgumentValueError(
            "model",
            "expected parameters to train, got none that require gradients. Unfreeze some: "
            "parameter.requires_grad_().",
        )
    device, dtype = parameters[0].device, parameters[0].dtype
    if autocast == "auto":
        autocast = torch.bfloat16 if _has_bfloat16(device) else None
    optimizer = torch.optim.Adam(
        parameters,
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
            "loss": _name(loss),
            "seed": int(seed),
            "autocast": str(autocast),
            "data": f"{len(images):,} images, checksum {fingerprint(sample):08x}",
        }
        file = Checkpoint(checkpoint, model, optimizer, training)
        _require_finite(optimizer, "before the first step")
        position = file.start()
    generator = torch.Generator().manual_seed(int(seed))
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
                batch = images[order[start : start + schedule.batch_size]].to(device)
                x = (batch / 255 if batch.dtype == torch.uint8 else batch).to(dtype)
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
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                position.step += 1
                position.total += current
                bar.set_postfix(
                    epoch=epoch + 1, loss=f"{position.total / position.step:.4f}", refresh=False
                )
                bar.update()
                if file is not None and file.is_due():
                    _require_finite(optimizer, f"by epoch {epoch + 1}, step {position.step}")
                    file.save(position)
            _require_finite(optimizer, f"by epoch {epoch + 1}, step {position.step}")
            position.history.append(position.total / batches)
            position = Position(epoch + 1, history=position.history)
            if file is not None:
                file.save(position)
    return position.history


def _default_loss(model: nn.Module) -> Loss:
    if getattr(model, "gaussian", None) is not None:
        return VariationalLoss()
    if isinstance(model, InvertibleAutoencoder):
        return InvertibleAutoencoderLoss()
    return reconstruction_loss


def _require_finite(optimizer: torch.optim.Optimizer, when: str) -> None:
    """Raises if what is trained, or Adam's memory of its gradients, is NaN or infinite."""
    parameters = [x for group in optimizer.param_groups for x in group["params"]]
    moments = [x for state in optimizer.state.values() for x in state.values()]
    if not all(bool(x.isfinite().all()) for x in (*parameters, *moments)):
        raise FloatingPointError(
            f"a weight or its gradient became NaN or infinite {when}. A checkpoint was left as it "
            "was before. Lower the learning rate, or train without autocast."
        )


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 rather than imitates it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return False
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _as_images(data: Any) -> Tensor | Images:
    if isinstance(data, tuple):
        raise ArgumentTypeError(
            "data",
            f"expected images (n, C, H, W), got a tuple of {len(data)}. Pass the images "
            "without their labels: images, labels = ip.datasets.load(...).",
        )
    array = isinstance(data, (Tensor, np.ndarray, Sequence))
    if not array and hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        if len(data) == 0:
            raise ArgumentValueError(
                "data", f"expected at least one image, got an empty {type(data)}."
            )
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
        raise ArgumentTypeError(
            "data",
            f"expected images (16, C, H, W) for a tensor of 16 indices, got {got}. Give "
            "data a __getitem__ that stacks the images of many indices, without their labels.",
        )
    if sample.dtype != torch.uint8 and not sample.is_floating_point():
        raise ArgumentTypeError(
            "data",
            f"expected images of uint8 or floating-point values, got {sample.dtype}. "
            "Convert them: x.to(torch.uint8), if they are 0 to 255.",
        )
    return sample


def _name(loss: Loss) -> str:
    if isinstance(loss, nn.Module):
        return repr(loss)
    if isinstance(loss, partial):
        return f"{_name(loss.func)} with {loss.args}, {loss.keywords}"
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))
