"""Checkpoints: a training that was killed continues from its file as if never interrupted."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from infoprobe import files
from infoprobe.errors import ArgumentValueError

# Seconds between two writes: about what a killed training loses. A write takes far less time.
_SECONDS = 60.0
# The checksum in the header, of the whole file with zeros in the place of the checksum itself.
_CHECKSUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_NO_CHECKSUM = 64 * "0"
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
_WAY_OUT = "Delete it to train from the start, or pass another path."


@dataclass
class Position:
    """How far a training has come.

    Attributes:
        epoch: The number of complete epochs.
        step: The number of complete steps of the epoch that follows them.
        total: The sum of the losses of these steps.
        history: The mean loss of each complete epoch.
    """

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    history: list[float] = field(default_factory=list)


class Checkpoint:
    """A safetensors file with all that the rest of a training depends on.

    The file holds the tensors of the model's ``state_dict()`` (as ``model.NAME``), Adam's state
    (``adam.INDEX.NAME``) and torch's random states (``random.cpu``, ``random.cuda``). Its metadata
    hold, as JSON, the :class:`Position` and what the training is made of, and the SHA-256 checksum
    of the whole file. The file does not hold buffers that are missing from the ``state_dict()``,
    nor the states of Python's and NumPy's generators.

    Arguments:
        path: The path of the file.
        model: The model to save and restore.
        optimizer: The optimizer to save and restore.
        training: What else the training is made of, by name, as values that JSON holds. A file
            with other values does not fit this training.
        epochs: The number of epochs of the training.
        batches: The number of steps in an epoch.

    Raises:
        ImportError: safetensors is not installed.
        ValueError: No file can be written to this path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        training: Mapping[str, object],
        *,
        epochs: int,
        batches: int,
    ) -> None:
        try:
            import safetensors  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "a checkpoint needs safetensors: pip install 'infoprobe[train]', or "
                "checkpoint=None."
            ) from error
        self.path: Path = files.as_path(path, "checkpoint")
        files.require_writable(self.path, "checkpoint")
        self.model = model
        self.optimizer = optimizer
        self.epochs: int = epochs
        self.batches: int = batches
        training = {"model": _described(model), **training}
        # In the form in which JSON gives it back: with lists for tuples, ints for NumPy's.
        self.training: dict[str, object] = json.loads(json.dumps(training, default=operator.index))
        self.saved: float = time.monotonic()

    def start(self) -> Position:
        """Restores the training from the file, or writes the file if there is none.

        The file is written at once so that a path that cannot be written is noticed early.

        Returns:
            The position from which the training goes on.

        Raises:
            ValueError: The file is damaged, or of another training; the message says how the two
                differ.
        """
        if self.path.exists():
            return self._load()
        self.save(Position())
        return Position()

    def is_due(self) -> bool:
        """Returns whether the last write is so long ago that another is due."""
        return time.monotonic() - self.saved >= _SECONDS

    def save(self, position: Position) -> None:
        """Writes the file. The previous file stays until the new one is complete."""
        from safetensors.torch import save

        device = _device(self.model)
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        tensors |= {f"adam.{i}.{name}": x for i, name, x in self._moments()}
        tensors["random.cpu"] = torch.get_rng_state()
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        # Cloned, because the format stores neither tied weights nor views.
        tensors = {
            name: x.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, x in tensors.items()
        }
        content = {"training": self.training, "position": asdict(position)}
        data = save(tensors, {"infoprobe": json.dumps(content), "sha256": _NO_CHECKSUM})
        files.write(self.path, _sealed(data), "checkpoint")
        self.saved = time.monotonic()

    def _load(self) -> Position:
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = files.read(self.path, "checkpoint")
        try:
            tensors = load(data)
            metadata = json.loads(_header(data)).get("__metadata__", {})
        except (SafetensorError, ValueError, RecursionError) as error:
            raise self._damaged(f"or is not a safetensors file ({error})") from error
        if "infoprobe" not in metadata:
            raise ArgumentValueError(
                "checkpoint",
                f"{self.path} holds tensors, but was not written by fit. Pass another path. To "
                "continue from these weights, load them into the model before training.",
            )
        if "sha256" not in metadata:
            raise self._damaged("or was written by an earlier version, without a checksum")
        if data != _sealed(data):
            raise self._damaged("since its checksum is that of other content")
        try:
            content = json.loads(metadata["infoprobe"])
            training, position = dict(content["training"]), content["position"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged(f"since its metadata lack {error}") from error
        self._require_same_training(training)
        found = self._position(position)
        self._require_fitting(tensors)
        self._restore(tensors)
        return found

    def _damaged(self, why: str) -> ArgumentValueError:
        return ArgumentValueError("checkpoint", f"{self.path} is damaged, {why}. {_WAY_OUT}")

    def _position(self, position: object) -> Position:
        """The position in the file, if this training can have come there."""
        fields = {"epoch", "step", "total", "history"}
        if isinstance(position, dict) and position.keys() == fields:
            found = Position(**position)
            numbers = found.history if isinstance(found.history, list) else [None]
            if (
                type(found.epoch) is type(found.step) is int
                and found.epoch >= 0
                and 0 <= found.step < self.batches
                and all(type(x) is float and math.isfinite(x) for x in (found.total, *numbers))
                and len(numbers) == found.epoch
            ):
                if (found.epoch, found.step) > (self.epochs, 0):
                    raise ArgumentValueError(
                        "checkpoint",
                        f"{self.path} is of a training that has done {found.epoch} epochs and "
                        f"{found.step} steps, and {self.epochs} epochs are asked for. Pass as "
                        "many or more to continue it, or another path to train from the start.",
                    )
                return found
        raise self._damaged(
            f"since a training of epochs with {self.batches} steps each has no "
            f"position {str(position)[:200]}"
        )

    def _require_fitting(self, tensors: dict[str, Tensor]) -> None:
        """Raises unless the tensors have the names, shapes and dtypes of this training."""
        expected = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        expected["random.cpu"] = torch.get_rng_state()
        if "random.cuda" in tensors:
            expected["random.cuda"] = tensors["random.cuda"]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for i, parameter in enumerate(parameters):
            names = {name: f"adam.{i}.{name}" for name in sorted(_MOMENTS)}
            # A parameter that never had a gradient has no moments.
            if any(name in tensors for name in names.values()):
                expected |= {
                    full: torch.zeros((), device="cpu") if name == "step" else parameter
                    for name, full in names.items()
                }
        if differing := sorted(expected.keys() ^ tensors.keys()):
            name = differing[0]
            raise self._damaged(
                f"since it {'holds' if name in tensors else 'lacks'} the tensor {name!r}, unlike "
                "what this training writes"
            )
        for name, x in expected.items():
            there, here = (f"{tuple(t.shape)}, {t.dtype}" for t in (tensors[name], x))
            if there != here:
                raise self._damaged(f"since its tensor {name!r} is {there} instead of {here}")

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        weights, states = {}, dict[int, dict[str, Tensor]]()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, x in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = x
            elif kind == "adam":
                i, _, key = rest.partition(".")
                parameter = parameters[int(i)]
                # In the memory format of its parameter, since another one may change the bits.
                if x.shape == parameter.shape:
                    x = torch.empty_like(parameter, dtype=x.dtype, requires_grad=False).copy_(x)
                states.setdefault(int(i), {})[key] = x
        self.model.load_state_dict(weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        torch.set_rng_state(tensors["random.cpu"])
        device = _device(self.model)
        if device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], device)

    def _moments(self) -> Iterator[tuple[int, str, Tensor]]:
        for i, state in self.optimizer.state_dict()["state"].items():
            for name, x in state.items():
                yield i, name, x

    def _require_same_training(self, saved: Mapping[str, object]) -> None:
        here: object
        for name, here in self.training.items():
            there = saved.get(name)
            if there == here:
                continue
            if isinstance(here, list) and isinstance(there, list):
                lines = zip([*there, "nothing"], [*here, "nothing"], strict=False)
                there, here = next(pair for pair in lines if pair[0] != pair[1])
            raise ArgumentValueError(
                "checkpoint",
                f"{self.path} is of a training with another {name}: there {there}, here {here}. "
                "Pass what that training began with to continue it, or another path to train from "
                "the start.",
            )


def _header(data: bytes) -> bytes:
    """The JSON at the start of a safetensors file, behind its length in 8 bytes."""
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def _sealed(data: bytes) -> bytes:
    """The file with the checksum that belongs to its content."""
    found = _CHECKSUM.search(_header(data))
    if found is None:
        return b""
    start, end = (8 + i for i in found.span(1))
    checksum = hashlib.sha256(data[:start] + _NO_CHECKSUM.encode())
    checksum.update(memoryview(data)[end:])
    return b"".join([data[:start], checksum.hexdigest().encode(), data[end:]])


def _described(model: nn.Module) -> list[str]:
    parameters = model.named_parameters(remove_duplicate=False)
    trained = {name for name, parameter in parameters if parameter.requires_grad}
    weights = [
        f"{name}: {tuple(x.shape)}, {x.dtype}, {'trained' if name in trained else 'not trained'}"
        for name, x in model.state_dict().items()
    ]
    return [*repr(model).splitlines(), *weights]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
