"""Checkpoints: a training that was killed continues from its file as if never interrupted."""

from __future__ import annotations

import json
import operator
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from infoprobe.errors import ArgumentValueError

# Seconds between two writes: about what a killed training loses. A write takes far less time.
_SECONDS = 60.0


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
    hold, as JSON, the :class:`Position` and what the training is made of. The file does not hold
    buffers that are missing from the ``state_dict()``, nor the states of Python's and NumPy's
    generators.

    Arguments:
        path: The path of the file.
        model: The model to save and restore.
        optimizer: The optimizer to save and restore.
        training: What else the training is made of, by name, as values that JSON holds. A file
            with other values does not fit this training.

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
    ) -> None:
        try:
            import safetensors  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "a checkpoint needs safetensors: pip install 'infoprobe[train]', or "
                "checkpoint=None."
            ) from error
        self.path = Path(path)
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise ArgumentValueError(
                "checkpoint",
                "expected the path of a file in a folder that exists, got "
                f"{str(path)!r}. Create the folder, or pass another path.",
            )
        self.model = model
        self.optimizer = optimizer
        training = {"model": _described(model), **training}
        # In the form in which JSON gives it back: with lists for tuples, ints for NumPy's.
        self.training: dict[str, object] = json.loads(json.dumps(training, default=operator.index))
        self.saved = time.monotonic()

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
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("wb") as file:
            file.write(save(tensors, {"infoprobe": json.dumps(content)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        self.saved = time.monotonic()

    def _load(self) -> Position:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ArgumentValueError(
                "checkpoint",
                f"{self.path} is damaged, or is not a safetensors file ({error}). Delete it "
                "to train from the start, or pass another path.",
            ) from error
        if "infoprobe" not in metadata:
            raise ArgumentValueError(
                "checkpoint",
                f"{self.path} holds tensors, but was not written by fit. Pass another path. To "
                "continue from these weights, load them into the model before training.",
            )
        content = json.loads(metadata["infoprobe"])
        self._require_same_training(content["training"])
        self._restore(tensors)
        return Position(**content["position"])

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


def fingerprint(images: Tensor) -> int:
    """Returns a checksum of images that is the same in every run."""
    return zlib.crc32(images.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())


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
