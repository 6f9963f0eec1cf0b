"""Training the reference models."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.devices import is_here, send
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.models.checkpoints import Checkpoint, Position
from infoprobe.models.images import Images, as_images, fingerprint, spread_sample
from infoprobe.models.invertible import InvertibleAutoencoder, InvertibleAutoencoderLoss
from infoprobe.models.schedules import Family, Schedule, ScheduleSettings, published
from infoprobe.models.threads import suitable_threads
from infoprobe.models.variational import VariationalLoss, gaussian_of
from infoprobe.progress import is_installed, progress_bar

if TYPE_CHECKING:
    from typing_extensions import Unpack

Model = TypeVar("Model", bound=nn.Module)
# On other devices than the CPU, the losses of so many steps are read at once.
_AT_ONCE = 64
_Model_contra = TypeVar("_Model_contra", bound=nn.Module, contravariant=True)


class Loss(Protocol[_Model_contra]):
    """What training minimises: a function of the model and a batch of images."""

    def __call__(self, model: _Model_contra, x: Tensor, /) -> Tensor:
        """Returns the loss of the model on images (n, C, H, W), a scalar."""


def reconstruction_loss(model: nn.Module, x: Tensor) -> Tensor:
    """Returns the mean absolute error of a model's reconstruction of images, a scalar.

    Arguments:
        model: Any model that maps images to images of the same shape.
        x: The images, (n, C, H, W).
    """
    return nn.functional.l1_loss(model(x), x)


def fit(
    model: Model,
    data: Tensor | np.ndarray | Images,
    schedule: Schedule | None = None,
    *,
    loss: Loss[Model] | None = None,
    seed: int = 0,
    autocast: torch.dtype | Literal["auto"] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **settings: Unpack[ScheduleSettings],
) -> list[float]:
    """Trains an autoencoder on images with Adam, on the device where its parameters are.

    On the processor, a model of small layers is trained on one thread: with several, it would be
    many times slower as soon as another program needs a core. The number of threads is set back
    afterwards.

    Arguments:
        model: The model to train. It is left in training mode. A convolutional one may train
            faster after ``model.to(memory_format=torch.channels_last)``.
        data: The images, (n, C, H, W), or an object that has a length and gives the images
            (m, C, H, W) of a tensor of m indices. Values of type uint8 are scaled to [0, 1] batch
            by batch; all values are converted to the precision of the model's parameters.
        schedule: The settings of the training. ``None`` takes the one in
            :data:`~infoprobe.models.schedules.SCHEDULES` that was published for the shape of the
            images and for the family of the model (an :class:`InvertibleAutoencoder`, or any other
            model).
        loss: The function ``loss(model, images)`` to minimise. ``None`` takes
            :class:`VariationalLoss` for models with a Gaussian code, otherwise
            :class:`InvertibleAutoencoderLoss` for an :class:`InvertibleAutoencoder` and
            :func:`reconstruction_loss` for any other model. Parameters of the loss itself are not
            trained.
        seed: The seed of the order of the images. The model may draw from torch's global
            generator, as a :class:`GaussianBottleneck` does; the training itself does not.
        autocast: ``torch.bfloat16`` for forward passes in that precision, ``None`` for passes in
            the precision of the parameters. ``"auto"`` takes bfloat16 on processors that are made
            for it (AVX-512 BF16, CUDA since Ampere) and ``None`` on others, where it would be
            slower. (In float16, small gradients would vanish.)
        checkpoint: The path of a file from which the training continues if the file exists, and
            which is written after every epoch and about every minute. A training that was killed
            and is started again ends with bit-for-bit the same weights, on the same machine with
            the same number of threads, and on CUDA under
            :func:`torch.use_deterministic_algorithms`. A complete training is only loaded, and
            more ``epochs`` continue it. Loading restores torch's global random state together with
            the weights. The file belongs to one training: another model, schedule, seed,
            precision, loss or data raise an error. (A function that serves as loss is recognised
            by its name. Images in memory are recognised by all their values; images that are read
            when they are needed by 64 of them, and those of an
            :class:`~infoprobe.datasets.ImageFiles` by the names and sizes of all files as well.) A
            file in which anything changed since it was written raises an error, too. Its tensors
            ``model.NAME`` are the weights. The previous file stays until the next one is complete;
            where the path is a symbolic link, the file that the link points to is replaced. Needs
            the extra ``infoprobe[train]``.
        progress: Whether to show a progress bar, which needs the extra ``infoprobe[progress]``;
            ``None`` shows one if the extra is installed.
        settings: Changes to the schedule, such as ``epochs=2, batch_size=64``.

    Returns:
        The mean loss of each epoch, in the order of the epochs.

    Raises:
        TypeError: The schedule has no such setting, or an argument has the wrong type.
        ValueError: There are fewer images than a batch holds or they have the wrong shape, no
            schedule was published for them, no parameter requires gradients, or the checkpoint is
            damaged or belongs to another training.
        FloatingPointError: The loss, a weight or a gradient became NaN or infinite; the message
            says when. The checkpoint then still holds an earlier, finite state. On the CPU, a
            loss that is not finite is seen before the weights change. On other devices, for which
            the training waits only now and then, it is seen up to 64 steps later.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("model", f"expected a torch.nn.Module, got {checks.shown(model)}.")
    images = as_images(data, "data")
    sample = spread_sample(images, "data")
    autoencoder = unwrapped(model)
    if schedule is None:
        invertible = isinstance(autoencoder, InvertibleAutoencoder)
        family: Family = "inn" if invertible else "classical"
        schedule = published(family, tuple(sample.shape[1:]))
    if not isinstance(schedule, Schedule):
        raise ArgumentTypeError(
            "schedule",
            f"expected an ip.models.Schedule, got {checks.shown(schedule)}. Pass one, such as "
            "ip.models.SCHEDULES['mnist_inn'], or None for the one that was published.",
        )
    schedule = replace(schedule, **settings)
    loss = _default_loss(autoencoder) if loss is None else loss
    if not callable(loss):
        raise ArgumentTypeError(
            "loss", f"expected a function loss(model, images), got {checks.shown(loss)}."
        )
    seed = checks.require_integer(seed, 0, None, "seed")
    checks.require_one_of(autocast, (None, "auto", torch.bfloat16), "autocast")
    if progress is not None:
        progress = checks.require_bool(progress, "progress")
    batches = len(images) // schedule.batch_size
    if batches == 0:
        raise ArgumentValueError(
            "data",
            f"expected at least one batch of {schedule.batch_size}, got {len(images)} images. "
            "Pass more images, or a schedule with a smaller batch_size.",
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ArgumentValueError(
            "model",
            "expected parameters to train, got none that requires gradients. Unfreeze some with "
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
        # A training of fewer epochs is the beginning of this one.
        training = {
            "schedule": {k: x for k, x in asdict(schedule).items() if k != "epochs"},
            "loss": _name(loss),
            "seed": seed,
            "autocast": str(autocast),
            "data": f"{len(images):,} images, checksum {fingerprint(images)}",
        }
        epochs = schedule.epochs
        file = Checkpoint(checkpoint, model, optimizer, training, epochs=epochs, batches=batches)
        _require_finite(optimizer, "before the first step")
        position = file.start()
    few = _scaled(sample[:2].to(device), dtype)
    generator = torch.Generator().manual_seed(seed)
    shown = is_installed() if progress is None else progress
    steps, done = schedule.epochs * batches, position.epoch * batches + position.step
    with (
        suitable_threads(model, partial(loss, model), few, schedule.batch_size),
        progress_bar(steps, type(model).__name__, shown=shown, done=done) as bar,
    ):
        for epoch in range(schedule.epochs):
            # Drawn for complete epochs too, since the later draws depend on the earlier ones.
            order = torch.randperm(len(images), generator=generator, device="cpu")
            if epoch < position.epoch:
                continue
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate_in(epoch)
            unread: dict[int, Tensor] = {}
            for step in range(position.step, batches):
                start = step * schedule.batch_size
                batch = send(images[order[start : start + schedule.batch_size]], device)
                x = _scaled(batch, dtype)
                with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                    value = loss(model, x)
                unread[step] = value.detach()
                if is_here(value) or len(unread) == _AT_ONCE:
                    position.total += _read(unread, epoch)
                    mean = position.total / (step + 1)
                    bar.set_postfix(epoch=epoch + 1, loss=f"{mean:.4f}", refresh=False)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                position.step += 1
                bar.update()
                if file is not None and file.is_due():
                    position.total += _read(unread, epoch)
                    _require_finite(optimizer, f"by epoch {epoch + 1}, step {position.step}")
                    file.save(position)
            position.total += _read(unread, epoch)
            _require_finite(optimizer, f"by epoch {epoch + 1}, step {position.step}")
            position.history.append(position.total / batches)
            position = Position(epoch + 1, history=position.history)
            if file is not None:
                file.save(position)
    return position.history


def _scaled(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns images with values in [0, 1], in this precision; those of type uint8 are scaled."""
    return (images / 255 if images.dtype == torch.uint8 else images).to(dtype)


def _default_loss(model: nn.Module) -> Loss[nn.Module]:
    if gaussian_of(model) is not None:
        return VariationalLoss()
    if isinstance(model, InvertibleAutoencoder):
        return InvertibleAutoencoderLoss()
    return reconstruction_loss


def _read(losses: dict[int, Tensor], epoch: int) -> float:
    """Returns the sum of the losses of some steps of an epoch, and empties them.

    Raises:
        FloatingPointError: One of them is not finite.
    """
    if not losses:
        return 0.0
    values = torch.stack([loss.reshape(()) for loss in losses.values()]).tolist()
    for step, value in zip(losses, values, strict=True):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} in epoch {epoch + 1}, step {step + 1}. Check that the "
                "images are finite, lower the learning rate, or train without autocast."
            )
    losses.clear()
    return float(sum(values))


def _require_finite(optimizer: torch.optim.Optimizer, when: str) -> None:
    """Raises unless the trained parameters and Adam's moments of their gradients are finite."""
    parameters = [x for group in optimizer.param_groups for x in group["params"]]
    moments = [x for state in optimizer.state.values() for x in state.values()]
    if not all(bool(x.isfinite().all()) for x in (*parameters, *moments)):
        raise FloatingPointError(
            f"a weight or its gradient became NaN or infinite {when}. The checkpoint, if there is "
            "one, was left as it was before. Lower the learning rate, or train without autocast."
        )


def _has_bfloat16(device: torch.device) -> bool:
    """Returns whether a device computes in bfloat16 rather than emulates it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return False
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _name(loss: Loss[Model]) -> str:
    """Returns what a checkpoint says of the loss, so that another one is recognised."""
    if isinstance(loss, nn.Module):
        return repr(loss)
    if isinstance(loss, partial):
        return f"{_name(loss.func)} with {loss.args}, {loss.keywords}"
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))
